"""How large an accumulated gradient is, told from the factors on its losses: the same as when it is measured."""

import copy
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.schema import VitModel, VitOptimizer
from engine.probes.torch import TorchProbe
from engine.probes.torch_accumulation import _KEY
from engine.workloads.vit import train
from norms.judge import Judge
from norms.norm import Regime
from tests.engine.torch_runs import Loop, Recorder, batches

Loss = Callable[[Tensor, Tensor], Tensor]
Part = tuple[Tensor, Tensor]
CROSS_ENTROPY = nn.CrossEntropyLoss()


def perceptron() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))


def norm_of(model: nn.Module) -> Tensor:
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def parts_of(*sizes: int) -> list[Part]:
    return [batch for size in sizes for batch in batches(1, size)]


class Accumulating:
    """A loop that makes an update of all parts it is given."""

    def __init__(self, loss_of: Loss = CROSS_ENTROPY, scaler: Any = None) -> None:
        self.model = perceptron()
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.loss_of = loss_of
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.sink = Recorder()

    def probe(self) -> TorchProbe:
        return TorchProbe(self.model, [self.optimizer], sink=self.sink, scaler=self.scaler)

    def update(self, parts: Sequence[Part], factors: Sequence[float]) -> float | None:
        """Return the ratio that the probe tells."""
        self.optimizer.zero_grad()
        for (x, y), factor in zip(parts, factors, strict=True):
            self.scaler.scale(self.loss_of(self.model(x), y) * factor).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return self.sink.steps[-1].accumulated_ratio

    def measured(self, parts: Sequence[Part], factors: Sequence[float]) -> float:
        """Return the norm of the accumulated gradient over that of one batch, from backward passes of their own."""
        model = copy.deepcopy(self.model)
        for (x, y), factor in zip(parts, factors, strict=True):
            (self.loss_of(model(x), y) * factor).backward()  # type: ignore[no-untyped-call]
        accumulated = norm_of(model)
        model.zero_grad()
        x, y = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
        self.loss_of(model(x), y).backward()  # type: ignore[no-untyped-call]
        return (accumulated / norm_of(model)).item()


LOSSES: dict[str, Loss] = {
    "cross_entropy": CROSS_ENTROPY,
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.1),
    "nll": lambda out, y: F.nll_loss(out.log_softmax(1), y, reduction="mean"),
    "mse": lambda out, y: F.mse_loss(out, F.one_hot(y, 4).float()),
    "logits": lambda out, y: F.binary_cross_entropy_with_logits(out, F.one_hot(y, 4).float()),
    "huber": lambda out, y: F.huber_loss(out[:, 0], y.float()),
}


@pytest.mark.parametrize("scaled", [False, True], ids=["", "scaled"])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(("parts", "factor"), [(2, 1.0), (4, 1.0), (4, 0.25), (3, 1 / 3), (4, 1 / 16), (4, 0.5)])
def test_of_equal_parts_the_ratio_is_that_of_the_norms(name: str, parts: int, factor: float, scaled: bool) -> None:
    loop = Accumulating(LOSSES[name], torch.amp.GradScaler("cpu", init_scale=1024.0) if scaled else None)
    data, factors = batches(parts), [factor] * parts
    expected = loop.measured(data, factors)
    with loop.probe():
        assert loop.update(data, factors) == pytest.approx(expected, rel=1e-4)
    assert expected == pytest.approx(factor * parts, rel=1e-4)


def padded(*lengths: int) -> list[Part]:
    """Return parts of 16 tokens, of which so many have a target."""
    parts = batches(len(lengths))
    return [(x, torch.where(torch.arange(16) < kept, y, -100)) for (x, y), kept in zip(parts, lengths, strict=True)]


@pytest.mark.parametrize("wrong", [1.0, 0.5])
def test_of_parts_weighted_by_their_tokens_it_is_exact(wrong: float) -> None:
    parts = padded(16, 5, 9)
    factors = [wrong * n / 30 for n in (16, 5, 9)]
    loop = Accumulating()
    expected = loop.measured(parts, factors)
    with loop.probe():
        assert loop.update(parts, factors) == pytest.approx(expected, rel=1e-4)


def test_of_unequal_parts_that_count_alike_it_is_the_factor_on_the_average() -> None:
    """What a mean of means does to single tokens is not seen, and nothing else is claimed."""
    parts, loop = padded(16, 2), Accumulating()
    assert abs(loop.measured(parts, [0.5, 0.5]) - 1) > 0.1
    with loop.probe():
        assert loop.update(parts, [0.5, 0.5]) == pytest.approx(1)
        assert loop.update(parts, [1, 1]) == pytest.approx(2)


