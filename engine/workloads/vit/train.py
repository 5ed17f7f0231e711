"""A vision transformer for small images: the model, and the loop that trains it, from top to bottom.

What makes it quick on a CPU: bf16 where the processor computes in it, attention written out (the CPU's fused kernel has
a backward pass that is three times slower in bf16), a residual stream in bf16, images resident as bytes and augmented a
batch at a time. On a GPU: the fused attention, a compiled forward and backward pass in CUDA graphs, fused optimizers,
and no wait for the device between two records.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from configs.errors import ConfigError
from configs.schema import Amp, Scheduler, VitConfig, VitModel, VitOptimizer
from engine import injections, reports
from engine.checkpoints import Kind, seed_all
from engine.datasets import images
from engine.predictions import Evaluated
from engine.watch import RolledBack, RunStopped, Watch
from engine.workloads.vit.augment import Augmenter, RandomCrop, normalised
from engine.workloads.vit.evidence import Evidence
from engine.workloads.vit.muon import Muon
from engine.workloads.vit.steering import Batch, Place, judge_data
from norms.signals import Candidate, RunEnd

EVALUATION_BATCH = 512
CALIBRATION_BINS = 15


# --- the model --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Multi-head self-attention over tokens [n, tokens, dim]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(n, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        if x.is_cuda:
            y = F.scaled_dot_product_attention(q, k, v)
        else:
            y = (q * (dim // self.heads) ** -0.5 @ k.mT).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(n, tokens, dim))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each behind a norm and added to what came in.

    Only the norms have biases: those of the matrices would cost a tenth of a step on a CPU, and win no accuracy.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        layers = [nn.Linear(dim, hidden, bias=False), nn.GELU(), nn.Linear(hidden, dim, bias=False)]
        if dropout:
            layers.insert(2, nn.Dropout(dropout))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """Images, float [n, height, width, channels], to logits [n, classes]."""

    positions: Tensor

    def __init__(self, options: VitModel, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        height, width, channels = shape
        self.patch = options.patch
        self.embed = nn.Linear(channels * options.patch**2, options.dim)
        positions = sine_cosine_positions(height // options.patch, width // options.patch, options.dim)
        self.register_buffer("positions", positions, persistent=False)
        hidden = round(options.dim * options.mlp_ratio)
        self.blocks = nn.Sequential(
            *(Block(options.dim, options.heads, hidden, options.dropout) for _ in range(options.depth))
        )
        self.norm = nn.LayerNorm(options.dim)
        self.head = nn.Linear(options.dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(patches(x, self.patch))
        x = x + self.positions.to(x.dtype)  # in the dtype of the matrix products, and with it all that is added below
        return self.head(self.norm(self.blocks(x)).mean(1))  # type: ignore[no-any-return]


def patches(x: Tensor, size: int) -> Tensor:
    """Cut images [n, height, width, channels] into flat square patches [n, patches, size · size · channels]."""
    n, height, width, channels = x.shape
    x = x.view(n, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(n, -1, size * size * channels)


def sine_cosine_positions(rows: int, columns: int, dim: int) -> Tensor:
    """Return fixed positions [rows · columns, dim] of geometric wavelengths, half for the row, half for the column."""
    frequencies = 1 / 10_000 ** (torch.arange(dim // 4) / (dim // 4))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.flatten()[:, None] * frequencies for place in (y, x)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


# --- the loop ---------------------------------------------------------------------------------------------------------


def train(config: VitConfig, watch: Watch) -> dict[str, Any]:
    """Train for ``train.epochs``, validate after each, and test the weights of the best epoch once, at the end.

    Raises:
        RunStopped: The run was asked to stop; a checkpoint was saved.
        Restart: It is to be called again, from the beginning.
        NoraError: What went wrong, where, and what to do.
    """
    device = device_of(config.runtime.device)
    dtype = dtype_of(config.amp, device)
    torch.set_num_threads(config.runtime.threads or len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(config.runtime.deterministic)
    if not injections.forgets_seeds(config):
        seed_all(config.seed)

    with watch.phase("data"):
        data = images.load(config.data)
        train_rows, val_rows = images.split(data.train.labels, config.train.val_fraction, config.seed)
        labels = torch.from_numpy(data.train.labels[train_rows]).to(device)
        augment = Augmenter(
            config.augment, torch.from_numpy(data.train.images[train_rows]).to(device), labels, len(data.classes)
        )
        val = Resident(data.train.images[val_rows], data.train.labels[val_rows], augment, device)
        test = Resident(data.test.images, data.test.labels, augment, device)
    order = Order(len(train_rows), config.train.batch_size, config.seed)
    total = config.train.epochs * order.batches
    watch.begin(total, order.batches)

    model = ViT(config.model, data.shape, len(data.classes)).to(device)
    optimizers = optimizers_of(model, config.optimizer, device)
    scaler = torch.amp.GradScaler(device.type, enabled=dtype is torch.float16)
    keep = injections.plant(config, total, model, (val, test), RandomCrop(max(1, config.augment.crop)), watch)
    evidence = Evidence({"val": val, "test": test}, augment, watch)
    judge_data(data, {"train": train_rows, "val": val_rows}, [val, test], watch)

    def loss_of(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = model(x)
        return F.cross_entropy(logits.float(), targets, label_smoothing=config.train.label_smoothing), logits

    in_graphs = device.type == "cuda"
    if config.runtime.compile == "on" or (config.runtime.compile == "auto" and in_graphs):
        loss_of = torch.compile(loss_of, mode="reduce-overhead" if in_graphs else None, dynamic=False)

    batch = Batch(config.train.batch_size, watch)

    def gradients_of(x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Leave the gradients of the mean loss, found part by part; return it, and the logits."""
        mean, found = torch.zeros((), device=device), []
        for part, wanted in zip(batch.split(x), batch.split(targets), strict=True):
            if in_graphs:
                torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
            loss, logits = loss_of(part, wanted)
            loss = loss * (len(part) / len(x))
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            mean = mean + loss.detach()
            found.append(logits.detach().clone() if in_graphs else logits.detach())
        return mean, torch.cat(found)

    parameters = sum(parameter.numel() for parameter in model.parameters())
    precision = str(dtype or torch.float32).removeprefix("torch.")
    watch.log(
        "info",
        f"ViT of {parameters:,} parameters on {device} in {precision}, {torch.get_num_threads()} threads; "
        f"{len(train_rows)} training, {len(val_rows)} validation and {len(test.labels)} test images",
    )
    if dtype is torch.bfloat16 and not computes_bf16(device):
        watch.log("warning", f"amp.dtype=bf16: {device} only emulates it, slower than fp32; amp.dtype=auto avoids that")

    at = Place()
    best: Best | None = None
    scores: dict[str, float] = {}
    watch.attach(model, optimizers, scaler=scaler, place=lambda: at.state(order.seed, total), keep=keep)

    while at.epoch <= config.train.epochs:
        try:
            with watch.phase("train", at.epoch):
                model.train()
                for rows in order.epoch(at.epoch, device, after=at.batch):
                    rate = learning_rate(config.scheduler, at.step, total)
                    for optimizer in optimizers:
                        for group in optimizer.param_groups:
                            group["lr"] = group["peak_lr"] * rate
                    x, targets = augment(rows)
                    evidence.batch = x
                    if device.type == "cpu":  # elsewhere it would wait for the device
                        watch.drawn(train_rows[rows.numpy()].tolist())
                    loss, logits = gradients_of(x, targets)
                    for optimizer in optimizers:
                        scaler.unscale_(optimizer)
                    at.step += 1
                    at.batch += 1
                    if at.step % config.train.log_every == 0 or at.step == 1:
                        values = {"loss": loss.item(), "grad_norm": gradient_norm(model)} | rates(optimizers)
                        if not config.augment.mixup:
                            values["accuracy"] = (logits.argmax(1) == labels[rows]).float().mean().item()
                        if scaler.is_enabled():
                            values["loss_scale"] = scaler.get_scale()
                        watch.metrics("train", at.step, values, epoch=at.step / order.batches)
                    for optimizer in optimizers:
                        scaler.step(optimizer)
                        optimizer.zero_grad()
                    scaler.update()
                    watch.step(at.step, epoch=at.step / order.batches, samples=len(rows))
            watch.epoch(at.epoch, at.step, order_digest=order.digest(at.epoch))

            with watch.phase("validate", at.epoch):
                scores = watch.evaluate("val", at.step, at.epoch, lambda: evaluate(model, val, dtype, data.classes))
            improved = best is None or (scores["accuracy"], -scores["loss"]) > (best.accuracy, -best.loss)
            at.validated = at.epoch
            if improved:
                weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
                best = Best(at.epoch, at.step, scores["accuracy"], scores["loss"], weights)
            every = config.checkpoint.every_epochs
            if at.epoch == config.train.epochs or (every and (improved or at.epoch % every == 0)):
                kinds: list[Kind] = ["best", "last"] if improved else ["last"]
                values = {f"val/{name}": scores[name] for name in ("loss", "accuracy", "ece")}
                watch.save(at.step, at.epoch, kinds, values, best=None if best is None else best.weights)
            at.epoch, at.batch = at.epoch + 1, 0
        except RolledBack as back:
            at.go_back(back)
        except RunStopped:
            watch.save(at.step, at.step / order.batches, ["last"])
            raise

    assert best is not None
    watch.trained()
    with watch.phase("test"):
        model.load_state_dict(best.weights)
        tested = watch.evaluate("test", best.step, best.epoch, lambda: evaluate(model, test, dtype, data.classes))
    end = RunEnd(
        step=at.step,
        selected_on=("val",),
        reported_on=("test",),
        candidate=Candidate(split="test", accuracy=tested["accuracy"], ece=tested["ece"]),
    )
    reports.judge_end(watch, config, end, model=watch.best_state(), metrics={f"test/{k}": v for k, v in tested.items()})
    return {
        "steps": at.step,
        "val": scores,
        "best": {"epoch": best.epoch, "step": best.step, "accuracy": best.accuracy, "loss": best.loss},
        "test": tested,
        "model": {"parameters": parameters, "dtype": precision, "device": str(device)},
        "data": {"path": str(images.path_of(config.data)), "sha256": data.sha256},
    }


