"""What Watch does with live PyTorch objects: probes feed it, and it can change, save and restore them."""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace
from torch import Tensor, nn
from torch.optim import Optimizer

from engine import checkpoints
from engine.controls import ActionFailed, Effect
from engine.predictions import Evaluated
from engine.probes.torch import TorchProbe
from engine.probes.torch_controls import TorchControls
from norms.signals import CheckpointSaved, Names, Preflight, Replay, Step, Update
from sessions.events import Json

if TYPE_CHECKING:
    from engine.watch import Watch

REHEARSED_STEPS = 2
"""Steps that are done twice at the start of a run, from one snapshot; the second shows the update of the first."""
REPLAY_DEMANDED = 3
"""The limit ``demands`` of checkpoint-integrity from which on a checkpoint must be seen to give the same step again."""


@dataclass
class Rehearsal:
    """Steps that are done once for what they give, and once more, from a snapshot, for good."""

    snapshot: Json
    start: int
    """Updates done in the snapshot."""
    steps: int
    saved: checkpoints.Saved | None = None
    """The checkpoint that it was read from, which is what is tried; else the steps are."""
    first: list[float] = field(default_factory=list)
    """Losses and gradient norms."""
    second: list[float] = field(default_factory=list)


class Attached:
    """The model, optimizers, scaler and scheduler of a run, seen by a probe and changed by actions.

    Args:
        watch: Takes the signals and carries the decisions out.
        model: The model.
        optimizers: Those that share one backward pass.
        scaler: The gradient scaler, if there is one.
        scheduler: The learning rate scheduler, if there is one of PyTorch's.
        place: Returns the loop's own part of a state, with what it needs to go on from there; None: it cannot go back.
        keep: Takes the whole state and returns what of it is saved.
    """

    def __init__(
        self,
        watch: "Watch",
        model: nn.Module,
        optimizers: Sequence[Optimizer],
        scaler: torch.amp.GradScaler | None,
        scheduler: Any,
        place: Callable[[], Json] | None,
        keep: Callable[[Json], Json],
    ) -> None:
        self._watch = watch
        self._place = place
        self.probe = TorchProbe(model, optimizers, scaler=scaler, scheduler=scheduler, sink=_Sink(watch, self))
        self.controls = TorchControls(model, optimizers, scaler, scheduler, self.probe)
        self._keep = keep
        self._model = model
        self._forced: dict[str, list[nn.Module]] = {"train": [], "eval": []}
        self._saved: list[checkpoints.Saved] = []
        self._undo_evaluation: Callable[[], None] = lambda: None
        self._tried = False
        self._rehearsal: Rehearsal | None = None
        self._replayed: Rehearsal | None = None
        for action, handler in self.controls.handlers().items():
            if action != "skip_step":  # the Watch's own, which can wait for the next update
                watch.can(action, handler)
        watch.can("set_mode", self._set_mode, when="evaluation")
        watch.can("checkpoint_now", self._checkpoint_now, when="boundary")
        watch.can("save_again", self._save_again)
        if place is not None:
            watch.can("roll_back", self._roll_back, self._why_not_back, when="boundary")
            watch.can("reseed_restart", self._reseed_restart, when="boundary")

    # --- while it runs ---

    def install(self) -> None:
        self.probe.install()
        self._watch.preflight(self._preflight)

    def _preflight(self) -> Preflight:
        """Return what is known of the objects before the first update, and of the seeds.

        The seed on record counts only where it is the one that the generators were given.
        """
        watch = self._watch
        generators = None if watch.seeds is None else watch.seeds.generators()
        seed = watch.config.seed if torch.initial_seed() == watch.config.seed else None
        epoch = watch.epoch_of(watch.steps_done)
        return replace(self.probe.preflight(), epoch=epoch, generators=generators, seed=seed)

    def remove(self) -> None:
        """Let go: neither the probe nor an action that reached beyond the objects leaves anything in torch."""
        self.probe.remove()
        self.controls.close()

    def rehearse(self, steps: int) -> None:
        """Have the first ``steps`` steps done twice; see `Rehearsal`."""
        self._rehearsal = Rehearsal(self.whole_state(), self._watch.steps_done, steps)
        self._watch.rehearsing = True

    def noted(self, signal: Step) -> None:
        """Keep what a step gave, as long as it is compared."""
        values = [math.nan if each is None else each for each in (signal.loss, signal.grad_norm)]
        if self._rehearsal is not None:
            self._rehearsal.first += values
        elif self._replayed is not None:
            self._replayed.second += values

    def stepped(self, step: int) -> tuple[int, Json] | None:
        """Return the step and place to go back to when a rehearsal is over; have its repetition judged."""
        self.probe.settle()
        if (rehearsal := self._rehearsal) is not None and step >= rehearsal.start + rehearsal.steps:
            self.controls.restore(rehearsal.snapshot)
            self._rehearsal, self._replayed = None, rehearsal
            self._watch.rehearsing = False
            return rehearsal.start, self._place_in(rehearsal.snapshot)
        if (rehearsal := self._replayed) is not None and step >= rehearsal.start + rehearsal.steps:
            self._replayed = None
            pairs = zip(rehearsal.first, rehearsal.second, strict=True)
            difference = max((_difference(a, b) for a, b in pairs), key=_nan_first, default=None)
            self._watch.feed(_replayed(rehearsal, step, difference))
        return None

    def pass_over(self, seconds: float) -> None:
        self.probe.clock_shift(seconds)

    def evaluated(self, split: str, evaluate: Callable[[], Evaluated]) -> tuple[Evaluated, dict[str, Any]]:
        """Return what an evaluation found, and what its forward passes showed."""
        for module in self._forced["eval"]:
            module.train(False)
        generators = checkpoints.rng_state()
        with self.probe.evaluation(split) as seen:
            found = evaluate()
        for module in self._forced["train"]:
            module.train()

        def undo() -> None:
            seen.restore_buffers()
            checkpoints.restore_rng(generators)

        self._undo_evaluation = undo
        return found, seen.facts()

    def undo_evaluation(self) -> None:
        """Put back what the last evaluation changed, buffers and random generators, before it is made again."""
        self._undo_evaluation()

    def _set_mode(self, params: Json) -> Effect:
        """Put modules into a mode now, and from now on whenever an evaluation begins (eval) or is over (train)."""
        effect = self.controls.set_mode(params)
        modules = dict(self._model.named_modules())
        self._forced[params["mode"]] = [modules[name] for name in params.get("modules", [""])]
        return effect

    # --- checkpoints ---

    def whole_state(self) -> Json:
        """Return all that is attached, and the loop's own part."""
        return self.controls.state() | (self._place() if self._place else {})

    def _place_in(self, state: Json) -> Json:
        assert self._place is not None
        return {name: state[name] for name in self._place()}

    def save(
        self,
        step: int,
        epoch: float | None,
        kinds: Sequence[checkpoints.Kind],
        metrics: dict[str, float],
        best: Mapping[str, Tensor] | None,
    ) -> None:
        """Save what the loop keeps, record it, and have it judged."""
        whole = self.whole_state()
        self._write(self._keep(whole), step, epoch, kinds, metrics, expected=checkpoints.parts_of(whole), best=best)

    def _write(
        self,
        state: Json,
        step: int,
        epoch: float | None,
        kinds: Sequence[checkpoints.Kind],
        metrics: dict[str, float],
        *,
        expected: Names | None = None,
        best: Mapping[str, Tensor] | None = None,
    ) -> checkpoints.Saved:
        """Save a state; ``expected`` are the parts that it should have, if not those that it has."""
        with self._watch.phase("checkpoint", None if epoch is None else math.ceil(epoch)):
            saved = checkpoints.save(self._watch.paths.checkpoints, state, step, epoch, kinds, metrics)
        self._watch.checkpoint(saved)
        self._saved.append(saved)
        if not self._watch.config.norms.enabled:
            return saved
        contents, matches = self._read_back(saved)
        self._watch.feed(
            CheckpointSaved(
                step=step,
                epoch=epoch,
                path=saved.path,
                contents=contents,
                expected=expected or checkpoints.parts_of(state),
                hash_matches=matches,
                best_is_copy=None if best is None else not self._live & _storages(best.values()),
            )
        )
        if saved.complete and "safety" not in saved.kinds:
            self._try(saved)
        return saved

    @property
    def _live(self) -> set[int]:
        return _storages(self._model.state_dict().values())

    def _try(self, saved: checkpoints.Saved) -> None:
        """Have the first checkpoint reloaded after one more step, to see that it gives the same step again."""
        demands = self._watch.limit("checkpoint-integrity", "demands")
        if self._tried or self._place is None or demands is None or demands < REPLAY_DEMANDED:
            return
        self._tried = True
        if self._watch.has_steps_after(saved.step):
            state = checkpoints.load(self._watch.paths.root / saved.path)
            self._rehearsal = Rehearsal(state, saved.step, 1, saved)
            self._watch.rehearsing = True

    def best_state(self) -> Path | None:
        best = next((saved for saved in reversed(self._saved) if "best" in saved.kinds), None)
        return None if best is None else self._watch.paths.root / best.path / checkpoints.STATE

    def _read_back(self, saved: checkpoints.Saved) -> tuple[tuple[str, ...] | None, bool]:
        content = (self._watch.paths.root / saved.path / checkpoints.STATE).read_bytes()
        if hashlib.sha256(content).hexdigest() != saved.sha256:
            return None, False
        return checkpoints.parts_of(checkpoints.decode_state(content)), True

    def _checkpoint_now(self, params: Json) -> Effect:
        before = self._saved[-1].path if self._saved else None
        step = self._watch.steps_done
        saved = self._write(self.whole_state(), step, self._watch.epoch_of(step), ["last"], {})
        return {"before": {"last": before}, "after": {"last": saved.path}}

    def _save_again(self, params: Json) -> Effect:
        if not self._saved:
            raise ActionFailed("no checkpoint has been saved yet; use checkpoint_now")
        last = self._saved[-1]
        kinds: list[checkpoints.Kind] = list(last.kinds) or ["last"]
        self._keep = _whole  # what is left out by those that save would be left out again
        saved = self._write(self.whole_state(), last.step, last.epoch, kinds, last.metrics)
        return {
            "before": {"path": last.path, "complete": last.complete},
            "after": {"path": saved.path, "complete": saved.complete},
        }

    # --- going back ---

    def _candidates(self, params: Json) -> list[checkpoints.Saved]:
        """Return the checkpoints that can be gone back to, the newest last."""
        latest = self._watch.steps_done - params.get("steps", 0)
        return [
            saved
            for saved in self._saved
            if saved.complete
            and "safety" not in saved.kinds
            and saved.step <= latest
            and params.get("checkpoint") in (None, saved.path)
            and (self._watch.paths.root / saved.path).is_dir()
        ]

    def _why_not_back(self, params: Json) -> str | None:
        return None if self._candidates(params) else "there is no complete checkpoint from so long ago"

    def _roll_back(self, params: Json) -> Effect:
        candidates = self._candidates(params)
        if not candidates:
            raise ActionFailed("there is no complete checkpoint to go back to any more")
        target, before = candidates[-1], self._watch.steps_done
        state = checkpoints.load(self._watch.paths.root / target.path)
        self._write(self.whole_state(), before, self._watch.epoch_of(before), ["safety"], {})
        self.controls.restore(state)
        self._watch.go_back(target.step, None if params.get("skip_batches") else self._place_in(state))
        return {"before": {"step": before}, "after": {"step": target.step, "checkpoint": target.path}}

    def _reseed_restart(self, params: Json) -> Effect:
        own = self._watch.config.seed
        seed, before = params.get("seed", own), self._watch.steps_done
        if self._watch.seeds is not None:
            self._watch.seeds.begin()
        checkpoints.seed_all(seed)
        self._watch.restart(None if seed == own else {"seed": seed})
        return {"before": {"step": before}, "after": {"step": 0, "seed": seed}}


