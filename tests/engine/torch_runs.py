"""Small real training loops to put a probe under, each returning its losses."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.probes.torch import Declared, TorchProbe
from norms.signals import Step, Update


@dataclass
class Recorder:
    """A sink that keeps what it is told, and may act before an update."""

    next_step: int = 1
    epoch: float | None = 0.5
    steps: list[Step] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    before: Callable[[Step], None] = lambda signal: None

    def before_update(self, signal: Step) -> None:
        self.steps.append(signal)
        self.before(signal)

    def after_update(self, signal: Update) -> None:
        self.updates.append(signal)


def mlp(dropout: float = 0.2) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(10, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(32, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


def batches(count: int, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.randn(size, 10, generator=generator), torch.randint(0, 4, (size,), generator=generator))
        for _ in range(count)
    ]


class Loop:
    """A model with its optimizer, trained step by step as a plain script would."""

    def __init__(
        self,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        scaler: Any = None,
        dtype: torch.dtype | None = None,
        accumulate: int = 1,
        clip: float | None = None,
        unscale: bool = True,
    ) -> None:
        self.model = mlp() if model is None else model
        self.optimizer = optimizer or torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
        self.dtype = dtype
        self.accumulate = accumulate
        self.clip = clip
        self.unscale = unscale
        self.sink = Recorder()
        self.losses: list[float] = []

    def probe(self, declared: Declared | None = None, scheduler: Any = None) -> TorchProbe:
        return TorchProbe(
            self.model,
            [self.optimizer],
            sink=self.sink,
            scaler=self.scaler,
            scheduler=scheduler,
            declared=declared or Declared(),
        )

    def loss_of(self, x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", self.dtype, enabled=self.dtype is not None):
            return F.cross_entropy(self.model(x).float(), y)

    def step(self, x: Tensor, y: Tensor) -> None:
        total = 0.0
        for part, targets in zip(x.chunk(self.accumulate), y.chunk(self.accumulate), strict=True):
            loss = self.loss_of(part, targets) / self.accumulate
            self.scaler.scale(loss).backward()
            total += loss.item()
        self.losses.append(total)
        if self.clip is not None:
            if self.unscale:
                self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        self.sink.next_step += 1

    def run(self, steps: int) -> list[float]:
        for x, y in batches(steps):
            self.step(x, y)
        return self.losses
