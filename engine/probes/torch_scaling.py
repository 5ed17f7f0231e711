"""What a gradient scaler does around a step, seen through its own methods: scale, unscale_, step and update."""

import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engine.probes.patches import Patches

_REMEMBERED = 8
"""Scaled losses that may wait for their backward pass at one time."""


class Reading:
    """Numbers that lie on devices, fetched together: one wait for a GPU, however many there are."""

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._values: list[list[float]] = []

    def add(self, tensor: Tensor) -> int:
        """Take a tensor of numbers along; return the index to ask ``values`` for."""
        self._tensors.append(tensor.detach().reshape(-1))
        return len(self._tensors) - 1

    def fetch(self) -> None:
        away = [i for i, tensor in enumerate(self._tensors) if tensor.device.type != "cpu"]
        self._values = [[] if i in away else tensor.tolist() for i, tensor in enumerate(self._tensors)]
        if away:
            home = self._tensors[away[0]].device
            flat = torch.cat([self._tensors[i].to(home, torch.float64, non_blocking=True) for i in away]).tolist()
            for i in away:
                size = self._tensors[i].numel()
                self._values[i], flat = flat[:size], flat[size:]

    def values(self, index: int) -> list[float]:
        return self._values[index]

    def value(self, index: int | None) -> float | None:
        return None if index is None else self._values[index][0]


class Scaling:
    """Follows one ``torch.amp.GradScaler``, or nothing where the loop has none."""

    def __init__(self, scaler: Any) -> None:
        self.scaler = scaler
        self._losses: list[tuple[weakref.ref[Tensor], Tensor]] = []
        self._in_use = False  # whether anything was scaled since the last update
        self._unscaled: set[int] = set()
        self._reached: set[int] = set()
        self._at_update: list[Callable[[], None]] = []

    def install(self, patches: Patches, left_out: Callable[[torch.optim.Optimizer], None]) -> None:
        """Wrap the scaler's methods; ``left_out`` is told of each optimizer whose step the scaler did not call."""
        if self.scaler is None:
            return

        def scale(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def scaled(outputs: Any) -> Any:
                result = original(outputs)
                if patches.active and self.enabled and isinstance(result, Tensor):
                    self._in_use = True
                    self._losses = [*self._losses[1 - _REMEMBERED :], (weakref.ref(result), outputs.detach())]
                return result

            return scaled

        def unscale(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def unscaled(optimizer: torch.optim.Optimizer) -> None:
                original(optimizer)
                if patches.active and self.enabled:
                    self._unscaled.add(id(optimizer))

            return unscaled

        def step(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def stepped(optimizer: torch.optim.Optimizer, *args: Any, **kwargs: Any) -> Any:
                self._reached.discard(id(optimizer))
                result = original(optimizer, *args, **kwargs)
                if patches.active and self.enabled and id(optimizer) not in self._reached:
                    left_out(optimizer)
                return result

            return stepped

        def update(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def updated(*args: Any, **kwargs: Any) -> None:
                original(*args, **kwargs)
                self._updated()

            return updated

        for name, wrap in (("scale", scale), ("unscale_", unscale), ("step", step), ("update", update)):
            patches.replace(self.scaler, name, wrap)

    @property
    def enabled(self) -> bool:
        return self.scaler is not None and bool(self.scaler.is_enabled())

    @property
    def under_way(self) -> bool:
        """Whether gradients may hold the factor now: something was scaled since the scaler's last update."""
        return self.enabled and self._in_use

    def reached(self, optimizer: torch.optim.Optimizer) -> None:
        """Note that the optimizer's step was called."""
        self._reached.add(id(optimizer))

    def in_gradients(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimizer's gradients still hold the factor."""
        return self.under_way and id(optimizer) not in self._unscaled

    def factor(self) -> Tensor | None:
        """Return the factor as it is now, without waiting for a device; None where none guards the update."""
        if not self.enabled:
            return None
        factor = self.scaler._get_scale_async() if hasattr(self.scaler, "_get_scale_async") else None
        return torch.tensor(float(self.scaler.get_scale())) if factor is None else factor

    def unscaled_loss(self, loss: Tensor) -> Tensor:
        """Return what a loss was before the scaler's factor came into it."""
        for reference, original in self._losses:
            if reference() is loss:
                return original
        factor = self.factor() if self._losses else None
        return loss.detach() if factor is None else loss.detach() / factor.to(loss.device)

    def differentiated(self) -> None:
        """Note that a backward pass has begun: the losses scaled before it are through."""
        self._losses = [(reference, original) for reference, original in self._losses if reference() is not None]

    def at_update(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once, after the scaler's next update."""
        self._at_update.append(callback)

    def _updated(self) -> None:
        self._in_use = False
        self._losses.clear()
        self._unscaled.clear()
        waiting, self._at_update = self._at_update, []
        for callback in waiting:
            callback()