@dataclass(frozen=True)
class Best:
    """The epoch of the highest validation accuracy so far; of equals, that of the lowest loss."""

    epoch: int
    step: int
    accuracy: float
    loss: float
    weights: dict[str, Tensor]


class Order:
    """The training rows in shuffled batches; the permutation follows from seed and epoch alone."""

    def __init__(self, rows: int, batch_size: int, seed: int) -> None:
        self._rows = rows
        self._batch_size = batch_size
        self.seed = seed
        self.batches = rows // batch_size

    def epoch(self, epoch: int, device: torch.device, after: int = 0) -> Iterator[Tensor]:
        """Yield int64 [batch_size] on the device, without the first ``after`` batches of the epoch.

        The rows that fill no batch are left out until the next shuffle.
        """
        rows = torch.from_numpy(self._shuffled(epoch)).to(device)
        yield from torch.split(rows, self._batch_size)[after:]

    def digest(self, epoch: int) -> str | None:
        """Return a digest of the order of an epoch; None with one batch, where the order matters to nothing."""
        return hashlib.sha256(self._shuffled(epoch).tobytes()).hexdigest()[:16] if self.batches > 1 else None

    def _shuffled(self, epoch: int) -> NDArray[np.int64]:
        # Not torch's generator: on a CPU it reads 32 bits of its seed and ignores the rest.
        shuffled = np.random.default_rng((self.seed, epoch)).permutation(self._rows)
        return shuffled[: self.batches * self._batch_size]


