"""What a CatBoost run can be told to do while it fits.

Nothing changes a fit from within: it is changed by ending it and resuming it from its snapshot, bit for bit where it
was. So handlers only note what is wanted; the main thread, which fits, does it.
"""

import time
from typing import TYPE_CHECKING, cast

from msgspec.structs import replace

from configs.schema import CatBoostConfig
from engine.controls import ActionFailed, Effect
from engine.datasets import bank
from engine.injections_boost import PLANTED, ColumnOrder, snapshot_writer
from engine.watch import Watch
from engine.workloads.catboost_snapshots import Kept, Kind, Snapshots
from sessions.events import Json
from sessions.files import write_atomic

if TYPE_CHECKING:
    from engine.checkpoints import Saved

KEEP_SECONDS = 5.0
"""Between two copies of the snapshot, at the least: so far, and the seconds between two snapshots, a run can lose."""


class Refit(Exception):
    """The fit is to end, and to go on where it is with what has changed."""


class Steering:
    """Holds what has been asked of the run, and offers what can be asked.

    Args:
        config: As the run was begun.
        watch: Asks.
    """

    def __init__(self, config: CatBoostConfig, watch: Watch) -> None:
        self.config = config
        """As it is now."""
        self.watch = watch
        self.column_order = ColumnOrder(config.violation)
        self.snapshots: Snapshots | None = None
        """Of the fit that is under way, if one is."""
        self.target: Kept | None = None
        """What to go back to, once the fit has ended."""
        self._write = snapshot_writer(config.violation)
        self._refit = False
        self._kept_at = time.monotonic()
        if planted := PLANTED.get(config.violation):
            watch.log("info", f"planted: {planted}", "injection")
        watch.can("set_lr", self._set_lr, self._why_no_lr, when="boundary")
        watch.can("checkpoint_now", self._checkpoint_now)
        watch.can("save_again", self._save_again)
        watch.can("roll_back", self._roll_back, self._why_not_back, when="boundary")
        watch.can("drop_column", self._drop_column, self._why_not_drop, when="boundary")
        watch.can("reseed_restart", self._reseed_restart, when="boundary")

    def fitting(self, snapshots: Snapshots) -> None:
        """Note that a fit begins."""
        snapshots.write = self._write
        self.snapshots = snapshots
        self._refit = False

    def fitted(self) -> None:
        """Note that the fit is over: there is nothing to go back in, and its end is all that need be kept."""
        if self.snapshots is not None:
            self.snapshots.prune(1)
        self.snapshots = None

    def stepped(self, iteration: int) -> None:
        """Do what is due after an iteration.

        Raises:
            Refit: Something has changed that only a resumed fit takes up.
        """
        if time.monotonic() - self._kept_at >= KEEP_SECONDS and self.snapshots is not None:
            self.keep(iteration, ("periodic",))
        if self._refit:
            self._refit = False
            raise Refit

    def keep(self, iteration: int, kinds: tuple[Kind, ...]) -> Kept | None:
        """Copy the snapshot, record the copy, and have it judged; None where there is no snapshot yet."""
        assert self.snapshots is not None, "no fit is under way"
        self._kept_at = time.monotonic()
        if (kept := self.snapshots.keep(iteration, kinds)) is not None:
            self.watch.checkpoint(cast("Saved", kept))  # it has the same fields; the module of the other loads torch
            self.watch.feed(self.snapshots.signal(kept))
        return kept

    # --- the learning rate ---

    def _set_lr(self, params: Json) -> Effect:
        before = self.config.optimizer.lr
        after = self._lr_after(params)
        self.config = replace(self.config, optimizer=replace(self.config.optimizer, lr=after))
        self._refit = True
        return {"before": {"lr": before}, "after": {"lr": after}}

    def _lr_after(self, params: Json) -> float:
        return float(params["lr"] if "lr" in params else self.config.optimizer.lr * params["factor"])

    def _why_no_lr(self, params: Json) -> str | None:
        after = self._lr_after(params)
        return None if after <= 1 else f"a shrinkage of {after:g} is more than 1"

    # --- checkpoints ---

    def _checkpoint_now(self, params: Json) -> Effect:
        before = self.snapshots.kept[-1].path if self.snapshots and self.snapshots.kept else None
        kept = self._keep_or_fail(("last",))
        return {"before": {"last": before}, "after": {"last": kept.path, "step": kept.step}}

    def _save_again(self, params: Json) -> Effect:
        if self.snapshots is None or not self.snapshots.kept:
            raise ActionFailed("no checkpoint has been saved yet; use checkpoint_now")
        last = self.snapshots.kept[-1]
        self._write = self.snapshots.write = write_atomic
        kept = self._keep_or_fail(last.kinds)
        return {
            "before": {"path": last.path, "complete": last.complete},
            "after": {"path": kept.path, "complete": kept.complete},
        }

    def _keep_or_fail(self, kinds: tuple[Kind, ...]) -> Kept:
        if self.snapshots is None:
            raise ActionFailed("nothing is being fitted")
        kept = self.keep(self.watch.steps_done - self.snapshots.after, kinds)
        if kept is None:
            seconds = self.config.checkpoint.snapshot_seconds
            raise ActionFailed(f"CatBoost has written no snapshot yet; it does every {seconds} s of a fit")
        return kept

    # --- going back ---

    def _back(self, params: Json) -> Kept | None:
        if self.snapshots is None:
            return None
        return self.snapshots.before(self.watch.steps_done - params.get("steps", 0), params.get("checkpoint"))

    def _why_not_back(self, params: Json) -> str | None:
        if self.snapshots is None:
            return "nothing is being fitted"
        if params.get("skip_batches"):
            return "boosting has no batches to leave out"
        return None if self._back(params) is not None else "this fit has no complete checkpoint from so long ago"

    def _roll_back(self, params: Json) -> Effect:
        if (target := self._back(params)) is None or self.snapshots is None:
            raise ActionFailed("there is no complete checkpoint to go back to any more")
        before = self.watch.steps_done
        self.keep(before - self.snapshots.after, ("safety",))
        self.target = target
        self.watch.go_back(target.step, {"iteration": target.iteration})
        return {"before": {"step": before}, "after": {"step": target.step, "checkpoint": target.path}}

    def put_back(self) -> None:
        """Have CatBoost's snapshot be the one to go back to; the fit must have ended."""
        assert self.snapshots is not None and self.target is not None, "nobody asked to go back"
        self.snapshots.put_back(self.target)
        self._refit = False

    # --- beginning anew ---

    def _why_not_drop(self, params: Json) -> str | None:
        used = bank.feature_columns(self.config.features.exclude)
        if unknown := [name for name in params["columns"] if name not in used]:
            return f"it does not learn from {', '.join(unknown)}"
        return None if set(params["columns"]) < set(used) else "no column would be left to learn from"

    def _drop_column(self, params: Json) -> Effect:
        before = self.config.features.exclude
        after = [*before, *params["columns"]]
        effect = self._begin_anew({"features": {"exclude": after}})
        effect["before"]["exclude"], effect["after"]["exclude"] = before, after
        return effect

    def _reseed_restart(self, params: Json) -> Effect:
        before, after = self.config.seed, params.get("seed", self.config.seed)
        self.config = replace(self.config, seed=after)
        self.column_order.reseed(after)
        effect = self._begin_anew()
        effect["before"]["seed"], effect["after"]["seed"] = before, after
        return effect

    def _begin_anew(self, changes: Json | None = None) -> Effect:
        before = self.watch.steps_done
        self.snapshots = None
        self.watch.restart(changes)
        return {"before": {"step": before}, "after": {"step": 0}}
