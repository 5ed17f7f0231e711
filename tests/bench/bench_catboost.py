"""What watching costs a CatBoost fit: the workload's fit against a bare one of the same parameters and data.

The bare fit has the same evaluation metrics, training AUC included, and writes CatBoost's own files as it does by
default; it takes no snapshots and nobody reads along. Fits are interleaved, the order changing from pair to pair.
"""

import tempfile
import time
from pathlib import Path
from statistics import median

from catboost import CatBoostClassifier
from table import Row, show

from configs.schema import BoostTrain, CatBoostConfig
from engine.controls import Controls
from engine.datasets import bank
from engine.watch import Watch
from engine.workloads import boosting, catboost
from sessions.log import EventLog
from sessions.paths import SessionPaths


def rows(quick: bool) -> list[Row]:
    config = CatBoostConfig(seed=1, train=BoostTrain(iterations=200 if quick else 1000))
    pairs = 3 if quick else 7
    table = bank.load(config.data)
    split = bank.stratified_split(table, config.train.val_fraction, config.train.test_fraction, config.seed)
    parts = boosting.parts_of(table.frame, bank.feature_columns(config.features.exclude), split)
    ours: list[float] = []
    bare: list[float] = []
    for pair in range(pairs):
        for watched in (True, False) if pair % 2 else (False, True):
            with tempfile.TemporaryDirectory() as folder:
                fit = _watched if watched else _bare
                (ours if watched else bare).append(fit(config, parts, Path(folder)))
    return [
        Row(
            name=f"CatBoost fit, {config.train.iterations} iterations at most",
            ours=median(ours),
            peer=median(bare),
            unit="s",
            peer_name="bare CatBoost",
            n=pairs,
            goal="≤ 1.03x",
            better="lower",
        )
    ]


def _watched(config: CatBoostConfig, parts: boosting.Parts, folder: Path) -> float:
    paths = SessionPaths(folder)
    log = EventLog(paths.events)
    watch = Watch(paths, log, Controls(paths))
    watch.begin(config.train.iterations)
    progress = catboost.Progress(watch, "", 0, len(parts.train.target))
    started = time.perf_counter()
    catboost.fit_watched(config, parts, folder / "fit", progress)
    seconds = time.perf_counter() - started
    log.close()
    return seconds


def _bare(config: CatBoostConfig, parts: boosting.Parts, folder: Path) -> float:
    model = CatBoostClassifier(**boosting.parameters(config), train_dir=str(folder))
    started = time.perf_counter()
    model.fit(parts.train.pool, eval_set=parts.val.pool)
    return time.perf_counter() - started


if __name__ == "__main__":
    show(rows(quick=False))
