"""Thirty healthy runs, judged: what limits are set by, and how often a norm cries wolf.

``PYTHONPATH=. python tests/norms/healthy_runs.py``: some three minutes on 2 cores. Small models of several kinds learn
the digits; a bare loop measures the facts itself, so that this says something about detectors and limits alone.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from configs.load import compose
from configs.schema import VitConfig
from engine.workloads.vit.train import ViT, optimizers_of
from norms.judge import Judge
from norms.norm import REGIMES
from norms.signals import AnySignal, EpochEnd, Evaluation, LayerUnits, Preflight, Step, Unchanged, Update

CLASSES = 10


class Data(NamedTuple):
    inputs: Tensor
    targets: Tensor
    val_inputs: Tensor
    val_targets: Tensor


class Transformer(nn.Module):
    """Reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.embed(x.view(-1, 8, 8))).mean(1))


class Vision(nn.Module):
    """NORA's own vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(_vit_config().model, (8, 8, 1), CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.vit((x.view(-1, 8, 8, 1) - 0.3) / 0.37)


def _vit_config() -> VitConfig:
    config = compose(["workload=vit", "data=digits"])
    assert isinstance(config, VitConfig)
    return config


def _dense(*widths: int, between: Callable[[int], list[nn.Module]]) -> nn.Module:
    layers = [layer for a, b in zip((64, *widths), widths, strict=False) for layer in (nn.Linear(a, b), *between(b))]
    return nn.Sequential(*layers, nn.Linear(widths[-1], CLASSES))


def _convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(512, CLASSES)),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: _dense(128, 64, between=lambda _: [nn.ReLU()]),
    "batch norm": lambda: _dense(128, 64, between=lambda n: [nn.BatchNorm1d(n), nn.ReLU(), nn.Dropout(0.2)]),
    "four layers": lambda: _dense(*[64] * 4, between=lambda _: [nn.ReLU()]),
    "convolutions": _convolutions,
    "transformer": Transformer,
    "vit": Vision,
}
OPTIMIZERS: dict[str, Callable[[nn.Module], list[Optimizer]]] = {
    "sgd": lambda model: [SGD(model.parameters(), lr=0.05, momentum=0.9)],
    "adam": lambda model: [Adam(model.parameters(), lr=1e-3)],
    "adamw": lambda model: [AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)],
    "muon": lambda model: optimizers_of(model.vit, _vit_config().optimizer, torch.device("cpu")),  # type: ignore[arg-type]
}
RUNS = [
    (model, optimizer, batch, seed)
    for seed in (1, 2, 3)
    for model, optimizer, batch in (
        ("perceptron", "sgd", 32), ("perceptron", "adam", 16), ("batch norm", "adam", 32), ("batch norm", "sgd", 64),
        ("four layers", "adam", 32), ("convolutions", "sgd", 32), ("transformer", "adam", 32),
        ("transformer", "adamw", 16), ("vit", "muon", 64), ("vit", "adamw", 32),
    )
]  # fmt: skip
EPOCHS, WARMUP = 12, 50


def signals(model: nn.Module, optimizers: list[Optimizer], batch: int, data: Data) -> Iterator[AnySignal]:
    """Train, and yield what was seen."""
    per_epoch = math.ceil(len(data.inputs) / batch)
    total = EPOCHS * per_epoch
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    active: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_hook(_counting(active, name))
    yield Preflight(step=0, total_steps=total)
    step = 0
    for epoch in range(1, EPOCHS + 1):
        model.train()
        active.clear()
        for rows in torch.randperm(len(data.inputs)).split(batch):
            step += 1
            share = min(step / WARMUP, (1 + math.cos(math.pi * (step - 1) / total)) / 2)
            for optimizer, rates in zip(optimizers, peaks, strict=True):
                for group, peak in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = peak * share
                optimizer.zero_grad()
            loss = F.cross_entropy(model(data.inputs[rows]), data.targets[rows])
            loss.backward()
            yield _before(model, optimizers, step, step / per_epoch, loss.item(), len(rows))
            weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
            for optimizer in optimizers:
                optimizer.step()
            yield _after(model, optimizers, step, weights)
        units = [LayerUnits(layer=name, units=len(seen), dead=int((~seen).sum()), samples=len(data.inputs))
                 for name, seen in active.items()]  # fmt: skip
        yield EpochEnd(step=step, epoch=float(epoch), units=tuple(units) or None)
        yield _evaluation(model, data, step, float(epoch))


def _counting(active: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        if module.training:
            seen = (output > 0).transpose(0, 1).flatten(1).any(1)
            active[name] = active.get(name, torch.zeros_like(seen)) | seen

    return hook


def _matrices(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.ndim > 1]


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _before(model: nn.Module, optimizers: list[Optimizer], step: int, epoch: float, loss: float, samples: int) -> Step:
    first, *_, last = (_gradient(parameter) for _, parameter in _matrices(model))
    rms = last.square().mean().sqrt().item()
    return Step(
        step=step,
        epoch=epoch,
        loss=loss,
        samples=samples,
        grad_norm=torch.nn.utils.get_total_norm(_gradient(p) for p in model.parameters()).item(),
        lr=max(group["lr"] for optimizer in optimizers for group in optimizer.param_groups),
        non_finite=(),
        missing_grad=tuple(name for name, p in model.named_parameters() if p.grad is None),
        gradient_ratio=first.square().mean().sqrt().item() / rms if rms else math.nan,
        small_gradients=(first.abs() < 1e-3 * rms).float().mean().item(),
    )


def _after(model: nn.Module, optimizers: list[Optimizer], step: int, before: dict[str, Tensor]) -> Update:
    ratios = [
        ((parameter.detach() - before[name]).norm() / before[name].norm()).item()
        for name, parameter in _matrices(model)
        if before[name].any()
    ]
    lr = max(group["lr"] for optimizer in optimizers for group in optimizer.param_groups)
    unchanged = [
        Unchanged(name=name, lr=lr, grad_max=_gradient(p).abs().max().item(), weight_max=p.abs().max().item())
        for name, p in model.named_parameters()
        if _gradient(p).any() and torch.equal(p, before[name])
    ]
    return Update(step=step, ratio=sorted(ratios)[len(ratios) // 2], unchanged=tuple(unchanged))


@torch.no_grad()
def _evaluation(model: nn.Module, data: Data, step: int, epoch: float) -> Evaluation:
    model.eval()
    logits = model(data.val_inputs)
    predicted = logits.argmax(1)
    loss = F.cross_entropy(logits, data.val_targets).item()
    return Evaluation(
        split="val",
        step=step,
        epoch=epoch,
        loss=loss,
        cross_entropy=loss,
        accuracy=(predicted == data.val_targets).float().mean().item(),
        class_shares=_shares(data.val_targets),
        predicted_shares=_shares(predicted),
        samples=len(predicted),
    )


def _shares(classes: Tensor) -> tuple[float, ...]:
    return tuple((torch.bincount(classes, minlength=CLASSES) / len(classes)).tolist())


def _highest(judge: Judge, signal: AnySignal, highest: dict[str, float]) -> None:
    """Note the values that come nearest to a limit."""
    for reading in judge.readings():
        if reading.norm in ("spike", "update-ratio", "dead-units") and reading.value is not None:
            highest[reading.norm] = max(highest[reading.norm], reading.value)
    if isinstance(signal, Step):
        windows = judge._windows[""]
        for name, track in (("loss", windows.loss), ("gradient", windows.grad_norm)):
            if track.sigmas is not None and track.value is not None:
                highest[f"{name} / highest"] = max(highest[f"{name} / highest"], track.value / track.highest)


def main() -> None:
    torch.set_num_threads(2)
    inputs, targets = load_digits(return_X_y=True)
    images, labels = torch.tensor(inputs, dtype=torch.float32) / 16, torch.tensor(targets)
    data = Data(images[:1500], labels[:1500], images[1500:], labels[1500:])
    alarmed: Counter[str] = Counter()
    overall: dict[str, float] = defaultdict(float)
    for model_name, optimizer_name, batch, seed in RUNS:
        torch.manual_seed(seed)
        model = MODELS[model_name]()
        judges = {regime: Judge(regime) for regime in REGIMES}
        found: dict[str, list[str]] = {regime: [] for regime in REGIMES}
        highest: dict[str, float] = defaultdict(float)
        accuracy = 0.0
        for signal in signals(model, OPTIMIZERS[optimizer_name](model), batch, data):
            for regime, judge in judges.items():
                violations = judge.feed(signal).violations
                found[regime] += [f"{v.norm}: {v.message}" for v in violations if v.severity != "info"]
            _highest(judges["strict"], signal, highest)
            accuracy = signal.accuracy or 0.0 if isinstance(signal, Evaluation) else accuracy
        alarmed.update(regime for regime in REGIMES if found[regime])
        for name, value in highest.items():
            overall[name] = max(overall[name], value)
        words = ", ".join(f"{name} {value:.3g}" for name, value in highest.items())
        print(
            f"{model_name}, {optimizer_name}, {batch}, seed {seed}: accuracy {accuracy:.3f}, highest {words}",
            flush=True,
        )
        for regime in REGIMES:
            for text in found[regime]:
                print(f"  {regime}: {text}", flush=True)
    print(f"highest of all: {', '.join(f'{name} {value:.3g}' for name, value in overall.items())}")
    print(", ".join(f"{regime}: {alarmed[regime]} of {len(RUNS)} runs with an alarm" for regime in REGIMES))


if __name__ == "__main__":
    main()