def test_what_is_left_of_an_epoch_may_be_divided_as_what_is_full() -> None:
    loop = Accumulating()
    with loop.probe():
        assert loop.update(parts_of(16, 16, 16, 16), [0.25] * 4) == pytest.approx(1)
        assert loop.update(parts_of(16, 16), [0.25] * 2) is None
        assert loop.update(parts_of(16, 5), [0.25] * 2) is None
        assert loop.update(parts_of(16, 16, 16, 8), [16 / 64] * 3 + [8 / 64]) is None
        assert loop.update(parts_of(16, 16, 16, 8), [0.25] * 4) == pytest.approx(1)
        assert loop.update(parts_of(16, 8), [16 / 24, 8 / 24]) == pytest.approx(1)
        assert loop.update(parts_of(16, 16), [1, 1]) == pytest.approx(2)
        assert loop.update(parts_of(16), [1]) is None


def test_a_loss_divided_in_place_was_still_divided() -> None:
    loop = Accumulating()
    with loop.probe():
        for x, y in batches(4):
            loss = F.cross_entropy(loop.model(x), y)
            loss /= 4
            loss.backward()  # type: ignore[no-untyped-call]
        loop.optimizer.step()
    assert loop.sink.steps[0].accumulated_ratio == pytest.approx(1)


# --- what is not the parts of one batch -------------------------------------------------------------------------------