class Resident:
    """Images to evaluate on, kept on the device as bytes and normalised as the training images are."""

    def __init__(self, pixels: images.Pixels, labels: images.Labels, augment: Augmenter, device: torch.device) -> None:
        self._images = torch.from_numpy(pixels).to(device)
        self._mean, self._std = augment.mean, augment.std
        self.labels = torch.from_numpy(labels)
        self.transforms: tuple[Callable[[Tensor], Tensor], ...] = ()
        """What the images go through before they are normalised."""

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the first images, uint8 [count, …]: as they are, and as the transforms leave them."""
        return self._images[:count], self._transformed(self._images[:count])

    def batches(self) -> Iterator[Tensor]:
        for part in torch.split(self._images, EVALUATION_BATCH):
            yield normalised(self._transformed(part), self._mean, self._std)

    def _transformed(self, part: Tensor) -> Tensor:
        for transform in self.transforms:
            part = transform(part)
        return part


# --- its parts --------------------------------------------------------------------------------------------------------


def device_of(name: str) -> torch.device:
    """Return the device that ``runtime.device`` names; auto takes a GPU where torch can use one.

    Raises:
        ConfigError: There is no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda" if count else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(f"runtime.device={name}: torch can use {count} CUDA devices here; use cpu or auto")
    return device


