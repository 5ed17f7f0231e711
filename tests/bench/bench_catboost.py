"""What watching costs a CatBoost fit: the workload's fit against a bare one of the same parameters and data.

The bare fit has the same evaluation metrics, training AUC included, and writes CatBoost's own files as it does by
default; it takes no snapshots and nobody reads along. Fits take turns.
"""

import sys
import tempfile
from functools import partial
from pathlib import Path

from catboost import CatBoostClassifier
from table import Row, interleaved, markdown

from configs.schema import BoostTrain, CatBoostConfig
from engine.datasets import bank
from engine.watch import Watch
from engine.workloads import boosting, catboost
from engine.workloads.catboost_steering import Steering
from sessions.log import EventLog
from sessions.paths import SessionPaths


def rows(quick: bool) -> list[Row]:
    config = CatBoostConfig(seed=1, train=BoostTrain(iterations=200 if quick else 1000))
    n = 5 if quick else 9
    table = bank.load(config.data)
    split = bank.stratified_split(table, config.train.val_fraction, config.train.test_fraction, config.seed)
    parts = boosting.parts_of(table.frame, bank.feature_columns(config.features.exclude), split)
    watched, bare = interleaved(n, partial(_watched, config, parts), partial(_bare, config, parts))
    name = f"CatBoost fit, bank-full, at most {config.train.iterations} iterations"
    return [Row(name, watched, bare, "s", "bare CatBoost", n, "≤ 1.03x", "lower")]


def _watched(config: CatBoostConfig, parts: boosting.Parts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = SessionPaths(Path(folder))
        log = EventLog(paths.events)
        watch = Watch(paths, log, config)
        watch.begin(config.train.iterations)
        paths.checkpoints.mkdir()
        progress = catboost.Progress(watch, Steering(config, watch), "", 0, parts)
        catboost.fit_watched(parts, paths.checkpoints / "model", progress)
        log.close()


def _bare(config: CatBoostConfig, parts: boosting.Parts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = CatBoostClassifier(**boosting.parameters(config), train_dir=folder)
        model.fit(parts.train.pool, eval_set=parts.val.pool)


if __name__ == "__main__":
    print(markdown(rows(quick="--quick" in sys.argv)))
