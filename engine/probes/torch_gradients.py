"""Gradients before an update: their norms, what clipping took from them, and those left from the update before."""

import functools
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from engine.probes.patches import Patches
from engine.probes.torch_modules import Held, Roster, unseen
from engine.probes.torch_scaling import Reading, Scaling
from norms.signals import Names

_SAMPLED = 4
"""Parameters that are watched for gradients from before the last update."""
CLIP_EPSILON = 1e-6
"""What torch adds to a norm before it divides by it."""


class _Clip(NamedTuple):
    """One call that clipped gradients."""

    parameters: frozenset[int]
    max_norm: float
    total: Tensor
    """The norm before it."""
    before: Tensor | None
    """Norms of each gradient before it, where it did not scale all alike."""
    order: tuple[int, ...]
    scaled: bool


class Measured(NamedTuple):
    """The gradients of one update; where to find them in a Reading."""

    held: Sequence[Held]
    """Those that have one."""
    norms: int
    clips: Sequence[tuple[_Clip, int, int | None]]


class Norms(NamedTuple):
    """The gradients of one update, unscaled and before clipping."""

    total: float
    each: dict[str, float]


class Gradients:
    """Looks at gradients without changing them."""

    def __init__(self, roster: Roster, scaling: Scaling) -> None:
        self._roster = roster
        self._scaling = scaling
        self._clips: list[_Clip] = []
        self._stale: list[tuple[str, Tensor]] = []
        self._kept: dict[int, tuple[weakref.ref[Tensor], int]] = {}
        self._looked = False
        self._handles: list[Any] = []
        self._order: list[str] = []
        self._first_hooks = 0
        self._sample: dict[int, Held] = {}

    def install(self, patches: Patches, held: Sequence[Held]) -> None:
        """Wrap torch's clipping, and hook a sample of the parameters, spread over the optimizers."""
        for owner in (torch.nn.utils, torch.nn.utils.clip_grad):
            patches.replace(owner, "clip_grad_norm_", functools.partial(self._wrap_norm, patches))
            patches.replace(owner, "clip_grad_value_", functools.partial(self._wrap_value, patches))
        trained = [item for item in held if item.parameter.requires_grad and item.parameter.is_leaf]
        spread = [trained[i * (len(trained) - 1) // max(1, _SAMPLED - 1)] for i in range(min(_SAMPLED, len(trained)))]
        self._sample = {id(item.parameter): item for item in spread}
        for item in self._sample.values():
            arrived = functools.partial(self._arrived, item)
            self._handles.append(item.parameter.register_hook(arrived))  # type: ignore[no-untyped-call]
        for item in trained:
            note = functools.partial(self._reached, item.name)
            self._handles.append(item.parameter.register_post_accumulate_grad_hook(note))  # type: ignore[no-untyped-call]
        self._first_hooks = len(self._sample)

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def sample(self) -> Sequence[Held]:
        """Some parameters, spread over the model."""
        return list(self._sample.values())

    # --- while backward runs -----------------------------------------------------------------------------------------

    def _reached(self, name: str, parameter: Tensor) -> None:
        self._order.append(name)

    def _arrived(self, item: Held, gradient: Tensor) -> None:
        """Look, before the new gradient is added to it, at what is left in a sampled parameter."""
        self._looked = True
        kept = self._kept.pop(id(item.parameter), None)
        left = item.parameter.grad
        if kept is None or left is None or kept[0]() is not left or kept[1] != left._version:
            return
        with torch.no_grad():  # unchanged since the update; by .data.zero_() it may be zero all the same
            self._stale.append((item.name, dense(left).count_nonzero()))

    def _wrap_norm(self, patches: Patches, original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @functools.wraps(original)
        def clip_grad_norm_(parameters: Any, max_norm: float, *args: Any, **kwargs: Any) -> Tensor:
            if not patches.active or unseen():
                return original(parameters, max_norm, *args, **kwargs)
            parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
            total = original(parameters, max_norm, *args, **kwargs)
            self._note_clip(parameters, float(max_norm), total, None)
            return total

        return clip_grad_norm_

    def _wrap_value(self, patches: Patches, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def clip_grad_value_(parameters: Any, clip_value: float, *args: Any, **kwargs: Any) -> None:
            if patches.active and not unseen():
                parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                if gradients:
                    norms = norms_of(gradients)
                    self._note_clip(parameters, math.inf, norms[0], norms)
            original(parameters, clip_value, *args, **kwargs)

        return clip_grad_value_

    def _note_clip(self, parameters: list[Tensor], max_norm: float, total: Tensor, before: Tensor | None) -> None:
        order = tuple(id(parameter) for parameter in parameters if parameter.grad is not None)
        ours = {id(item.parameter): item.optimizer for item in self._roster.held(self._roster.optimizers)}
        scaled = any(self._scaling.in_gradients(ours[key]) for key in order if key in ours)
        self._clips.append(_Clip(frozenset(order), max_norm, total.detach(), before, order, scaled))

    # --- before an update --------------------------------------------------------------------------------------------

    def measure(self, held: Sequence[Held], reading: Reading) -> Measured | None:
        """Have the norms of all gradients read; None where there are none."""
        held = [item for item in held if item.parameter.grad is not None]
        if not held:
            return None
        norms = reading.add(norms_of([item.parameter.grad for item in held if item.parameter.grad is not None]))
        clips = [
            (clip, reading.add(clip.total), None if clip.before is None else reading.add(clip.before))
            for clip in self._clips
        ]
        return Measured(held, norms, clips)

    def norms(self, measured: Measured, reading: Reading, factor: float | None) -> Norms:
        """Return what was read, without the scaler's factor, as it was before clipping."""
        each = {
            id(item.parameter): norm for item, norm in zip(measured.held, reading.values(measured.norms), strict=True)
        }
        for clip, total, before in reversed(measured.clips):
            if before is not None:
                each |= {key: norm for key, norm in zip(clip.order, reading.values(before), strict=True) if key in each}
                continue
            share = min(1.0, clip.max_norm / (reading.values(total)[0] + CLIP_EPSILON))
            if share < 1:
                each |= {key: norm / share if share else norm for key, norm in each.items() if key in clip.parameters}
        if factor:
            scaled = {id(optimizer) for optimizer in self._roster.optimizers if self._scaling.in_gradients(optimizer)}
            for item in measured.held:
                if id(item.optimizer) in scaled:
                    each[id(item.parameter)] /= factor
        named = {item.name: each[id(item.parameter)] for item in measured.held}
        return Norms(math.sqrt(math.fsum(norm * norm for norm in named.values())), named)

    @property
    def clipped(self) -> bool:
        return bool(self._clips)

    @property
    def clipped_scaled(self) -> bool | None:
        """Whether a scaler's factor was clipped with the gradients; None where no clipping or no scaler was seen."""
        if not self._clips or not self._scaling.enabled:
            return None
        return any(clip.scaled for clip in self._clips)

    def stale(self) -> list[tuple[str, Tensor]] | None:
        """Return parameters that kept their gradient, with how many numbers of it are not 0; None if not seen."""
        return self._stale if self._looked else None

    def in_backward_order(self, names: Sequence[str]) -> Names:
        """Sort names as backward reached them; those of which it is not known from the last to the first."""
        place = {name: i for i, name in enumerate(self._order)}
        last = len(place)
        order = sorted(enumerate(names), key=lambda item: (place.get(item[1], last), -item[0]))
        return tuple(name for _, name in order)

    # --- after it ----------------------------------------------------------------------------------------------------

    def updated(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Note what the optimizers' gradients are right after their update, and forget this step."""
        ids = {id(optimizer) for optimizer in optimizers}
        self._kept = {
            key: (weakref.ref(item.parameter.grad), item.parameter.grad._version)
            for key, item in self._sample.items()
            if id(item.optimizer) in ids and item.parameter.grad is not None
        }
        self._clips.clear()
        self._stale = []
        self._looked = False
        if self._order:  # once is enough
            for handle in self._handles[self._first_hooks :]:
                handle.remove()
            del self._handles[self._first_hooks :]


def dense(gradient: Tensor) -> Tensor:
    """Return the values of a gradient, whether it is sparse or not."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


@torch.no_grad()
def norms_of(gradients: Sequence[Tensor]) -> Tensor:
    """Return the 2-norm of each tensor, [n], in fp32 at the least, on the device of the first."""
    dtype = torch.float64 if any(gradient.dtype is torch.float64 for gradient in gradients) else torch.float32
    norms = torch._foreach_norm([dense(gradient).detach() for gradient in gradients], 2, dtype)
    return torch.stack([norm.to(norms[0].device) for norm in norms])
