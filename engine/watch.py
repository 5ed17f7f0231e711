"""The instrument in the training process: it records what happens, has it judged, and obeys what is decided."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from configs.load import digest
from configs.schema import AnyConfig
from engine.controls import Able, Controls, Handler, When
from engine.decisions import Decisions
from engine.jumps import Restart, RolledBack, RunStopped
from engine.predictions import Evaluated, facts
from engine.probes.system import SystemProbe
from engine.recorder import Recorder
from engine.steering import Steering
from norms.actions import ACTIONS
from norms.agent import Agent
from norms.judge import NOTHING, Judge, Judged, Reading, Violation
from norms.norm import SEVERITIES
from norms.signals import AnySignal, EpochEnd, Evaluation, Preflight, Provenance, Replay, Step, Update
from norms.user import load_user_norms
from sessions import events
from sessions.events import Json
from sessions.files import PRIVATE_DIR
from sessions.log import EventLog
from sessions.paths import SessionPaths

__all__ = ["Restart", "RolledBack", "RunStopped", "Watch"]

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.amp import GradScaler
    from torch.optim import Optimizer

    from engine.attached import Attached
    from engine.checkpoints import Kind, Saved
    from engine.probes.seeds import SeedProbe

STANDINGS_INTERVAL = 5.0
"""Seconds between two events that say how the norms stand, at the least."""
_SHOWN_SAMPLES = 16

OWN_ACTIONS = frozenset({"skip_step", "stop", "pause", "resume", "mute", "launch_seeds"})
"""Actions that need none of a workload's objects."""
Painter = Callable[[Violation, Path], None]
"""Draws the evidence of a violation into a PNG file."""