def dtype_of(amp: Amp, device: torch.device) -> torch.dtype | None:
    """Return the dtype to autocast to, or None for fp32 throughout."""
    if not amp.enabled:
        return None
    if amp.dtype == "auto":
        return torch.bfloat16 if computes_bf16(device) else None
    return {"bf16": torch.bfloat16, "fp16": torch.float16}[amp.dtype]


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies matrices in bf16; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def optimizers_of(model: ViT, options: VitOptimizer, device: torch.device) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all; vectors do not decay."""
    hidden = [parameter for parameter in model.blocks.parameters() if parameter.ndim == 2]
    muon = {id(parameter) for parameter in hidden} if options.name == "muon" else set()
    rest = [parameter for parameter in model.parameters() if id(parameter) not in muon]
    groups = [
        {"params": [parameter for parameter in rest if parameter.ndim == 2], "weight_decay": options.weight_decay},
        {"params": [parameter for parameter in rest if parameter.ndim != 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=options.lr, fused=True)]
    if muon:
        precision = torch.bfloat16 if computes_bf16(device) else torch.float32
        optimizers.append(Muon(hidden, options.muon_lr, options.weight_decay, precision))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def learning_rate(options: Scheduler, step: int, total: int) -> float:
    """Return the learning rate of the update after ``step`` others, as a share of the peak: a ramp, then a cosine."""
    warmup = round(options.warmup * total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if options.name == "constant":
        return 1.0
    progress = (step - warmup) / max(1, total - 1 - warmup)
    return options.final + (1 - options.final) * 0.5 * (1 + math.cos(math.pi * progress))


def rates(optimizers: list[torch.optim.Optimizer]) -> dict[str, float]:
    """Return the learning rate of each optimizer: AdamW's as ``lr``, Muon's as ``muon_lr``."""
    return dict(zip(("lr", "muon_lr"), (optimizer.param_groups[0]["lr"] for optimizer in optimizers), strict=False))


def gradient_norm(model: nn.Module) -> float:
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).item()


@torch.inference_mode()
def evaluate(model: ViT, part: Resident, dtype: torch.dtype | None, classes: tuple[str, ...]) -> Evaluated:
    """Find loss (without smoothing), accuracy, calibration error and the accuracy of every class, over all images."""
    model.eval()
    outputs = []
    for x in part.batches():
        with torch.autocast(x.device.type, dtype, enabled=dtype is not None):
            outputs.append(model(x).float())
    logits = torch.cat(outputs).cpu()
    right = (logits.argmax(1) == part.labels).double()
    in_class = F.one_hot(part.labels, len(classes)).double()
    by_class = zip(classes, (right @ in_class).tolist(), in_class.sum(0).tolist(), strict=True)
    scores = {
        "loss": F.cross_entropy(logits, part.labels).item(),
        "accuracy": right.mean().item(),
        "ece": calibration_error(logits.softmax(1), part.labels),
    } | {f"accuracy/{name}": count / rows for name, count, rows in by_class if rows}
    return Evaluated(scores, logits.numpy(), part.labels.numpy(), split_size=len(part.labels))


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = CALIBRATION_BINS) -> float:
    """Return the expected calibration error: how far confidence [0, 1] is from accuracy, over bins of equal width.

    Args:
        probabilities: [n, classes].
        labels: [n].
        bins: Guo et al. 2017 take 15.
    """
    confidence, predicted = probabilities.double().max(1)
    excess = confidence - (predicted == labels).double()
    index = (confidence * bins).long().clamp(0, bins - 1)
    return torch.zeros(bins, dtype=torch.float64).index_add_(0, index, excess).abs().sum().item() / len(labels)
