"""The Step signal: all that is known before an update, read from the device in one go."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from engine.probes.torch_gradients import Gradients, Norms, dense, norms_of
from engine.probes.torch_losses import LossInputs
from engine.probes.torch_modules import Held, first_and_last_matrix, is_declared
from engine.probes.torch_passes import Seen
from engine.probes.torch_scaling import Reading, Scaling
from norms.signals import Names, Step

FLOW_EVERY, LOSSES_EVERY = 10, 100
"""Updates between two looks at how gradients flow, and at what loss functions get, once they were seen three times."""
_SMALL = 1e-3
"""Of the last matrix's gradient rms: entries of the first below it are small."""


@dataclass
class Round:
    """One update: the optimizers that step on the same gradients."""

    step: int
    stream: str
    number: int
    """Of the stream's updates, from 1."""
    awaited: list[torch.optim.Optimizer]
    """Those that are yet to step."""
    held: list[Held]
    norms: Norms | None = None
    factors: dict[int, float] = field(default_factory=dict)
    """By id of the optimizer, the scaler's factor that its gradients still hold."""
    skip: bool = False
    done: list[torch.optim.Optimizer] = field(default_factory=list)
    left_out: set[int] = field(default_factory=set)
    """Ids of the optimizers whose update was left out."""
    closed: bool = False

    @property
    def finite(self) -> bool:
        return self.norms is None or math.isfinite(self.norms.total)

    def finite_of(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the gradients of one optimizer were finite, by what was read: no second wait for the device."""
        each = {} if self.norms is None else self.norms.each
        return all(math.isfinite(each.get(item.name, 0.0)) for item in self.held if item.optimizer is optimizer)


class StepFacts:
    """Puts Step signals together."""

    def __init__(self, model: nn.Module, gradients: Gradients, scaling: Scaling, frozen: Names) -> None:
        self.losses = LossInputs()
        self._gradients = gradients
        self._scaling = scaling
        self._frozen = frozen
        self._ends = first_and_last_matrix(model)
        self._clock: dict[str, float] = {}
        self._shift = 0.0

    def pass_over(self, seconds: float) -> None:
        """Take time out of ``seconds``."""
        self._shift += seconds

    def forget(self) -> None:
        self._clock.clear()

    def read(self, now: Round, seen: Seen, modal: Sequence[str], reading: Reading, epoch: float | None) -> Step:
        """Fetch ``reading``, with all that belongs to this update added to it."""
        scale = self._scaling.factor()
        scale_at = None if scale is None else reading.add(scale)
        measured = self._gradients.measure(now.held, reading)
        loss_at = None if seen.loss is None or seen.unknown_loss else reading.add(seen.loss)
        stale = self._gradients.stale()
        stale_at = [(name, reading.add(count)) for name, count in stale or ()]
        inputs = self.losses.read(reading) if self.losses.looking else None
        self.losses.looking = now.number < 3 or (now.number + 1) % LOSSES_EVERY == 0
        groups = {id(item.group): item.group for item in now.held}.values()
        rates = [rate for group in groups if (rate := _rate(group, reading)) is not None]
        ends = self._ends_of(now.held) if now.number % FLOW_EVERY == 0 else None
        small_at = None if ends is None else self._small(*ends, reading)
        seconds = self._seconds(now.stream)
        reading.fetch()

        factor, loss = reading.value(scale_at), reading.value(loss_at)
        norms = now.norms = None if measured is None else self._gradients.norms(measured, reading, factor)
        if factor:
            now.factors = {id(each): factor for each in now.awaited if self._scaling.in_gradients(each)}
        return Step(
            step=now.step,
            epoch=epoch,
            stream=now.stream,
            loss=loss,
            grad_norm=None if norms is None else norms.total,
            lr=max((rate() for rate in rates), default=None),
            seconds=seconds,
            loss_scale=factor,
            non_finite=self._non_finite(norms, loss),
            missing_grad=self._missing(now.held),
            stray_leaves=seen.strays,
            root_in_eval=seen.root_in_eval,
            in_eval=None if seen.root_in_eval is None else tuple(name for name in modal if name in seen.in_eval),
            stale_gradients=None if stale is None else tuple(name for name, at in stale_at if reading.value(at)),
            clipped_scaled=self._gradients.clipped_scaled,
            gradient_ratio=None if norms is None or ends is None else _rms_ratio(norms, *ends),
            small_gradients=reading.value(small_at),
            loss_inputs=None if inputs is None else inputs(),
        )

    def _seconds(self, stream: str) -> float | None:
        now = time.perf_counter() - self._shift
        before = self._clock.get(stream)
        self._clock[stream] = now
        return None if before is None else now - before

    def _missing(self, held: Sequence[Held]) -> Names:
        return tuple(
            item.name
            for item in held
            if item.parameter.grad is None and item.parameter.requires_grad and not is_declared(item.name, self._frozen)
        )

    def _non_finite(self, norms: Norms | None, loss: float | None) -> Names | None:
        """Name gradients with NaN or infinity, where something is off."""
        if norms is None:
            return None
        if math.isfinite(norms.total) and (loss is None or math.isfinite(loss)):
            return ()
        return self._gradients.in_backward_order([name for name, norm in norms.each.items() if not math.isfinite(norm)])

    def _ends_of(self, held: Sequence[Held]) -> tuple[Held, Held] | None:
        """Return the first and the last weight matrix, if both have a gradient."""
        if self._ends is None:
            return None
        found = {item.name: item for item in held if item.name in self._ends and item.parameter.grad is not None}
        return (found[self._ends[0]], found[self._ends[1]]) if len(found) == len(self._ends) else None

    def _small(self, first: Held, last: Held, reading: Reading) -> int:
        """Have small_gradients read; clipping leaves it as it is, and so does a factor that is in both gradients."""
        assert first.parameter.grad is not None and last.parameter.grad is not None
        limit = _SMALL * norms_of([last.parameter.grad])[0] / math.sqrt(last.parameter.numel())
        scale = self._scaling.factor()
        if scale is not None:
            power = self._scaling.in_gradients(first.optimizer) - self._scaling.in_gradients(last.optimizer)
            limit *= scale.to(limit.device) ** power
        gradient = dense(first.parameter.grad).detach()
        unseen_zeros = first.parameter.numel() - gradient.numel()  # of a sparse gradient
        below = (gradient.abs() < limit.to(gradient.device)).sum() + unseen_zeros
        return reading.add(below / first.parameter.numel())


def _rms_ratio(norms: Norms, first: Held, last: Held) -> float | None:
    rms = [norms.each[item.name] / math.sqrt(item.parameter.numel()) for item in (first, last)]
    return rms[0] / rms[1] if rms[1] else None


def _rate(group: dict[str, Any], reading: Reading) -> Callable[[], float] | None:
    """Have a group's learning rate read; a capturable optimizer keeps it on the device."""
    rate = group.get("lr")
    if not isinstance(rate, Tensor):
        return None if rate is None else lambda: float(rate)
    index = reading.add(rate)
    return lambda: reading.values(index)[0]
