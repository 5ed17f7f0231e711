"""What the loop of the ViT tells the Watch of itself, and what can be changed in it while it runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.controls import Effect
from engine.datasets import images
from engine.probes.data import overlaps, random_transforms
from engine.watch import RolledBack, Watch
from norms.signals import Preflight
from sessions.events import Json

if TYPE_CHECKING:
    from engine.workloads.vit.train import Resident


@dataclass
class Place:
    """Where the loop is: the epoch that it is in and the batches of it that are done; updates, and epochs validated."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    validated: int = 0

    def state(self, seed: int, total: int) -> dict[str, dict[str, int]]:
        """Return the loop's part of a checkpoint."""
        return {
            "sampler": {"seed": seed, "epoch": self.epoch, "batch": self.batch},
            "scheduler": {"step": self.step, "total": total},
            "validation": {"epochs": self.validated},
        }

    def go_back(self, back: RolledBack) -> None:
        """Go on from an earlier update: with the batches that followed it, or with those that come next now."""
        self.step = back.step
        if back.position is None:
            return
        self.epoch, self.batch = back.position["sampler"]["epoch"], back.position["sampler"]["batch"]
        self.validated = back.position["validation"]["epochs"]
        if self.validated == self.epoch:  # the checkpoint is that of its end
            self.epoch, self.batch = self.epoch + 1, 0


class Batch:
    """The parts that a batch goes through the model in; their gradients add up to those of the whole."""

    def __init__(self, size: int, watch: Watch) -> None:
        self._size = size
        self._parts = 1
        watch.can("halve_batch", self._halve, lambda _: None if self._part > 1 else "a part is one image already")

    @property
    def _part(self) -> int:
        return -(-self._size // self._parts)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return [batch, …] in parts; the last may be smaller, so that each counts by its share."""
        return torch.split(x, self._part)

    def _halve(self, params: Json) -> Effect:
        before = self._shape()
        self._parts *= 2
        return {"before": before, "after": self._shape()}

    def _shape(self) -> Json:
        return {"batch": self._part, "accumulated": -(-self._size // self._part)}


def judge_data(
    data: images.Images, rows: dict[str, NDArray[np.int64]], evaluated: "Sequence[Resident]", watch: Watch
) -> None:
    """Have judged what the run learns from and how it evaluates; ``rows`` are those of train and val."""
    parts = {split: data.train.images[chosen] for split, chosen in rows.items()} | {"test": data.test.images}
    watch.made_of(data.sha256)
    watch.feed(Preflight(step=0, overlaps=overlaps(parts), selected_on=("val",), reported_on=("test",)))

    def swap(params: Json) -> Effect:
        before = random_transforms(evaluated)
        for part in evaluated:
            part.transforms = ()
        return {"before": {"random": list(before)}, "after": {"random": list(random_transforms(evaluated))}}

    watch.can("swap_eval_transform", swap, when="evaluation")
    watch.preflight(lambda: Preflight(step=watch.steps_done, evaluation_random=random_transforms(evaluated)))