class _Sink:
    """What the probe reports to."""

    def __init__(self, watch: "Watch", attached: Attached) -> None:
        self._watch = watch
        self._attached = attached

    @property
    def next_step(self) -> int:
        return self._watch.steps_done + 1

    @property
    def epoch(self) -> float | None:
        return self._watch.epoch_of(self.next_step)

    def before_update(self, signal: Step) -> None:
        self._attached.noted(signal)
        if not self._watch.before_update(signal):
            self._attached.probe.skip()

    def after_update(self, signal: Update) -> None:
        self._watch.after_update(signal)


def _replayed(rehearsal: Rehearsal, step: int, difference: float | None) -> Replay | CheckpointSaved:
    if rehearsal.saved is None:
        return Replay(step=step, steps=rehearsal.steps, difference=difference)
    return CheckpointSaved(step=step, path=rehearsal.saved.path, replay_equal=difference == 0)


def _storages(tensors: Iterable[Tensor]) -> set[int]:
    """Return where the memory of tensors begins; those of one storage share it."""
    return {tensor.untyped_storage().data_ptr() for tensor in tensors}


def _whole(state: Json) -> Json:
    return state


def _difference(first: float, second: float) -> float:
    """Return the relative difference; 0 where both are NaN or equal infinities."""
    if first == second or (math.isnan(first) and math.isnan(second)):
        return 0.0
    return abs(first - second) / max(abs(first), abs(second))


def _nan_first(value: float) -> float:
    return math.inf if math.isnan(value) else value
