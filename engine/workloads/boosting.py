"""Gradient boosting with CatBoost: parameters, pools, judgement and files, for the workload and ``nora ml`` alike."""

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoostClassifier, CatBoostError, Pool
from numpy.typing import NDArray

from configs.errors import ConfigError, DataError, NoraError, StorageError
from configs.schema import CatBoostConfig
from engine.datasets.bank import TARGET, Split
from engine.workloads.catboost_snapshots import SNAPSHOT
from engine.workloads.scores import Labels, best_f1_threshold, calibration, scores

EVAL_METRIC = "AUC:hints=skip_train~false"
"""CatBoost leaves out the training AUC without this hint."""
LEAF_ESTIMATION_ITERATIONS = 10
"""CatBoost's default, which would be 1 for 200 iterations and fewer: a fit could not be resumed with another length."""


@dataclass(frozen=True)
class Part:
    """The rows of one part of a split, ready for CatBoost."""

    pool: Pool
    target: Labels


@dataclass(frozen=True)
class Parts:
    train: Part
    val: Part
    test: Part


@dataclass(frozen=True)
class Judgement:
    """What a fitted model is worth: scores, reliability table and predictions by part, and the threshold behind F1."""

    threshold: float
    scores: dict[str, dict[str, float]]
    calibration: dict[str, list[dict[str, float]]]
    probabilities: dict[str, NDArray[np.float64]]
    """By part: [rows], the predicted probability of class 1."""


def parameters(config: CatBoostConfig) -> dict[str, Any]:
    """Return CatBoost's parameters for the configuration; equal ones give equal models on as many threads."""
    chosen: dict[str, Any] = {
        "iterations": config.train.iterations,
        "learning_rate": config.optimizer.lr,
        "depth": config.model.depth,
        "l2_leaf_reg": config.model.l2_leaf_reg,
        "max_ctr_complexity": config.model.max_ctr_complexity,
        "leaf_estimation_iterations": LEAF_ESTIMATION_ITERATIONS,
        "loss_function": "Logloss",
        "eval_metric": EVAL_METRIC,
        "use_best_model": True,
        "random_seed": config.seed,
        "thread_count": config.runtime.threads or _usable_cores(),
        "logging_level": "Silent",
    }
    if config.train.early_stopping:
        chosen |= {"od_type": "Iter", "od_wait": config.train.early_stopping}
    device, _, number = config.runtime.device.partition(":")
    if device == "cuda":  # auto takes the CPU, where equal seeds give equal models (catboost issue 1066)
        chosen |= {"task_type": "GPU", "devices": number or "0"}
    return chosen


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def recording(train_dir: Path, snapshot_seconds: int) -> dict[str, Any]:
    """Return the parameters that have CatBoost flush its metrics and its state to ``train_dir``."""
    return {
        "train_dir": str(train_dir),
        "save_snapshot": True,
        "snapshot_file": str(train_dir / SNAPSHOT),
        "snapshot_interval": snapshot_seconds,
    }


def parts_of(frame: pd.DataFrame, columns: Sequence[str], split: Split) -> Parts:
    """Return the three parts of a table, as ``part_of`` does for one."""
    return Parts(*(part_of(frame, columns, rows) for rows in (split.train, split.val, split.test)))


def part_of(frame: pd.DataFrame, columns: Sequence[str], rows: NDArray[np.int64]) -> Part:
    """Return some rows of a table whose columns hold whole numbers or categories, and the target as 0 and 1."""
    categories = [name for name in columns if isinstance(frame[name].dtype, pd.CategoricalDtype)]
    chosen = frame.iloc[rows]
    target = chosen[TARGET].to_numpy(np.int8)
    return Part(Pool(chosen[list(columns)], target, cat_features=categories), target)


def classifier(config: CatBoostConfig, more: Mapping[str, Any] = MappingProxyType({})) -> CatBoostClassifier:
    """Return an unfitted model, with further parameters of CatBoost's."""
    return CatBoostClassifier(**parameters(config) | dict(more))


def short_fit(config: CatBoostConfig, part: Part, iterations: int) -> list[float]:
    """Return the training loss of the first iterations, fitted for nothing else: no files, no validation.

    Raises:
        NoraError: As ``fit``.
    """
    kept = {
        name: value
        for name, value in parameters(config).items()
        if name not in ("od_type", "od_wait", "use_best_model")
    }
    model = CatBoostClassifier(**kept | {"iterations": iterations, "allow_writing_files": False})
    try:
        model.fit(part.pool)
    except CatBoostError as error:
        raise _explained(error, config) from error
    losses: list[float] = model.evals_result_["learn"]["Logloss"]
    return losses


def fit(model: CatBoostClassifier, parts: Parts, config: CatBoostConfig) -> None:
    """Fit on the training part; the validation part stops it and picks the best iteration.

    Raises:
        ConfigError: The device cannot be used.
        DataError: CatBoost cannot learn from the data.
        StorageError: What it records cannot be written.
    """
    try:
        model.fit(parts.train.pool, eval_set=parts.val.pool)
    except CatBoostError as error:
        raise _explained(error, config) from error


def _explained(error: CatBoostError, config: CatBoostConfig) -> CatBoostError | NoraError:
    """Return CatBoost's error as one for people, where they can do something about it."""
    text = " ".join(str(error).split())
    # With a full disk it fails to notice that its snapshot was not written, and then to open it: hence file.cpp.
    if any(sign in text for sign in ("No space left", "Can't create train working dir", "util/system/file.cpp")):
        return StorageError(f"CatBoost cannot write its progress ({text}); make space, or choose another --runs-dir")
    if "All features are either constant or ignored" in text:
        return DataError("CatBoost cannot learn: every feature is constant or excluded; exclude fewer, or add rows")
    if config.runtime.device.startswith("cuda"):
        return ConfigError(f"runtime.device={config.runtime.device}: CatBoost cannot train there ({text}); use cpu")
    return error


def probabilities(model: CatBoostClassifier, pool: Pool) -> NDArray[np.float64]:
    """Return [rows], the predicted probability of class 1."""
    positive: NDArray[np.float64] = model.predict_proba(pool)[:, 1]
    return positive


def judge(model: CatBoostClassifier, parts: Parts) -> Judgement:
    """Score the model on validation and test rows; the threshold of F1 is chosen on the validation rows."""
    predicted = {"val": probabilities(model, parts.val.pool), "test": probabilities(model, parts.test.pool)}
    target = {"val": parts.val.target, "test": parts.test.target}
    threshold = best_f1_threshold(target["val"], predicted["val"])
    return Judgement(
        threshold,
        {name: scores(target[name], predicted[name], threshold) for name in predicted},
        {name: calibration(target[name], predicted[name]) for name in predicted},
        predicted,
    )


def importance(model: CatBoostClassifier) -> list[dict[str, Any]]:
    """Return each feature with its share, in percent, of the changes in prediction; the most important first."""
    shares = zip(model.feature_names_, model.get_feature_importance(), strict=True)
    return [{"feature": name, "importance": float(share)} for name, share in sorted(shares, key=lambda pair: -pair[1])]


def model_bytes(model: CatBoostClassifier, notes: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return the model in CatBoost's own format (.cbm, which holds no code), with ``notes`` in its metadata.

    Raises:
        StorageError: There is no space for a temporary file.
    """
    metadata = model.get_metadata()
    for name, text in notes.items():
        metadata[name] = text
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.cbm"
            model.save_model(str(path), format="cbm")
            return path.read_bytes()
    except (CatBoostError, OSError) as error:
        raise StorageError(f"the model cannot be saved ({' '.join(str(error).split())}); free some space") from error
