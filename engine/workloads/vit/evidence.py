"""Pictures of what a norm found, where the images say more than figures do."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.watch import Watch
from engine.workloads.vit.augment import Augmenter
from norms.judge import Violation

if TYPE_CHECKING:
    from engine.workloads.vit.train import Resident

SHOWN, COLUMNS = 16, 8
SIDE = 64
"""Pixels that the shorter side of an image is drawn with at the least; each of its own becomes a square."""
GAP, WHITE = 2, 255


class Evidence:
    """Draws what the model got when a norm was broken. Nothing is copied or drawn before that.

    Args:
        splits: What is evaluated on, by name.
        augment: Knows how training images were normalised.
        watch: Asks for the pictures.
    """

    def __init__(self, splits: "Mapping[str, Resident]", augment: Augmenter, watch: Watch) -> None:
        self.batch: Tensor | None = None
        """The training batch that the model got last, normalised."""
        self._splits = splits
        self._augment = augment
        watch.paints("augmentation-leak", self._transformed)
        for norm in ("non-finite", "spike"):
            watch.paints(norm, self._inputs)

    def _transformed(self, violation: Violation, path: Path) -> None:
        """Draw a row of evaluation images, and below it the same ones as the transforms leave them."""
        part = self._splits.get(violation.place) or next(iter(self._splits.values()))
        with torch.random.fork_rng():  # the pictures draw from it as well, and the run must not notice
            draw(torch.cat(part.first(COLUMNS)), path)

    def _inputs(self, violation: Violation, path: Path) -> None:
        """Draw the first images of the batch that was trained on last, or of the split that was evaluated on."""
        if violation.place in self._splits:
            with torch.random.fork_rng():
                draw(self._splits[violation.place].first(SHOWN)[1], path)
        else:
            assert self.batch is not None, "no norm of an update is broken before one is trained"
            draw(self.batch[:SHOWN] * self._augment.std + self._augment.mean, path)


def draw(images: Tensor, path: Path) -> None:
    """Draw images [n, height, width, channels] of values from 0 to 255, 1 or 3 channels, as a grid into a PNG file.

    torchvision would draw it as well, but takes a second to load.
    """
    pixels = images.detach().cpu().float().nan_to_num().clamp(0, 255).byte().numpy()
    factor = max(1, -(-SIDE // min(pixels.shape[1:3])))
    pixels = pixels.repeat(factor, 1).repeat(factor, 2)
    empty = -len(pixels) % COLUMNS
    pixels = np.pad(pixels, ((0, empty), (0, 0), (0, 0), (0, 0)), constant_values=WHITE)
    pixels = np.pad(pixels, ((0, 0), (GAP, GAP), (GAP, GAP), (0, 0)), constant_values=WHITE)
    n, height, width, channels = pixels.shape
    rows = n // COLUMNS
    grid = pixels.reshape(rows, COLUMNS, height, width, channels).transpose(0, 2, 1, 3, 4)
    grid = grid.reshape(rows * height, COLUMNS * width, channels)
    Image.fromarray(grid.squeeze(2) if channels == 1 else grid).save(path, format="PNG")
