"""What every user's script has at its top: the digits, a small model, a loader, a loop over epochs."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from engine.datasets import images
from engine.predictions import Evaluated
from tests.norms.silent_bugs.harness import Watch

CLASSES = 10


@cache
def digits() -> tuple[TensorDataset, TensorDataset]:
    """Return 1,438 images [64] to train on, and 359 others."""
    data = images.load("digits")
    return tuple(  # type: ignore[return-value]
        TensorDataset(torch.from_numpy(part.images).view(-1, 64).float() / 255, torch.from_numpy(part.labels))
        for part in (data.train, data.test)
    )


def loader(data: Any, **options: Any) -> "DataLoader[Any]":
    return DataLoader(data, **({"batch_size": 64, "shuffle": True} | options))


def perceptron(*between: nn.Module, width: int = 32) -> nn.Sequential:
    """Return 64 → width → 10, with ReLU and whatever else behind it."""
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), *between, nn.Linear(width, CLASSES))


def batches(watch: Watch, data: Any, epochs: int, done: Callable[[int], object] = lambda epoch: None) -> Iterator[Any]:
    """Yield the batches of all epochs; tell ``watch`` of each step, and ``done`` of each epoch, when they are over."""
    step = 0
    for epoch in range(1, epochs + 1):
        for i, batch in enumerate(data, 1):
            yield batch
            step += 1
            watch.step(step, epoch - 1 + i / len(data))
        done(epoch)


def train(
    watch: Watch, model: nn.Module, optimizer: torch.optim.Optimizer, data: Any, epochs: int = 1, **more: Any
) -> None:
    """The plainest of loops, where the bug is elsewhere."""
    for x, y in batches(watch, data, epochs, **more):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@torch.no_grad()
def scored(model: Callable[[Tensor], Tensor], data: Any, split_size: int | None = None) -> Evaluated:
    """Return loss and accuracy over all batches, as they should be computed; the mode is the caller's."""
    outputs, labels = [], []
    for x, y in data:
        outputs.append(model(x))
        labels.append(y)
    logits, targets = torch.cat(outputs), torch.cat(labels)
    scores = {
        "loss": F.cross_entropy(logits, targets).item(),
        "accuracy": (logits.argmax(1) == targets).float().mean().item(),
    }
    return Evaluated(scores, logits.numpy(), targets.numpy(), split_size)