class Watch(Recorder):
    """Records one run, holds it to its norms, and tells it what to do.

    A loop calls ``step`` once after every update and ``metrics`` when it has values, hands its evaluations to
    ``evaluate`` and its checkpoints to ``save``, and wraps what takes time in ``phase``. With PyTorch, ``attach`` sees
    the rest. ``step``, ``evaluate``, ``attach`` and ``finish`` may raise RunStopped, RolledBack or Restart.
    """

    def __init__(self, paths: SessionPaths, log: EventLog, config: AnyConfig) -> None:
        super().__init__(paths, log)
        self.config = config
        self.controls = Controls()
        found = load_user_norms(Path(config.norms.file) if config.norms.file else None)
        overrides = config.norms.thresholds
        self._judge = Judge(config.regime, overrides=overrides, muted=config.norms.muted, user_norms=found.norms)
        self._agent = Agent(
            config.mode,
            config.regime,
            config.approve,
            norms=self._judge.norms,
            able=self.controls.refusal,
            deadline_seconds=config.norms.deadline_seconds,
        )
        self._decisions = Decisions(log, self.controls, self._judge, self._agent, self._held, self._look_again)
        self._steering = Steering(paths, log, self.controls, self._judge, self._decisions)
        self._system = SystemProbe(paths.checkpoints)
        self._torch: Attached | None = None
        self.seeds: SeedProbe | None = None
        self.environment: Json = {}
        """What engine/environment.py found."""
        self._painters: dict[str, Painter] = {}
        self._preflights: list[Callable[[], Preflight]] = []
        self._jump: RolledBack | Restart | None = None
        self._rehearsed = False
        self.steps_done = 0
        self._drawn: Sequence[int] | None = None
        self._updating = False
        self._leave_out = False
        self._standings: dict[str, events.Standing] = {}
        self._stood_at = time.monotonic()
        self.can("skip_step", self._skip_step)
        for problem in found.problems:
            self.log("warning", problem, source="norms")

    # --- what a workload says ---

    def sees_seeds(self) -> None:
        """Note from here on which random generators are seeded before they are drawn from."""
        from engine.probes.seeds import SeedProbe

        self.seeds = SeedProbe().install()

    def can(self, action: str, handler: Handler, able: Able = lambda _: None, when: When = "now") -> None:
        """Offer an action that the run can carry out, as Controls.offer does."""
        self.controls.offer(action, handler, able, when)

    def paints(self, norm: str, painter: Painter) -> None:
        """Have ``painter`` draw the evidence of a norm's violations, where a picture says more."""
        self._painters[norm] = painter

    def preflight(self, facts: Callable[[], Preflight]) -> None:
        """Have what ``facts`` returns judged now, and again after every action."""
        self._preflights.append(facts)
        self.feed(facts())

    def _look_again(self) -> None:
        """Have judged anew what an action may have changed."""
        for known in self._preflights:
            self.feed(known())

    def made_of(self, data: str | None) -> None:
        """Say what the run learns from, by its digest, and have judged what is on record of where it comes from."""
        git = self.environment.get("git") or {}
        packages = self.environment.get("packages") or {}
        version = packages.get("nora-tui")
        provenance = Provenance(
            code=git.get("commit") or (f"nora-tui {version}" if version else None),
            patch=git.get("patch_sha256") or "",
            packages=len(packages) or None,
            data=data,
            config=digest(self.config),
        )
        self.feed(Preflight(step=0, total_steps=self._total_steps, provenance=provenance))

    def drawn(self, samples: Sequence[int]) -> None:
        """Say which samples the next update is made from, as evidence."""
        self._drawn = samples

    def feed(self, signal: AnySignal) -> Judged:
        """Have a signal judged, and done what follows from it, except what must wait for the end of the step.

        In a step that will be undone nothing is judged any more.
        """
        if not self.config.norms.enabled or self.rehearsing or self._decisions.rewinding:
            return NOTHING
        judged = self._judge.feed(signal)
        if judged is not NOTHING:
            self._found(judged, signal.step)
        return judged

    def _found(self, judged: Judged, step: int) -> None:
        for problem in judged.problems:
            self.log("warning", problem, source="norms")
        for violation in judged.violations:
            self._log.append(violation.event(self._painted(violation)))
        for outcome in judged.outcomes:
            self._log.append(outcome)
        self._decisions.consider(judged, step)

    def _painted(self, violation: Violation) -> list[str]:
        if (painter := self._painters.get(violation.norm)) is None:
            return []
        path = self.paths.artifacts / f"evidence-{violation.id}.png"
        path.parent.mkdir(mode=PRIVATE_DIR, exist_ok=True)
        started = time.monotonic()
        try:
            painter(violation, path)
        except Exception as error:  # a picture is a help, never a reason to lose the run
            self.log("warning", f"the evidence of {violation.id} could not be drawn: {error}", source="norms")
            return []
        self.artifact(path, "evidence")
        if self._torch is not None:
            self._torch.pass_over(time.monotonic() - started)
        return [str(path.relative_to(self.paths.root))]

    def attach(
        self,
        model: "nn.Module",
        optimizers: "Sequence[Optimizer]",
        *,
        scaler: "GradScaler | None" = None,
        scheduler: Any = None,
        place: Callable[[], Json] | None = None,
        keep: Callable[[Json], Json] = lambda state: state,
    ) -> None:
        """See and steer what trains with PyTorch, from before its first update on.

        Args:
            model: The model.
            optimizers: Those that share one backward pass.
            scaler: The gradient scaler, if there is one.
            scheduler: One of torch.optim.lr_scheduler, if there is one.
            place: Returns the loop's own part of a state, by name, with what it needs to go on from where it is (the
                sampler's position); without it, the run cannot go back.
            keep: Takes the whole state, and returns what of it is saved.

        Raises:
            RunStopped, RolledBack, Restart: As ``step``.
        """
        from engine.attached import REHEARSED_STEPS, Attached

        self._torch = Attached(self, model, optimizers, scaler, scheduler, place, keep)
        if not self.config.norms.enabled:
            return
        self._torch.install()
        self._settle()
        if place is not None and not self._rehearsed and self._judge.judges("determinism", Replay):
            self._rehearsed = True
            self._torch.rehearse(min(REHEARSED_STEPS, self._steps_per_epoch or REHEARSED_STEPS))

    def save(
        self,
        step: int,
        epoch: float | None,
        kinds: "Sequence[Kind]",
        metrics: dict[str, float] | None = None,
        best: "Mapping[str, Tensor] | None" = None,
    ) -> None:
        """Save a checkpoint of what is attached, record it and have it judged.

        Args:
            step: Updates done.
            epoch: Epochs done.
            kinds: What it is.
            metrics: Values that describe it, by ``split/name``.
            best: The weights that the loop keeps as the best, where it does; they must be copies.

        Raises:
            StorageError: It cannot be written; those before it stand as they were.
        """
        assert self._torch is not None, "nothing is attached that could be saved"
        self._torch.save(step, epoch, kinds, metrics or {}, best)

    def best_state(self) -> Path | None:
        """Return the state file of the best checkpoint, where there is one."""
        assert self._torch is not None, "nothing is attached that could have been saved"
        return self._torch.best_state()

    def checkpoint(self, saved: "Saved") -> None:
        """Record a checkpoint that is on disk."""
        self._log.append(
            events.Checkpoint(
                path=saved.path,
                step=saved.step,
                epoch=saved.epoch,
                sha256=saved.sha256,
                bytes=saved.bytes,
                kinds=list(saved.kinds),
                complete=saved.complete,
                metrics=saved.metrics,
            )
        )

    def limit(self, norm: str, name: str) -> float | None:
        """Return a limit of a norm in this run; None where the norm is not judged."""
        return self._judge.limit(norm, name) if self.config.norms.enabled else None

    def has_steps_after(self, step: int) -> bool:
        return self._total_steps is None or step < self._total_steps

    def go_back(self, step: int, position: Json | None) -> None:
        """Have the loop go on from ``step``, whose state has been restored, between this step and the next."""
        self._judge.rewind(step)
        self._jump = RolledBack(step, position)
        self.steps_done = step

    def restart(self, changes: Json | None = None) -> None:
        """Have the workload begin anew between this step and the next, with these keys of its configuration changed."""
        self._judge.rewind(0)
        self._jump = Restart(changes)
        self.steps_done = 0

    # --- one update ---

    def before_update(self, signal: Step) -> bool:
        """Judge what is about to be applied; return whether it may be. May hold until somebody has answered."""
        if not self.config.norms.enabled or self.rehearsing:
            return True
        if signal.epoch is None:
            signal = replace(signal, epoch=self.epoch_of(signal.step))
        if self._drawn is not None:
            signal = replace(signal, samples=len(self._drawn), batch=tuple(self._drawn[:_SHOWN_SAMPLES]))
        if "step" in self.config.sla.phases and signal.seconds is not None:
            self.phase_times.setdefault("step", []).append(signal.seconds)
        self._updating = True
        try:
            judged = self._judge.feed(signal)
            if judged is not NOTHING:
                withheld = self._agent.withhold(judged)
                self._found(judged, signal.step)
                self._leave_out |= withheld
        finally:
            self._updating = False
        apply, self._leave_out = not self._leave_out, False
        return apply

    def after_update(self, signal: Update) -> None:
        """Judge what an update did to the weights."""
        self.feed(signal)

    def step(self, step: int, epoch: float | None = None, samples: int = 0) -> None:
        """Note that update ``step`` is done, on ``samples`` samples.

        Raises:
            RunStopped: The run is to end. Save what should be kept and let it pass.
            RolledBack: The run is to go on from an earlier state.
            Restart: The run is to begin anew.
        """
        self.steps_done = step
        if self._torch is not None and (back := self._torch.stepped(step)) is not None:
            self.go_back(*back)
        if (
            not self.rehearsing and self._jump is None
        ):  # what is done in a rehearsal is undone: requests wait for its end
            self._steering.hear(step)
        self._settle()
        if not self.rehearsing:
            self._advance(step, epoch, samples)
            if (seen := self._system.poll(step, epoch)) is not None:
                self.metrics("system", step, self._system.metrics(), epoch)
                self.feed(seen)
            if time.monotonic() - self._stood_at >= STANDINGS_INTERVAL:
                self._tell_standings()

    def _settle(self) -> None:
        """Do what had to wait for this moment between two steps."""
        self._decisions.settle()
        if self._steering.paused:
            self._held(lambda: self._steering.paused)
        if self._steering.stop is not None:
            raise self._steering.stop
        if self._jump is not None:
            jump, self._jump = self._jump, None
            raise jump

    def _held(self, waits: Callable[[], bool]) -> None:
        with self.phase("hold"):
            self._hold(waits)

    def _hold(self, waits: Callable[[], bool]) -> None:
        """Wait while ``waits``, obeying what people ask; a stop or a signal ends it."""
        step = self.steps_done + self._updating
        seconds = self._steering.hold(waits, step, between_steps=not self._updating)
        if self._torch is not None:
            self._torch.pass_over(seconds)

    # --- evaluations, epochs, checkpoints, the end ---

    def evaluate(
        self, split: events.Split, step: int, epoch: float | None, evaluate: Callable[[], Evaluated]
    ) -> dict[str, float]:
        """Run ``evaluate``, have it judged, record its scores and return them; it is run again after a remedy.

        Raises:
            RunStopped, RolledBack, Restart: As ``step``.
        """
        found = self._evaluate(split, step, epoch, evaluate)
        while again := self._decisions.settle_evaluation():
            if self._torch is not None:
                self._torch.undo_evaluation()
            before, found = found, self._evaluate(split, step, epoch, evaluate)
            self._decisions.evaluated(again, _brief(before, split), _brief(found, split))
        self.metrics(split, step, found.scores, epoch=epoch)
        self._tell_standings()
        self._settle()
        return found.scores

    def _evaluate(self, split: str, step: int, epoch: float | None, evaluate: Callable[[], Evaluated]) -> Evaluated:
        if not self.config.norms.enabled:
            return evaluate()
        seen: Json = {}
        if self._torch is None:
            found = evaluate()
        else:
            found, seen = self._torch.evaluated(split, evaluate)
        self._decisions.evaluating = True
        try:
            self.feed(Evaluation(step=step, epoch=epoch, split=split, **(facts(found) | seen)))
        finally:
            self._decisions.evaluating = False
        return found

    def epoch(self, epoch: int, step: int, **seen: Any) -> None:
        """Have an epoch of training judged; ``seen`` are fields of norms.signals.EpochEnd that the loop knows.

        What was judged before the first update is judged again: parameters may have been unfrozen since.
        """
        self._look_again()
        known = self._torch.probe.epoch_facts() if self._torch is not None else {}
        self.feed(EpochEnd(step=step, epoch=epoch, **(known | seen)))

    def finish(self) -> None:
        """Do what is left to be done at the end of a run.

        Raises:
            RunStopped: The run is to end without it.
        """
        self._settle()
        self._tell_standings()

    def wait(self, waits: Callable[[], bool]) -> None:
        """Return when ``waits`` says no, obeying what people ask meanwhile.

        Raises:
            RunStopped: The run is to end.
        """
        self._hold(waits)
        self._settle()

    def detach(self) -> None:
        """Let go of the objects of a workload that has ended, or begins anew."""
        self._preflights.clear()
        if self._torch is not None:
            self._torch.remove()
            self._torch = None
        self.controls.withdraw(set(ACTIONS) - OWN_ACTIONS)

    def trained(self) -> None:
        """Say that no update will follow: the run can no longer go back, only begin anew."""
        self.controls.withdraw(("roll_back", "skip_step", "halve_batch"))

    def close(self) -> None:
        """Let go of the process: nothing that was put into it is left."""
        if self._torch is not None:
            self._torch.controls.close()
        self.detach()
        if self.seeds is not None:
            self.seeds.remove()

    def verdict(self) -> events.Verdict:
        """Return which norms are kept, broken, and broken by leave of a person."""
        return self._judge.verdict(self._decisions.overridden)

    def broken(self) -> events.Severity | None:
        """Return the gravest severity of what is broken, neither cured nor by leave of a person."""
        broken = set(self.verdict().broken)
        found = [reading.severity for reading in self._judge.readings() if reading.norm in broken]
        return max(found, key=SEVERITIES.index, default=None)

    # --- what people ask ---

    def interrupt(self, signal: str) -> None:
        """Have the next ``step`` raise RunStopped: for signal handlers, so it does nothing but note it."""
        self._steering.interrupt(signal)

    def stopped(self) -> None:
        """Note that the workload has let go, and with it the request to stop is done."""
        self._steering.stopped()

    def _skip_step(self, params: Json) -> Json:
        """Leave out this update; between two steps it is the next one."""
        self._leave_out = True
        update = self.steps_done + 1
        return {"before": {"update": update}, "after": {"left_out": update}}

    # --- how the norms stand ---

    def _tell_standings(self) -> None:
        """Record how the norms stand that have changed since this was last told."""
        self._stood_at = time.monotonic()
        if not self.config.norms.enabled:
            return
        found = {reading.norm: standing for reading in self._judge.readings() if (standing := _standing_of(reading))}
        changed = [standing for norm, standing in found.items() if self._standings.get(norm) != standing]
        if changed:
            self._standings = found
            self._log.append(events.Norms(step=self.steps_done, standings=changed))


def _standing_of(reading: Reading) -> events.Standing | None:
    if reading.standing == "not applicable":
        return None
    return events.Standing(
        norm=reading.norm,
        state=reading.standing,
        value=reading.value,
        limit=reading.limit,
        repeats=reading.repeats,
    )


def _brief(found: Evaluated, split: str) -> Json:
    return {f"{split}/{name}": found.scores[name] for name in ("loss", "accuracy") if name in found.scores}
