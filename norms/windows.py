"""Rolling statistics over signals: what windowed norms compare with. Deterministic, and O(1) a step."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from norms.signals import EpochEnd, Evaluation, Preflight, Resources, Signal, Step, Unchanged, Update

WINDOW = 128
"""Steps, as in OLMo-core's optimizers that skip steps."""
NEEDED = 64
"""Values before a window says anything: half of it."""
CLIP_SIGMAS = 4.0
"""A value further up enters the window as one this far up, so that a spike does not widen it and a new level does."""
ROUNDING = 1e-12
"""A variance below this share of the squared mean is that of a constant series."""
RELATIVE_UPDATE = 1e-6
"""An update below this share of a weight may vanish in rounding: such a weight is no evidence."""


class Track:
    """The last values of a series, and how far the newest stands above them.

    Losses and gradient norms are positive and heavy-tailed: over healthy runs their logarithm is close to normal, they
    are not. So the statistics are of the logarithm; a series with a value of 0 or less is taken as it is from there on.
    The newest value enters the window when the next one comes, so that it is always judged by those before it.
    """

    __slots__ = ("_at", "_linear", "_pending", "_size", "_square", "_steps", "_sum", "_values", "sigmas", "value")

    def __init__(self, size: int = WINDOW) -> None:
        self._size = size
        self._linear = False
        self._values: list[float] = []
        self._steps: list[int] = []
        self._at = 0  # of the oldest value, once the window is full
        self._sum = self._square = 0.0
        self._pending: tuple[int, float] | None = None
        self.value: float | None = None
        """The newest, None where the last signal had none or one that is not finite."""
        self.sigmas: float | None = None
        """How many standard deviations the newest is above the mean; None while the window is too short."""

    def take(self, step: int, value: float | None) -> None:
        """Take in the value of a step; None and non-finite values are passed over."""
        if self._pending is not None:
            self._admit(*self._pending)
            self._pending = None
        self.value = self.sigmas = None
        if value is None or not math.isfinite(value):
            return
        self.value = value
        if value <= 0 and not self._linear:
            self._to_linear()
        x = value if self._linear else math.log(value)
        if (spread := self._spread()) is not None:
            mean, deviation = spread
            self.sigmas = _sigmas(x, mean, deviation)
            x = min(x, mean + CLIP_SIGMAS * deviation) if deviation else x
        self._pending = (step, x)

    def sigmas_of(self, value: float) -> float | None:
        """Return how far another value stands above those before the newest, as ``sigmas`` says it of that."""
        spread = self._spread()
        if spread is None or (value <= 0 and not self._linear):
            return None
        return _sigmas(value if self._linear else math.log(value), *spread)

    def _spread(self) -> tuple[float, float] | None:
        """Return mean and standard deviation, None while the window is too short."""
        count = len(self._values)
        if count < NEEDED:
            return None
        mean = self._sum / count
        variance = (self._square - self._sum * mean) / (count - 1)
        return mean, math.sqrt(variance) if variance > ROUNDING * mean * mean else 0.0

    @property
    def typical(self) -> float:
        """The mean before the newest value (the geometric mean of a positive series); NaN without values."""
        if not self._values:
            return math.nan
        mean = self._sum / len(self._values)
        return mean if self._linear else math.exp(mean)

    @property
    def highest(self) -> float:
        """The highest value before the newest; NaN without values."""
        if not self._values:
            return math.nan
        return max(self._values) if self._linear else math.exp(max(self._values))

    @property
    def positive(self) -> bool:
        """Whether multiples of a value make sense."""
        return not self._linear

    def rewind(self, step: int) -> None:
        """Forget the values of later steps."""
        if self._pending is not None and self._pending[0] <= step:
            self._admit(*self._pending)
        self._pending = self.value = self.sigmas = None
        kept = [i for i in self._order() if self._steps[i] <= step]
        self._refill([self._values[i] for i in kept], [self._steps[i] for i in kept])

    def _admit(self, step: int, x: float) -> None:
        if len(self._values) < self._size:
            self._values.append(x)
            self._steps.append(step)
            self._sum += x
            self._square += x * x
            return
        old = self._values[self._at]
        self._values[self._at] = x
        self._steps[self._at] = step
        self._sum += x - old
        self._square += x * x - old * old
        self._at += 1
        if self._at == self._size:  # once a window, so that rounding never adds up
            self._at = 0
            self._sum = math.fsum(self._values)
            self._square = math.fsum(value * value for value in self._values)

    def _to_linear(self) -> None:
        self._linear = True
        order = self._order()
        self._refill([math.exp(self._values[i]) for i in order], [self._steps[i] for i in order])

    def _order(self) -> list[int]:
        """Return the places of the values, the oldest first."""
        return [*range(self._at, len(self._values)), *range(self._at)]

    def _refill(self, values: list[float], steps: list[int]) -> None:
        self._values, self._steps, self._at = values, steps, 0
        self._sum = math.fsum(values)
        self._square = math.fsum(value * value for value in values)


