"""What is handed to torch's loss functions."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engine.probes.patches import Patches
from engine.probes.torch_accumulation import Accumulation, note_mean
from engine.probes.torch_modules import unseen
from engine.probes.torch_scaling import Reading
from norms.signals import LossInput

FUNCTIONS = (
    "cross_entropy",
    "nll_loss",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "mse_loss",
    "l1_loss",
    "smooth_l1_loss",
    "huber_loss",
)
_PARAMETERS = {name: tuple(inspect.signature(getattr(torch.nn.functional, name)).parameters) for name in FUNCTIONS}
_AT_MOST = 8
"""Distinct calls that are kept of one update."""


class LossInputs:
    """Wraps the loss functions of torch.nn.functional, and looks at their inputs while ``looking``."""

    def __init__(self) -> None:
        self.looking = False
        self.accumulation = Accumulation()
        self._calls: dict[tuple[str, tuple[int, ...], tuple[int, ...]], Tensor] = {}

    def install(self, patches: Patches) -> None:
        for name in FUNCTIONS:
            patches.replace(torch.nn.functional, name, functools.partial(self._wrap, name, patches))

    def _wrap(self, name: str, patches: Patches, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def loss_function(*args: Any, **kwargs: Any) -> Tensor:
            if torch.compiler.is_compiling():  # first of all, so that a trace holds nothing of ours
                return original(*args, **kwargs)
            if not (self.looking or self.accumulation.met) or not patches.active or unseen():
                return original(*args, **kwargs)
            given = dict(zip(_PARAMETERS[name], args, strict=False)) | kwargs
            if self.looking:
                self._look(name, given.get("input"), given.get("target"))
            loss = original(*args, **kwargs)
            note_mean(name, given, loss)
            return loss

        return loss_function

    @torch.no_grad()
    def _look(self, name: str, inputs: Any, target: Any) -> None:
        if not (isinstance(inputs, Tensor) and isinstance(target, Tensor) and inputs.requires_grad and inputs.numel()):
            return
        key = (name, tuple(inputs.shape), tuple(target.shape))
        if key in self._calls or len(self._calls) >= _AT_MOST:
            return
        values = inputs.detach().float()
        rows = values.sum(1 if values.ndim > 1 else 0)
        self._calls[key] = torch.stack([rows.min(), rows.max(), values.min(), values.max()])

    def read(self, reading: Reading) -> Callable[[], tuple[LossInput, ...] | None]:
        """Have what was seen read, and forget it; the callable gives None where no loss function was seen."""
        calls = [(*key, reading.add(values)) for key, values in self._calls.items()]
        self._calls.clear()

        def finish() -> tuple[LossInput, ...] | None:
            found = []
            for name, input_shape, target_shape, index in calls:
                low, high, lowest, highest = reading.values(index)
                found.append(
                    LossInput(
                        function=name,
                        input_shape=input_shape,
                        target_shape=target_shape,
                        row_sums=(low, high),
                        lowest=lowest,
                        highest=highest,
                    )
                )
            return tuple(found) or None

        return finish
