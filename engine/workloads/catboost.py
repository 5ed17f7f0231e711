"""Gradient-boosted trees on Bank Marketing, watched iteration by iteration.

Two models are fitted, one after the other: the headline model is tested on rows drawn at random, the second one is
fitted on the older rows and tested on the newest, and its figures carry the prefix ``date/``. Both are always shown:
the headline is what others report for this data, the second what a bank would meet. Steps count the iterations of both.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from configs.schema import CatBoostConfig
from engine.datasets import bank
from engine.environment import gpus
from engine.watch import RunStopped, Watch
from engine.workloads import Plan
from sessions.files import PRIVATE_DIR, write_atomic

if TYPE_CHECKING:
    from catboost import CatBoostClassifier

    from engine.workloads.boosting import Parts


def plan(config: CatBoostConfig) -> Plan:
    """Return the iterations of both fits; early stopping may end either sooner."""
    return Plan(total_steps=2 * config.train.iterations, total_epochs=None)


def preflight(config: CatBoostConfig) -> None:
    """Refuse a device that is not there, columns that do not exist, and data that cannot be read or split.

    Raises:
        ConfigError: ``runtime.device`` or ``features.exclude`` cannot be had.
        DataError: The data is missing, broken or too small.
    """
    check_device(config)
    bank.feature_columns(config.features.exclude)
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

    Raises:
        RunStopped: The run was asked to stop; the model so far has been saved and judged.
        NoraError: What went wrong, where, and what to do.
    """
    from engine.workloads.boosting import parts_of

    for folder in (watch.paths.checkpoints, watch.paths.artifacts):
        folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)
    with watch.phase("data"):
        table = bank.load(config.data)
        columns = bank.feature_columns(config.features.exclude)
        shares = (config.train.val_fraction, config.train.test_fraction)
        parts = parts_of(table.frame, columns, bank.stratified_split(table, *shares, config.seed))
        dated_parts = parts_of(table.frame, columns, bank.date_split(table, *shares, config.seed))
    watch.log(
        "info",
        f"{len(table.frame)} rows of {table.path.name}, {table.target.mean():.1%} positive, {len(columns)} features; "
        f"by date, the newest {len(dated_parts.test.target)} rows have {dated_parts.test.target.mean():.1%}",
    )
    iterations, headline = _stage(config, parts, watch, "model", "", 0)
    watch.begin(iterations + config.train.iterations)
    _, dated = _stage(config, dated_parts, watch, "model-date", "date/", iterations)
    return headline | {
        "date": dated,
        "data": {"path": str(table.path), "sha256": table.sha256, "rows": len(table.frame)},
    }


def _stage(
    config: CatBoostConfig, parts: "Parts", watch: Watch, name: str, prefix: str, after: int
) -> tuple[int, dict[str, Any]]:
    """Fit, judge and keep one model as ``name``; return its iterations and summary.

    ``prefix`` stands before the names of its metrics and phases; ``after`` steps have been taken before it.
    """
    progress = Progress(watch, prefix, after, len(parts.train.target))
    with watch.phase(f"{prefix}train"):
        model, stop = fit_watched(config, parts, watch.paths.checkpoints / name, progress)
    with watch.phase(f"{prefix}test"):
        summary = _judge(model, parts, watch, name, prefix, after)
    if stop is not None:
        raise stop
    done = f"{prefix}train: {progress.iterations} iterations, best at {model.tree_count_}"
    watch.log("info", done + (" (stopped early)" if progress.iterations < config.train.iterations else ""))
    return progress.iterations, {"iterations": progress.iterations} | summary


@dataclass
class Progress:
    """Records every iteration of one fit, and remembers the last."""

    watch: Watch
    prefix: str
    after: int
    rows: int
    iterations: int = 0

    def __call__(self, iteration: int, learn: dict[str, float], val: dict[str, float]) -> None:
        self.iterations = iteration
        step = self.after + iteration
        self.watch.metrics("train", step, _named(self.prefix, learn))
        self.watch.metrics("val", step, _named(self.prefix, val))
        self.watch.step(step, samples=self.rows)


def _named(prefix: str, values: dict[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in values.items()}


def fit_watched(
    config: CatBoostConfig, parts: "Parts", train_dir: Path, progress: Progress
) -> tuple["CatBoostClassifier", RunStopped | None]:
    """Return the fitted model, and the request to stop that ended the fit, if one did."""
    from catboost import CatBoostClassifier

    from engine.workloads import boosting
    from engine.workloads.catboost_files import followed

    parameters = boosting.parameters(config) | boosting.recording(train_dir, config.checkpoint.snapshot_seconds)
    model = CatBoostClassifier(**parameters)
    try:
        followed(lambda: boosting.fit(model, parts, config), train_dir, progress)
    except RunStopped as stop:
        if not model.is_fitted():
            # An interrupted fit leaves no model. From its snapshot the same one is had again, up to the last record.
            model = CatBoostClassifier(**parameters | {"iterations": progress.iterations})
            boosting.fit(model, parts, config)
        return model, stop
    return model, None


def _judge(
    model: "CatBoostClassifier", parts: "Parts", watch: Watch, name: str, prefix: str, after: int
) -> dict[str, Any]:
    """Record what the model is worth, keep it with its importances and calibration, and return its summary."""
    from engine.workloads import boosting

    found = boosting.judge(model, parts)
    step = after + model.tree_count_
    watch.metrics("val", step, _named(prefix, found.scores["val"] | {"threshold": found.threshold}))
    watch.metrics("test", step, _named(prefix, found.scores["test"]))
    folder = watch.paths.artifacts
    for path, kind, content in (
        (folder / f"{name}.cbm", "model", boosting.model_bytes(model)),
        (folder / f"{name}-importance.json", "feature_importance", _as_json(boosting.importance(model))),
        (folder / f"{name}-calibration.json", "calibration", _as_json(found.calibration)),
    ):
        write_atomic(path, content)
        watch.artifact(path, kind)
    return {"trees": model.tree_count_, "threshold": found.threshold} | found.scores


def _as_json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"