def _sigmas(x: float, mean: float, deviation: float) -> float:
    if deviation:
        return (x - mean) / deviation
    return math.inf if x - mean > math.sqrt(ROUNDING) * abs(mean) else 0.0


class Streaks:
    """For how many judgements in a row each name has been reported."""

    __slots__ = ("_lengths", "judged")

    def __init__(self) -> None:
        self._lengths: dict[str, int] = {}
        self.judged = 0
        """Judgements so far."""

    def take(self, names: Sequence[str]) -> None:
        self.judged += 1
        old = self._lengths
        if old or names:
            self._lengths = {name: old.get(name, 0) + 1 for name in names}

    def lasting(self, steps: float, again: float | None = None) -> dict[str, int]:
        """Return the names reported for ``steps`` in a row, and for how many; ``again`` for names once not reported."""
        again = steps if again is None else again
        return {
            name: length
            for name, length in self._lengths.items()
            if length >= (steps if length == self.judged else again)
        }

    @property
    def longest(self) -> int:
        return max(self._lengths.values(), default=0)

    def reset(self) -> None:
        self._lengths = {}


class Windows:
    """All statistics of one stream of steps; the run's own (stream "") also holds those of its other moments."""

    def __init__(self) -> None:
        self.total_steps: int | None = None
        self.loss = Track()
        self.grad_norm = Track()
        self.seconds = Track()
        self.largest_batch = 0
        self.partial = False
        """Whether the newest step had less than half of the samples of the largest."""
        self.finite_steps = 0
        """Steps with a finite gradient so far."""
        self.overflows = 0
        """Steps in a row in which the scaler meets non-finite gradients of a finite loss."""
        self.recent_losses: deque[float] = deque(maxlen=5)
        self.missing = Streaks()
        self.stray_steps = 0
        self.eval_steps = 0
        self.eval_since: float | None = None
        """Epoch in which the present stretch of training steps in evaluation mode began."""
        self.frozen: frozenset[str] | None = None
        """Modules in evaluation mode at the first step under a root in training mode: left so on purpose."""
        self.left_in_eval: tuple[str, ...] = ()
        """Modules in evaluation mode at the newest step that are not left so on purpose."""
        self.stale_steps = 0
        self.peak_lr = 0.0
        self.gradients: deque[tuple[float, float]] = deque(maxlen=20)
        """(gradient_ratio, small_gradients) of the last steps in which both were measured."""
        self.unchanged = Streaks()
        self.ratios: deque[float] = deque(maxlen=3)
        """Update ratios of the last steps in which one was measured."""
        self.same_order = 0
        """Epochs in a row with one and the same order of samples, the first of them included."""
        self.repeated_draws = 0
        """Workers that drew in this epoch what one of them drew in the epoch before."""
        self.changed_inputs = False
        """Whether the newest evaluation had other inputs than the one before it, of the same split."""
        self.memory = Memory()
        self.gpu_busy: deque[float] = deque(maxlen=12)
        self._order: str | None = None
        self._draws: frozenset[str] = frozenset()
        self._inputs: dict[str, tuple[int | None, str]] = {}

    def take(self, signal: Signal) -> None:
        """Take in a signal; detectors are asked about it afterwards."""
        taker = _TAKERS.get(type(signal))
        if taker is not None:
            taker(self, signal)

    def rewind(self, step: int) -> None:
        """Forget what came after ``step``: the run was rolled back to it."""
        for track in (self.loss, self.grad_norm, self.seconds):
            track.rewind(step)
        self.overflows = self.stray_steps = self.eval_steps = self.stale_steps = 0
        self.same_order = self.repeated_draws = 0
        self.eval_since = self._order = None
        self._draws = frozenset()
        self.missing.reset()
        self.unchanged.reset()
        for recent in (self.recent_losses, self.gradients, self.ratios):
            recent.clear()

    def _preflight(self, signal: Preflight) -> None:
        if signal.total_steps is not None:
            self.total_steps = signal.total_steps

    def _step(self, signal: Step) -> None:
        self._batch(signal)
        step = signal.step
        if self.partial:  # another size of batch, another distribution
            self.loss.take(step, None)
            self.grad_norm.take(step, None)
        else:
            self.loss.take(step, signal.loss)
            self.grad_norm.take(step, signal.grad_norm)
        if signal.seconds is not None:
            self.seconds.take(step, signal.seconds)
        self._finite(signal)
        if signal.missing_grad is not None:
            self.missing.take(signal.missing_grad)
        if signal.stray_leaves is not None:
            self.stray_steps = self.stray_steps + 1 if signal.stray_leaves else 0
        if signal.stale_gradients is not None:
            self.stale_steps = self.stale_steps + 1 if signal.stale_gradients else 0
        if signal.in_eval is not None:
            self._mode(signal)
        if signal.lr is not None and signal.lr > self.peak_lr:
            self.peak_lr = signal.lr
        if signal.gradient_ratio is not None and signal.small_gradients is not None:
            self.gradients.append((signal.gradient_ratio, signal.small_gradients))

    def _batch(self, signal: Step) -> None:
        if signal.samples is None:
            self.partial = False
            return
        if signal.samples > self.largest_batch:
            self.largest_batch = signal.samples
        self.partial = 2 * signal.samples < self.largest_batch

    def _finite(self, signal: Step) -> None:
        norm = signal.grad_norm
        if signal.non_finite or (norm is not None and not math.isfinite(norm)):
            finite_loss = signal.loss is None or math.isfinite(signal.loss)
            self.overflows = self.overflows + 1 if signal.loss_scale is not None and finite_loss else 0
        elif norm is not None or signal.non_finite is not None:
            self.overflows = 0
            self.finite_steps += 1
        if signal.loss is not None and math.isfinite(signal.loss):
            self.recent_losses.append(signal.loss)

    def _mode(self, signal: Step) -> None:
        in_eval = signal.in_eval or ()
        if signal.root_in_eval is False and self.frozen is None:
            self.frozen = frozenset(in_eval)
        frozen = self.frozen if self.frozen is not None and not signal.root_in_eval else frozenset()
        self.left_in_eval = tuple(name for name in in_eval if name not in frozen) if in_eval else ()
        if not self.left_in_eval:
            self.eval_steps, self.eval_since = 0, None
            return
        self.eval_steps += 1
        if self.eval_since is None:
            self.eval_since = signal.epoch

    def _update(self, signal: Update) -> None:
        if signal.skipped:
            return
        if signal.unchanged is not None:
            self.unchanged.take([weight.name for weight in signal.unchanged if _should_change(weight)])
        if signal.ratio is not None and math.isfinite(signal.ratio):
            self.ratios.append(signal.ratio)

    def _epoch(self, signal: EpochEnd) -> None:
        if signal.order_digest is not None:
            self.same_order = self.same_order + 1 if signal.order_digest == self._order else 1
            self._order = signal.order_digest
        if signal.worker_draws is not None:
            self.repeated_draws = sum(draw in self._draws for draw in signal.worker_draws)
            self._draws = frozenset(signal.worker_draws)

    def _evaluation(self, signal: Evaluation) -> None:
        self.changed_inputs = False
        if signal.input_digest is not None:
            now = (signal.samples, signal.input_digest)
            before = self._inputs.get(signal.split, now)
            self.changed_inputs = before[0] == now[0] and before != now
            self._inputs[signal.split] = now

    def _resources(self, signal: Resources) -> None:
        if signal.memory_bytes is not None:
            self.memory.take(signal.memory_bytes)
        if signal.gpu_busy is not None and signal.training:
            self.gpu_busy.append(signal.gpu_busy)


class Memory:
    """Whether memory only ever grows: the lowest of late compared with the highest of early, once early is over."""

    __slots__ = ("_recent", "_seen", "early")

    def __init__(self) -> None:
        self.early = 0
        """Highest of the first EARLY looks: loading, compiling and the first epochs."""
        self._recent: deque[int] = deque(maxlen=self.LATE)
        self._seen = 0

    EARLY, LATE = 60, 24
    """Looks, some five seconds apart."""

    def take(self, used: int) -> None:
        self._seen += 1
        if self._seen <= self.EARLY:
            self.early = max(self.early, used)
        else:
            self._recent.append(used)

    @property
    def late(self) -> int | None:
        """Lowest of the last LATE looks; None until there are as many."""
        return min(self._recent) if len(self._recent) == self.LATE else None


def _should_change(weight: Unchanged) -> bool:
    return weight.lr * weight.grad_max > RELATIVE_UPDATE * weight.weight_max  # False where any is NaN


_TAKERS: dict[type[Signal], Callable[[Windows, Any], None]] = {
    Preflight: Windows._preflight,
    Step: Windows._step,
    Update: Windows._update,
    EpochEnd: Windows._epoch,
    Evaluation: Windows._evaluation,
    Resources: Windows._resources,
}
