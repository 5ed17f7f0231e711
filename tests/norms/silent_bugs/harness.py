"""What stands between a user's loop and the judge: the real probes, and nothing that a loop would not be told."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from engine.predictions import Evaluated, facts
from engine.probes.torch import TorchProbe
from engine.probes.torch_controls import TorchControls
from norms.judge import Judge, Violation
from norms.signals import AnySignal, EpochEnd, Evaluation, Preflight, Replay, Step, Update


class Watch:
    """Called by a loop as engine.watch.Watch is; it judges at once, decides nothing and records violations."""

    def __init__(self) -> None:
        self._judge = Judge("balanced")
        self._probe: TorchProbe | None = None
        self._controls: TorchControls | None = None
        self._steps = 0
        self.epoch: float | None = None
        self.found: list[Violation] = []

    # --- what the probe reports to ---

    @property
    def next_step(self) -> int:
        return self._steps + 1

    def before_update(self, signal: Step) -> None:
        self.feed(signal)

    def after_update(self, signal: Update) -> None:
        self.feed(signal)

    # --- what a loop calls ---

    def attach(
        self,
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        *,
        scaler: Any = None,
        scheduler: Any = None,
        total_steps: int | None = None,
    ) -> None:
        self._probe = TorchProbe(model, optimizers, scaler=scaler, scheduler=scheduler, sink=self)
        self._probe.install()
        self._controls = TorchControls(model, optimizers, scaler, scheduler, self._probe)
        if total_steps is not None:
            self.feed(Preflight(step=0, total_steps=total_steps))
        self.feed(self._probe.preflight())

    def feed(self, signal: AnySignal) -> None:
        judged = self._judge.feed(signal)
        assert not judged.problems, judged.problems
        self.found += judged.violations

    def step(self, step: int, epoch: float | None = None) -> None:
        self._steps, self.epoch = step, epoch

    def evaluate(self, split: str, evaluate: Callable[[], Evaluated]) -> dict[str, float]:
        assert self._probe is not None
        with self._probe.evaluation(split) as seen:
            found = evaluate()
        known = facts(found) | seen.facts()
        self.feed(Evaluation(step=self._steps, epoch=self.epoch, split=split, **known))
        return found.scores

    def end_epoch(self, **seen: Any) -> None:
        """Have an epoch judged; ``seen`` is what the loop declares, or has from another probe."""
        assert self._probe is not None
        self.feed(EpochEnd(step=self._steps, epoch=self.epoch, **(self._probe.epoch_facts() | seen)))

    def rehearse(self, losses: Callable[[], list[float]]) -> None:
        """Have the first steps done twice from one snapshot, of weights, optimizers and global generators."""
        assert self._controls is not None
        snapshot = self._controls.state()
        first = losses()
        self._controls.restore(snapshot)
        second = losses()
        difference = max(abs(a - b) / max(abs(a), abs(b)) for a, b in zip(first, second, strict=True))
        self._steps = len(second)
        self.feed(Replay(step=self._steps, steps=len(second), difference=difference))

    def close(self) -> None:
        if self._probe is not None:
            self._probe.remove()


Loop = Callable[[Watch, bool], None]


class Bug(NamedTuple):
    loop: Loop
    norm: str
    """The one that must find it."""
    within: int
    """Steps from the first on which it acts until it is found."""
    acts_at: int
    """The first step on which it acts; 0: before the first."""
    also: frozenset[str]
    """Norms that what it leads to may break later on."""

    @property
    def name(self) -> str:
        return self.loop.__name__


BUGS: list[Bug] = []


def bug(norm: str, *, within: int, acts_at: int = 0, also: Sequence[str] = ()) -> Callable[[Loop], Loop]:
    """Register a loop ``(watch, fixed)``: a user's script with a silent bug in it, and without it where ``fixed``."""

    def register(loop: Loop) -> Loop:
        BUGS.append(Bug(loop, norm, within, acts_at, frozenset(also)))
        return loop

    return register


def run(item: Bug, *, fixed: bool, seed: int = 0) -> list[Violation]:
    """Return the violations above info of a loop, in the order in which they were found."""
    torch.manual_seed(seed)
    watch = Watch()
    try:
        item.loop(watch, fixed)
    finally:
        watch.close()
    return [violation for violation in watch.found if violation.severity != "info"]


def table() -> str:
    """Return bug, norm and steps to detection, a line each, by file."""
    lines = [f"    {'bug':44}{'norm':24}steps\n"]
    for module in dict.fromkeys(item.loop.__module__ for item in BUGS):
        lines += [f"    {x.name:44}{x.norm:24}{x.within:>5}\n" for x in BUGS if x.loop.__module__ == module]
    return "".join(lines)