def penalised(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        penalty = torch.stack([p.square().sum() for p in model.parameters()]).sum()
        (F.cross_entropy(model(x), y) + 1e-6 * penalty).backward()


def mixed(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        out = model(x)
        (0.3 * F.cross_entropy(out, y) + 0.7 * F.cross_entropy(out, y.flip(0))).backward()  # type: ignore[no-untyped-call]


def summed(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        (F.cross_entropy(model(x), y, reduction="sum") / len(x)).backward()  # type: ignore[no-untyped-call]


def by_hand(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        (-model(x).log_softmax(1).gather(1, y[:, None])).mean().backward()


def weighted(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        (10 / len(parts) * F.cross_entropy(model(x), y)).backward()  # type: ignore[no-untyped-call]


def of_varying_weight(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for i, (x, y) in enumerate(parts, 1):
        (F.cross_entropy(model(x), y) / i).backward()  # type: ignore[no-untyped-call]


def learned_weight(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        (F.cross_entropy(model(x), y) * model[0].bias.sum().exp()).backward()  # type: ignore[operator]


def two_terms(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        out = model(x)
        F.cross_entropy(out, y).backward(retain_graph=True)  # type: ignore[no-untyped-call]
        F.cross_entropy(out, y.flip(0)).backward()  # type: ignore[no-untyped-call]


def two_tasks(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for i, (x, y) in enumerate(parts):
        out = model(x)
        loss = F.cross_entropy(out, y) if i else F.mse_loss(out, F.one_hot(y, 4).float())
        loss.backward()  # type: ignore[no-untyped-call]


def two_heads(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for i, (x, y) in enumerate(parts):
        F.cross_entropy(model(x)[:, : 4 - i], y.clamp(max=3 - i)).backward()  # type: ignore[no-untyped-call]


def two_views(model: nn.Sequential, parts: Sequence[Part]) -> None:
    _, y = parts[0]
    for x, _ in parts:
        F.cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]


def compared(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, _ in parts:
        F.mse_loss(model(x), model(x.flip(1)).detach()).backward()  # type: ignore[no-untyped-call]


def attacked(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        F.cross_entropy(model(x.clone().requires_grad_()), y).backward()  # type: ignore[no-untyped-call]


def real_and_fake(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for (x, _), label in zip(parts, (0.0, 1.0), strict=True):
        target = torch.full((len(x), 1), label)
        F.binary_cross_entropy_with_logits(model(x)[:, :1], target).backward()  # type: ignore[no-untyped-call]


def nothing_to_predict(model: nn.Sequential, parts: Sequence[Part]) -> None:
    for x, y in parts:
        F.cross_entropy(model(x), torch.full_like(y, -100)).backward()  # type: ignore[no-untyped-call]


def compiled(model: nn.Sequential, parts: Sequence[Part]) -> None:
    @torch.compile(backend="eager", fullgraph=True)
    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(model(x), y)

    for x, y in parts:
        loss_of(x, y).backward()  # type: ignore[no-untyped-call]
    torch.compiler.reset()


NO_PARTS = (
    penalised, mixed, summed, by_hand, weighted, of_varying_weight, learned_weight, two_terms, two_tasks, two_heads,
    two_views, compared, attacked, real_and_fake, nothing_to_predict, compiled,
)  # fmt: skip


@pytest.mark.parametrize("backward", NO_PARTS, ids=lambda item: item.__name__)
def test_of_what_is_no_part_of_one_batch_nothing_is_told(
    backward: Callable[[nn.Sequential, Sequence[Part]], None],
) -> None:
    loop = Accumulating()
    with loop.probe():
        backward(loop.model, batches(2))
        loop.optimizer.step()
    (step,) = loop.sink.steps
    assert step.grad_norm is not None
    assert step.accumulated_ratio is None


def test_of_one_of_two_adversaries_nothing_is_told() -> None:
    torch.manual_seed(0)
    parts = nn.ModuleDict({"generator": nn.Linear(4, 10), "critic": nn.Linear(10, 1)})
    generator, critic = parts["generator"], parts["critic"]
    optimizers = [torch.optim.Adam(part.parameters(), 1e-3) for part in (generator, critic)]
    sink = Recorder()
    with TorchProbe(parts, optimizers, sink=sink):
        for x, _ in batches(3):
            with torch.no_grad():
                made = generator(torch.randn(16, 4))
            for side, target in ((x, torch.rand(16, 1)), (made, torch.rand(16, 1))):  # labels that are not sharp
                F.binary_cross_entropy_with_logits(critic(side), target).backward()  # type: ignore[no-untyped-call]
            optimizers[1].step()
            optimizers[1].zero_grad()
    assert [step.accumulated_ratio for step in sink.steps] == [None] * 3


# --- healthy loops, and what it costs ---------------------------------------------------------------------------------


def vit_steps(parts: int, dtype: torch.dtype, by_samples: bool) -> list[Any]:
    """Train on 60 images in batches of 24: the last holds 12, and its parts may be uneven."""
    torch.manual_seed(0)
    model = train.ViT(VitModel(patch=2, dim=32, depth=2, heads=2, dropout=0.1), (8, 8, 1), 10)
    optimizers = train.optimizers_of(model, VitOptimizer(name="muon"), torch.device("cpu"))
    guard = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled=dtype is torch.float16)
    images, labels = torch.randn(60, 8, 8, 1), torch.randint(0, 10, (60,))
    sink, size = Recorder(), -(-24 // parts)
    with TorchProbe(model, optimizers, sink=sink, scaler=guard):
        for _ in range(3):
            for rows in torch.split(torch.randperm(60), 24):
                micro = torch.split(rows, size if len(rows) == 24 else size - 1)
                for part in micro:
                    with torch.autocast("cpu", dtype):
                        logits = model(images[part])
                    loss = F.cross_entropy(logits.float(), labels[part], label_smoothing=0.1)
                    loss = loss * (len(part) / len(rows)) if by_samples else loss / len(micro)
                    guard.scale(loss).backward()  # type: ignore[no-untyped-call]
                for optimizer in optimizers:
                    guard.step(optimizer)
                    optimizer.zero_grad()
                guard.update()
                sink.next_step += 1
    return sink.steps


@pytest.mark.parametrize("by_samples", [False, True], ids=["by parts", "by samples"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_no_regime_objects_to_a_vit_that_accumulates(parts: int, dtype: torch.dtype, by_samples: bool) -> None:
    steps = vit_steps(parts, dtype, by_samples)
    assert [step.accumulated_ratio for step in steps] == pytest.approx([1.0] * 9, abs=1e-4)
    regimes: tuple[Regime, ...] = ("strict", "balanced", "exploratory")
    for regime in regimes:
        judge = Judge(regime)
        found = [violation for step in steps for violation in judge.feed(step).violations]
        assert [violation.message for violation in found if violation.norm == "grad-scale"] == []


def test_where_nothing_accumulates_nothing_is_noted_once_the_first_updates_are_done() -> None:
    loop, noted = Loop(), []

    def loss_of(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(loop.model(x), y)
        assert loss.grad_fn is not None
        noted.append(_KEY in loss.grad_fn.metadata)  # type: ignore[operator]
        return loss

    loop.loss_of = loss_of  # type: ignore[method-assign]
    with loop.probe():
        loop.run(5)
        assert noted == [True] * 3 + [False] * 2
        loop.accumulate = 2
        loop.run(2)
    assert noted[5:] == [False, False, True, True]
    assert [step.accumulated_ratio for step in loop.sink.steps[5:]] == [None, pytest.approx(1)]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu_accumulating_waits_for_the_device_no_more_often() -> None:
    model = perceptron().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=False)
    data = [(x.cuda(), y.cuda()) for x, y in batches(40)]
    sink = Recorder()
    with TorchProbe(model, [optimizer], sink=sink, scaler=scaler):
        for first, second in list(pairwise(data))[::2]:
            with torch.profiler.profile() as profile:
                for x, y in (first, second):
                    (F.cross_entropy(model(x), y) / 2).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            optimizer.zero_grad()
            sink.next_step += 1
            waits = [event for event in profile.events() if "Memcpy DtoH" in event.name]
            assert len(waits) <= 1
    assert [step.accumulated_ratio for step in sink.steps] == pytest.approx([1.0] * 20)
