"""Gradient-boosted trees on Bank Marketing, watched iteration by iteration.

Two models are fitted, one after the other: the headline model is tested on rows drawn at random, the second one is
fitted on the older rows and tested on the newest, and its figures carry the prefix ``date/``. Both are always shown:
the headline is what others report for this data, the second what a bank would meet. Steps count the iterations of both.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.schema import CatBoostConfig
from engine import reports
from engine.datasets import bank
from engine.environment import gpus
from engine.probes import catboost as probe
from engine.probes.data import features, overlaps
from engine.watch import Restart, RolledBack, RunStopped, Watch
from engine.workloads import Plan
from engine.workloads.catboost_files import Row, followed
from engine.workloads.catboost_snapshots import Snapshots, clear
from engine.workloads.catboost_steering import Refit, Steering
from norms.signals import Candidate, Preflight, RunEnd
from sessions.files import PRIVATE_DIR, write_atomic

if TYPE_CHECKING:
    from catboost import CatBoostClassifier

    from engine.workloads.boosting import Judgement, Parts

SELECTED_ON, REPORTED_ON = ("val",), ("test",)
EVALUATE_EVERY = 100
"""Iterations between two judgements of the validation figures; a model of fewer says little yet."""
REPLAYED_ITERATIONS = 5
REPLAYED_ROWS = 50_000
"""Training rows of a replay, at the most: its two fits are to take a fraction of a second."""


def plan(config: CatBoostConfig) -> Plan:
    """Return the iterations of both fits; early stopping may end either sooner."""
    return Plan(total_steps=2 * config.train.iterations, total_epochs=None)


def preflight(config: CatBoostConfig) -> None:
    """Refuse a device that is not there, columns that do not exist, and data that cannot be read or split.

    Raises:
        ConfigError: ``runtime.device``, ``features.exclude`` or ``drift.cohorts`` cannot be had.
        DataError: The data is missing, broken or too small.
    """
    check_device(config)
    bank.feature_columns(config.features.exclude)
    bank.check_cohorts(config.drift.cohorts)
    table = bank.load(config.data)
    bank.stratified_split(table, config.train.val_fraction, config.train.test_fraction, config.seed)
    bank.date_split(table, config.train.val_fraction, config.train.test_fraction, config.seed)


def check_device(config: CatBoostConfig) -> None:
    """Raises ConfigError where ``runtime.device`` names a GPU that is not there."""
    device, _, number = config.runtime.device.partition(":")
    if device == "cuda" and int(number or 0) >= (found := len(gpus())):
        raise ConfigError(f"runtime.device={config.runtime.device}: this machine has {found} CUDA devices; use cpu")


def run(config: CatBoostConfig, watch: Watch) -> dict[str, Any]:
    """Fit and judge the headline model, then the one tested on the newest rows. For the main thread (see ``followed``).

    Where it is to begin anew as it was configured, it does so by itself: what was seeded for that stays seeded.

    Raises:
        Restart: The run is to begin anew with another configuration.
        RunStopped: The run was asked to stop; the model so far has been saved and judged.
        NoraError: What went wrong, where, and what to do.
    """
    for folder in (watch.paths.checkpoints, watch.paths.artifacts):
        folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)
    with watch.phase("data"):
        table = bank.load(config.data)
    steering = Steering(config, watch)
    while True:
        try:
            return _train(steering, table, watch)
        except Restart as again:
            clear(watch.paths.checkpoints, tuple(watch.paths.checkpoints / name for name in ("model", "model-date")))
            if again.changes:
                raise
            watch.detach()


@dataclass(frozen=True)
class Stage:
    """One of the two fits."""

    name: str
    """Of its model."""
    prefix: str
    """Before the names of its metrics, splits and phases."""
    split: bank.Split
    after: int
    """Steps that were taken before it."""


def _train(steering: Steering, table: bank.Table, watch: Watch) -> dict[str, Any]:
    config = steering.config
    watch.begin(2 * config.train.iterations)
    shares = (config.train.val_fraction, config.train.test_fraction)
    with watch.phase("data"):
        headline = Stage("model", "", bank.stratified_split(table, *shares, config.seed), 0)
        dated_split = bank.date_split(table, *shares, config.seed)
    newest = table.target[dated_split.test]
    watch.log(
        "info",
        f"{len(table.frame)} rows of {table.path.name}, {table.target.mean():.1%} positive, "
        f"{len(bank.feature_columns(config.features.exclude))} features; by date, the newest {len(newest)} rows have "
        f"{newest.mean():.1%}",
    )
    _check(steering, table, (headline.split, dated_split), watch)
    watch.step(0)  # what was decided about the data is done before anything is fitted
    first = _stage(steering, table, headline, watch)
    watch.begin(first.iterations + config.train.iterations)
    second = _stage(steering, table, Stage("model-date", "date/", dated_split, first.iterations), watch)
    summary = first.summary() | {
        "date": second.summary(),
        "data": {"path": str(table.path), "sha256": table.sha256, "rows": len(table.frame)},
    }
    _conclude(steering.config, table, headline, first, watch)
    return summary


def _check(steering: Steering, table: bank.Table, splits: tuple[bank.Split, bank.Split], watch: Watch) -> None:
    """Have judged what can be before the fit: the data, what CatBoost promises, and two short fits that must agree."""
    from engine.workloads import boosting

    config = steering.config
    if not config.norms.enabled:
        return
    columns = bank.feature_columns(config.features.exclude)
    rows, dated = ({part: table.frame.iloc[getattr(split, part)] for part in bank.PARTS} for split in splits)
    watch.feed(
        Preflight(
            step=0,
            features=features(rows["train"][columns], table.target[splits[0].train], bank.POST_OUTCOME),
            overlaps=(*overlaps(rows), *probe.named(overlaps(dated), "date/")),
            selected_on=SELECTED_ON,
            reported_on=REPORTED_ON,
        )
    )
    parameters = boosting.parameters(config)
    watch.feed(probe.preflight_of_run(parameters, 2 * config.train.iterations, config.seed))
    watch.made_of(table.sha256)

    def losses() -> Sequence[float]:
        part = boosting.part_of(table.frame, steering.column_order(columns), splits[0].train[:REPLAYED_ROWS])
        return boosting.short_fit(config, part, REPLAYED_ITERATIONS)

    if parameters.get("task_type") != "GPU":  # where nothing promises that they agree
        watch.feed(probe.replay(losses))


@dataclass(frozen=True)
class Fitted:
    """A model, and what it is worth."""

    iterations: int
    trees: int
    found: "Judgement"

    def summary(self) -> dict[str, Any]:
        return {"iterations": self.iterations, "trees": self.trees, "threshold": self.found.threshold} | (
            self.found.scores
        )


def _stage(steering: Steering, table: bank.Table, stage: Stage, watch: Watch) -> Fitted:
    """Fit, judge and keep one model."""
    from engine.workloads import boosting

    config = steering.config
    columns = steering.column_order(bank.feature_columns(config.features.exclude))
    parts = boosting.parts_of(table.frame, columns, stage.split)
    progress = Progress(watch, steering, stage.prefix, stage.after, parts)
    with watch.phase(f"{stage.prefix}train"):
        model, stop = fit_watched(parts, watch.paths.checkpoints / stage.name, progress)
    with watch.phase(f"{stage.prefix}test"):
        fitted = _judge(model, parts, watch, stage, progress)
    if stop is not None:
        raise stop
    done = f"{stage.prefix}train: {progress.iterations} iterations, best at {fitted.trees}"
    watch.log("info", done + (" (stopped early)" if progress.iterations < config.train.iterations else ""))
    return fitted


class Progress:
    """Records every iteration of one fit, has it judged, and remembers the last."""

    def __init__(self, watch: Watch, steering: Steering, prefix: str, after: int, parts: "Parts") -> None:
        self.watch = watch
        self.steering = steering
        self.after = after
        self.iterations = 0
        self.val: dict[int, dict[str, float]] = {}
        """What CatBoost said of the validation rows, by iteration."""
        self._prefix = prefix
        self._rows = len(parts.train.target)
        self._shares = probe.class_shares(parts.val.target)
        self._timed = "step" in steering.config.sla.phases

    def __call__(self, row: Row) -> None:
        self.iterations = row.iteration
        step, watch = self.after + row.iteration, self.watch
        watch.metrics("train", step, _named(self._prefix, row.learn))
        watch.metrics("val", step, _named(self._prefix, row.val))
        self.val[row.iteration] = row.val
        if self._timed and row.seconds is not None:
            watch.phase_times.setdefault("step", []).append(row.seconds)
        lr = self.steering.config.optimizer.lr
        watch.feed(probe.step_of(step, self._prefix, row.learn, self._rows, lr, row.seconds))
        if row.iteration % EVALUATE_EVERY == 0:
            watch.feed(probe.validation_of(step, f"{self._prefix}val", row.val, self._shares))
        watch.step(step, samples=self._rows)
        self.steering.stepped(row.iteration)


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in values.items()}


def fit_watched(parts: "Parts", train_dir: Path, progress: Progress) -> tuple["CatBoostClassifier", RunStopped | None]:
    """Return the fitted model, and the request to stop that ended the fit, if one did.

    Raises:
        Restart: The run is to begin anew.
    """
    from engine.workloads import boosting

    steering = progress.steering
    steering.fitting(Snapshots(progress.watch.paths.checkpoints, train_dir, progress.after))
    stop: RunStopped | None = None
    done = False
    while not done:
        config = steering.config
        recording = boosting.recording(train_dir, config.checkpoint.snapshot_seconds)
        model = boosting.classifier(config, recording)
        fit = partial(boosting.fit, model, parts, config)
        try:
            followed(fit, train_dir, progress, progress.iterations)
            done = True
        except RolledBack as back:
            steering.put_back()
            progress.iterations = back.step - progress.after
        except (Refit, RunStopped) as reason:
            # An interrupted fit leaves no model. From its snapshot the same one is had again, up to the last record.
            if not model.is_fitted():
                model = boosting.classifier(config, recording | {"iterations": progress.iterations})
                boosting.fit(model, parts, config)
            if isinstance(reason, RunStopped):
                stop, done = reason, True
    steering.keep(progress.iterations, ("last",))
    steering.fitted()
    return model, stop


def _judge(model: "CatBoostClassifier", parts: "Parts", watch: Watch, stage: Stage, progress: Progress) -> Fitted:
    """Record what the model is worth, have that judged, and keep it with its importances and calibration."""
    from engine.workloads import boosting

    found = boosting.judge(model, parts)
    step = stage.after + model.tree_count_
    watch.metrics("val", step, _named(stage.prefix, found.scores["val"] | {"threshold": found.threshold}))
    watch.metrics("test", step, _named(stage.prefix, found.scores["test"]))
    said = progress.val.get(model.tree_count_, {})  # the snapshot of a fit that was ended may be ahead of what it said
    for split, target, reported in (
        ("val", parts.val.target, found.scores["val"] | said),
        ("test", parts.test.target, found.scores["test"]),
    ):
        at = stage.after + progress.iterations
        watch.feed(probe.judgement_of(at, stage.prefix + split, reported, target, found.probabilities[split]))
    folder = watch.paths.artifacts
    for path, kind, content in (
        (folder / f"{stage.name}.cbm", "model", boosting.model_bytes(model)),
        (folder / f"{stage.name}-importance.json", "feature_importance", _as_json(boosting.importance(model))),
        (folder / f"{stage.name}-calibration.json", "calibration", _as_json(found.calibration)),
    ):
        write_atomic(path, content)
        watch.artifact(path, kind)
    return Fitted(progress.iterations, model.tree_count_, found)


def _conclude(config: CatBoostConfig, table: bank.Table, stage: Stage, fitted: Fitted, watch: Watch) -> None:
    """Write the reports on the headline model, and have the end judged."""
    rows = stage.split.test
    test = fitted.found.scores["test"]
    reports.judge_end(
        watch,
        config,
        RunEnd(
            step=watch.steps_done,
            selected_on=SELECTED_ON,
            reported_on=REPORTED_ON,
            candidate=Candidate(split="test", accuracy=test["accuracy"], ece=test["ece"]),
        ),
        cohorts=reports.cohorts_of(
            {name: table.frame[name].to_numpy()[rows] for name in config.drift.cohorts},
            table.target[rows],
            fitted.found.probabilities["test"],
            fitted.found.threshold,
        ),
        model=watch.paths.artifacts / f"{stage.name}.cbm",
        metrics=_named("test/", test),
    )


def _as_json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
