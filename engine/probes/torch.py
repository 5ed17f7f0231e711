"""Live torch objects turned into signals, through torch's own hooks: a loop, built in or foreign, need not know of it.

Nothing here changes what is computed: no random number is drawn, no weight, gradient or buffer written but by ``skip``,
``clip`` and ``zero_after``. What torch compiles or captures is passed through untouched, and not seen. On a GPU each
step waits for the device once; what an update did to the weights is read with the next step, and told one update late.
Functions of torch that a script took by name before ``install`` are not seen either. ``samples`` only the loop knows.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ChainedScheduler, SequentialLR
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from engine.probes.patches import Patches
from engine.probes.torch_evaluation import EvaluationSeen
from engine.probes.torch_gradients import CLIP_EPSILON, Gradients
from engine.probes.torch_modules import Declared, Roster, clear_gradients, depends_on_mode, unseen
from engine.probes.torch_passes import Passes
from engine.probes.torch_scaling import Reading, Scaling
from engine.probes.torch_steps import FLOW_EVERY, Round, StepFacts
from engine.probes.torch_units import Units
from engine.probes.torch_weights import Facts, Looked, Weights
from norms.signals import Preflight, Step, Update

__all__ = ["Declared", "Sink", "TorchProbe"]

_NOTHING = Declared()


class Sink(Protocol):
    """Who is told: the Watch."""

    @property
    def next_step(self) -> int:
        """Number of the update that is about to be done."""

    @property
    def epoch(self) -> float | None:
        """Epochs done, with a fraction within one."""

    def before_update(self, signal: Step) -> None:
        """Take what is known before an update; it waits for the return, and may be told to ``skip``."""

    def after_update(self, signal: Update) -> None:
        """Take what an update did."""


class TorchProbe:
    """Watches one model and its optimizers.

    Optimizers that step on the same gradients share one Step and one Update. Those that step after backward passes of
    their own (a generator and a discriminator) have a ``stream`` each, the first to step the one without a name.

    Args:
        model: Its outermost module; a ModuleDict or ModuleList stands for several models.
        optimizers: All that train it.
        sink: Is told of each update, before and after.
        scaler: The gradient scaler that guards the updates.
        scheduler: The learning-rate scheduler, for counting its calls.
        declared: What a person declared, and so is not reported.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        *,
        sink: Sink,
        scaler: Any = None,
        scheduler: Any = None,
        declared: Declared = _NOTHING,
    ) -> None:
        self.scaling = Scaling(scaler)
        self.modal = {name: module for name, module in model.named_modules() if depends_on_mode(module)}
        """Modules whose behaviour depends on the mode, by name."""
        self.max_norm: float | None = None
        """Gradients are clipped to it after the Step signal; None where they are not."""
        self.zeroes = False
        """Whether gradients are cleared after each update."""
        self.skips = 0
        """Updates left out by ``skip``."""
        self.deciding = False
        """Whether the sink is being told of an update that is about to be done."""
        self._model = model
        self._optimizers = list(optimizers)
        self._declared = declared
        self._sink = sink
        self._scheduler = scheduler
        self._patches = Patches()
        self._handles: list[Any] = []
        self._roster = Roster(model, self._optimizers)
        self._gradients = Gradients(self._roster, self.scaling)
        self._passes = Passes(model, self.modal, self._roster, self.scaling, self._gradients, self.settle)
        self._facts = StepFacts(model, self._gradients, self.scaling, declared.frozen)
        self._weights = Weights()
        self._units = Units(model)
        self._streams: dict[int, str] = {}  # by id of the optimizer
        self._outside: set[tuple[str, int]] = set()  # optimizers that do not step with a stream though they could
        self._numbers: dict[str, int] = {}  # updates of each stream
        self._round: Round | None = None
        self._in_closure = False
        self._emptied: dict[int, list[list[Tensor]]] = {}
        self._looked: Looked | None = None
        self._late = Facts()
        self._evaluations: dict[str, int] = {}
        self._updates = self._left_out = 0
        self._calls = self._scheduler_steps()

    # --- in and out --------------------------------------------------------------------------------------------------

    def install(self) -> Self:
        """Begin to watch."""
        self._facts.losses.looking = True
        self._passes.install(self._patches)
        self.scaling.install(self._patches, self._scaler_left_out)
        self._facts.losses.install(self._patches)
        self._gradients.install(self._patches, self._roster.held(self._optimizers))
        self._units.install()
        self._handles += [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        return self

    def remove(self) -> None:
        """Stop watching; nothing of the probe is left in torch, the model, the optimizers or the scaler."""
        self.settle()
        self._refill()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._passes.remove()
        self._gradients.remove()
        self._units.remove()
        self._patches.restore()

    __enter__ = install

    def __exit__(self, *_: object) -> None:
        self.remove()

    # --- what it is told ---------------------------------------------------------------------------------------------

    def skip(self) -> None:
        """Leave out the update that the sink is being told of, for every optimizer that shares it; once is enough."""
        if not self.deciding or self._round is None:
            raise RuntimeError("no update is about to be done")
        self.skips += not self._round.skip
        self._round.skip = True

    def clip(self, max_norm: float | None) -> None:
        """Clip gradients to a total norm, from the update on that the sink is told of now or next."""
        self.max_norm = max_norm

    def zero_after(self, on: bool) -> None:
        """Clear the gradients of all optimizers after each update, or no longer."""
        self.zeroes = on

    def clock_shift(self, seconds: float) -> None:
        """Take time out of ``Step.seconds``: the run was held, paused, or did something else than train."""
        self._facts.pass_over(seconds)

    def settle(self) -> None:
        """Say that the update is over: an optimizer that was expected to step on it as well will not."""
        if self._round is not None and not self._round.closed and not self._in_closure:
            self._outside |= {(self._round.stream, id(optimizer)) for optimizer in self._round.awaited}
            self._close(self._round)

    def rewound(self) -> None:
        """Forget what belongs to an update that will not come: the run was put back to another place."""
        self._refill()
        self._round, self._looked, self._late = None, None, Facts()
        self._passes.next_update()
        self._gradients.updated(())
        self._facts.forget()
        self._calls = self._scheduler_steps()

    # --- what it is asked --------------------------------------------------------------------------------------------

    def preflight(self) -> Preflight:
        """Return what is known before the first update: parameters that no optimizer holds."""
        uncovered = self._roster.uncovered(self._declared.frozen)
        return Preflight(step=max(0, self._sink.next_step - 1), epoch=self._sink.epoch, uncovered=uncovered)

    def epoch_facts(self) -> dict[str, Any]:
        """Return fields of EpochEnd, as seen since the last call: updates, skipped, scheduler_calls, units."""
        now, before = self._scheduler_steps(), self._calls
        facts = {
            "updates": self._updates,
            "skipped": self._left_out,
            "scheduler_calls": None if now is None or before is None or now < before else now - before,
            "units": self._units.take(),
        }
        self._updates = self._left_out = 0
        self._calls = now
        return facts

    def _scheduler_steps(self) -> int | None:
        """Return a number that grows by one with each call of the scheduler; wrapping it would get into its state."""
        scheduler = self._scheduler
        if isinstance(scheduler, ChainedScheduler):
            scheduler = scheduler._schedulers[0]
        names = ("last_epoch",) if isinstance(scheduler, SequentialLR) else ("_step_count", "last_epoch")
        counts = [getattr(scheduler, name, None) for name in names]
        return next((count for count in counts if isinstance(count, int)), None)

    @contextmanager
    def evaluation(self, split: str) -> Iterator[EvaluationSeen]:
        """Collect what the forward passes within show; this time is not part of ``Step.seconds``."""
        started = time.perf_counter()
        count = self._evaluations[split] = self._evaluations.get(split, 0) + 1
        seen = EvaluationSeen(self._model, self.modal, self._declared.stochastic, count)
        outer, self._passes.evaluation = self._passes.evaluation, seen
        try:
            yield seen
        finally:
            self._passes.evaluation = outer
            seen.finish()
            self.clock_shift(time.perf_counter() - started)

    # --- before an update --------------------------------------------------------------------------------------------

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        if unseen() or not self._watches(optimizer):
            return None
        self.scaling.reached(optimizer)
        self._in_closure = False
        closure = args[1] if len(args) > 1 else kwargs.get("closure")
        if callable(closure):  # it runs the backward pass, within the step
            wrapped = self._after_first(closure, optimizer)
            return ((args[0], wrapped, *args[2:]), kwargs) if len(args) > 1 else (args, kwargs | {"closure": wrapped})
        self._about_to_step(optimizer)
        if self._round is not None and self._round.skip:
            clear_gradients(optimizer)
            self._empty(optimizer)
        return None

    def _watches(self, optimizer: torch.optim.Optimizer) -> bool:
        return any(optimizer is each for each in self._optimizers)

    def _after_first(self, closure: Callable[[], Any], optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
        """Wrap a closure so that the update is announced once its gradients are there."""
        announced = False

        def evaluated() -> Any:
            nonlocal announced
            result = closure()
            if announced:
                self._passes.restart()  # the optimizer evaluates again, within the same update
            else:
                announced = True
                self._about_to_step(optimizer)
                self._in_closure = True
            if self._round is not None and self._round.skip:
                clear_gradients(optimizer)
            return result

        return evaluated

    def _about_to_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Begin an update, unless this optimizer takes part in the one that was begun."""
        self._refill()
        now = self._round
        if now is None or self._passes.seen.backward or any(optimizer is each for each in now.done):
            self.settle()
            self._begin(optimizer)

    @torch.no_grad()
    def _begin(self, leader: torch.optim.Optimizer) -> None:
        stream = self._stream_of(leader)
        sharing = [each for each in self._optimizers if each is leader or self._shares(each, stream)]
        number = self._numbers[stream] = self._numbers.get(stream, 0) + 1
        now = self._round = Round(self._sink.next_step, stream, number, sharing, self._roster.held(sharing))
        looked, self._looked = self._looked, None
        reading = Reading() if looked is None else looked.reading
        parts = self._passes.seen.parts if len(sharing) == len(self._optimizers) else ()
        with_ratio = self._facts.losses.accumulation.read(parts, reading)
        signal = with_ratio(self._facts.read(now, self._passes.seen, list(self.modal), reading, self._sink.epoch))
        self._late = Facts() if looked is None else looked.finish()
        self._passes.next_update()
        self.deciding = True
        try:
            self._sink.before_update(signal)
        finally:
            self.deciding = False
        if not now.skip:
            self._clip(now)
            self._weights.before(now.held, number)

    def _stream_of(self, leader: torch.optim.Optimizer) -> str:
        if id(leader) not in self._streams:
            number = next(i for i, each in enumerate(self._optimizers, 1) if each is leader)
            self._streams[id(leader)] = f"optimizer {number}" if self._streams else ""
        return self._streams[id(leader)]

    def _shares(self, optimizer: torch.optim.Optimizer, stream: str) -> bool:
        """Whether the optimizer is expected to step on the gradients that the stream's update is about."""
        if (stream, id(optimizer)) in self._outside:
            return False
        if id(optimizer) in self._streams:
            return self._streams[id(optimizer)] == stream
        return any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])

    def _clip(self, now: Round) -> None:
        gradients = [item.parameter.grad for item in now.held if item.parameter.grad is not None]
        if self.max_norm is None or now.norms is None or not gradients:
            return
        total = now.norms.total
        if self._gradients.clipped:  # by the loop as well: what counts is what is left of them
            left = torch.nn.utils.get_total_norm(gradients).item()
            total = left / max(now.factors.values(), default=1.0)
        if math.isfinite(total) and total > self.max_norm:
            torch._foreach_mul_(gradients, self.max_norm / (total + CLIP_EPSILON))

    def _empty(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave the optimizer nothing to move: some insist on a gradient for each parameter that they hold."""
        self._emptied[id(optimizer)] = [group["params"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["params"] = []

    def _refill(self) -> None:
        for optimizer in self._optimizers:
            for group, parameters in zip(optimizer.param_groups, self._emptied.pop(id(optimizer), []), strict=False):
                group["params"] = parameters

    # --- after it ----------------------------------------------------------------------------------------------------

    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if unseen() or self._round is None or not self._watches(optimizer):
            return
        self._in_closure = False
        found = getattr(optimizer, "found_inf", None)  # a fused optimizer leaves the update out by itself
        applied = not self._round.skip
        if isinstance(found, Tensor):
            finite = not found.item() if found.device.type == "cpu" else self._round.finite_of(optimizer)
            applied = applied and finite
        self._stepped(optimizer, applied)

    def _scaler_left_out(self, optimizer: torch.optim.Optimizer) -> None:
        """The scaler met an overflow, and did not call the optimizer's step."""
        if self._watches(optimizer):
            self._about_to_step(optimizer)
            self._stepped(optimizer, False)

    def _stepped(self, optimizer: torch.optim.Optimizer, applied: bool) -> None:
        self._refill()
        now = self._round
        assert now is not None, "an update begins before it is done"
        self._streams.setdefault(id(optimizer), now.stream)
        now.done.append(optimizer)
        if not applied:
            now.left_out.add(id(optimizer))
        now.awaited = [each for each in now.awaited if each is not optimizer]
        if not now.awaited and not now.closed:
            self._close(now)

    def _close(self, now: Round) -> None:
        """Tell what the update did."""
        now.closed = True
        skipped = {id(optimizer) for optimizer in now.done} <= now.left_out
        facts = Facts() if skipped else self._compare(now)
        self._left_out += skipped
        self._updates += not skipped
        self._gradients.updated(now.done)
        if self.zeroes:
            for optimizer in self._optimizers:
                clear_gradients(optimizer)
        self._sink.after_update(
            Update(
                step=now.step,
                epoch=self._sink.epoch,
                stream=now.stream,
                skipped=skipped,
                unchanged=facts.unchanged,
                ratio=facts.ratio,
                non_finite=facts.non_finite,
            )
        )

    def _compare(self, now: Round) -> Facts:
        """Compare weights with their copies: at once on a CPU, on a GPU with what the next step reads."""
        idle = now.left_out | {id(optimizer) for optimizer in now.awaited}
        applied = [item for item in now.held if id(item.optimizer) not in idle]
        looked = self._weights.after(
            idle, now.factors, applied if not now.finite or now.number % FLOW_EVERY == 0 else ()
        )
        if all(item.parameter.device.type == "cpu" for item in applied):
            looked.reading.fetch()
            return looked.finish()
        late, self._late = self._late, Facts()
        self._looked = looked
        return late
