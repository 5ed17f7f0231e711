"""The tabular pipeline as four separate steps: validate, build features, train, evaluate.

Loading, splitting, parameters and scores are those of the catboost workload. What the steps add are the files between
them, so that each can be looked into, repeated, and run elsewhere. A step publishes its files at its end, all of them
or none.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from configs.errors import ConfigError, DataError, StorageError
from configs.schema import CatBoostConfig
from engine.datasets import bank
from engine.workloads.catboost import check_device
from sessions.files import sha256_of, write_atomic

if TYPE_CHECKING:
    from catboost import CatBoostClassifier

Splitting = Literal["stratified", "date"]
SPLITTINGS: tuple[Splitting, ...] = ("stratified", "date")
_SPLIT_COLUMNS: dict[Splitting, str] = {"stratified": "split", "date": "date_split"}
_MODEL_FILES: dict[Splitting, str] = {"stratified": "model.cbm", "date": "model-date.cbm"}
_NOTES = ("nora.splitting", "nora.threshold", "nora.features_sha256")
REPORTED_PROBLEMS = 100


@dataclass(frozen=True)
class Features:
    """A features file: the columns to learn from, the target and both splittings."""

    frame: pd.DataFrame
    columns: list[str]
    splits: dict[Splitting, bank.Split]
    sha256: str


# --- the steps --------------------------------------------------------------------------------------------------------


def validate(data: str, output: Path | None = None, *, force: bool = False) -> dict[str, Any]:
    """Return a report on the data (does it keep the schema, its columns, its first problems); write it if asked.

    Raises:
        ConfigError: The output is there and ``force`` is not.
        DataError: The file is missing, cannot be read as CSV, or holds no rows.
        StorageError: The output cannot be written.
    """
    if output is not None:
        _check_outputs([output], force=force)
    table, problems = bank.inspect(data)
    report: dict[str, Any] = {
        "data": data,
        "valid": table is not None,
        "problem_count": len(problems),
        "problems": [
            {"line": problem.line, "column": problem.column, "text": problem.text}
            for problem in problems[:REPORTED_PROBLEMS]
        ],
    }
    if table is not None:
        report |= {
            "path": str(table.path),
            "sha256": table.sha256,
            "rows": len(table.frame),
            "positives": int(table.target.sum()),
            "columns": [_described(table.frame[name]) for name in table.frame if name != bank.TARGET],
        }
    if output is not None:
        _publish({output: _as_json(report)})
    return report


def build_features(config: CatBoostConfig, output: Path, *, force: bool = False) -> dict[str, Any]:
    """Write the features as Parquet to ``output``, and beside it as JSON what was done; return the latter.

    The file holds the columns to learn from, the target as 0 and 1, and for both splittings the part of each row.

    Raises:
        ConfigError: A file is there and ``force`` is not, or ``features.exclude`` names no feature.
        DataError: The data is missing, broken or too small to split.
        StorageError: The files cannot be written.
    """
    record_path = output.with_suffix(".json")
    if record_path == output:
        raise ConfigError(f"{output}: the record beside the features takes that name; let the output end in .parquet")
    _check_outputs([output, record_path], force=force)
    columns = bank.feature_columns(config.features.exclude)
    table = bank.load(config.data)
    shares = (config.train.val_fraction, config.train.test_fraction)
    splits: dict[Splitting, bank.Split] = {
        "stratified": bank.stratified_split(table, *shares, config.seed),
        "date": bank.date_split(table, *shares, config.seed),
    }
    frame = table.frame[[*columns, bank.TARGET]].assign(
        **{_SPLIT_COLUMNS[name]: _part_of_rows(split, len(table.frame)) for name, split in splits.items()}
    )
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    record = {
        "data": {"path": str(table.path), "sha256": table.sha256, "rows": len(table.frame)},
        "excluded": config.features.exclude,
        "features": [_described(frame[name]) for name in columns],
        "seed": config.seed,
        "val_fraction": config.train.val_fraction,
        "test_fraction": config.train.test_fraction,
        "splits": {name: _counts(split, table) for name, split in splits.items()},
    }
    _publish({output: buffer.getvalue(), record_path: _as_json(record)})
    return record


def train(config: CatBoostConfig, features_path: Path, output: Path, *, force: bool = False) -> dict[str, Any]:
    """Fit one model on each splitting, write them with metrics.json into the folder ``output``; return the metrics.

    Raises:
        ConfigError: A file is there and ``force`` is not, or the device cannot be used.
        DataError: The features cannot be read or learned from.
        StorageError: The files cannot be written.
    """
    from catboost import CatBoostClassifier

    from engine.workloads import boosting

    check_device(config)
    metrics_path = output / "metrics.json"
    _check_outputs([*(output / name for name in _MODEL_FILES.values()), metrics_path], force=force)
    features = _read_features(features_path)
    parameters = boosting.parameters(config)
    metrics: dict[str, Any] = {
        "features": {"path": str(features_path), "sha256": features.sha256},
        "parameters": parameters,
    }
    files: dict[Path, bytes] = {}
    for splitting in SPLITTINGS:
        parts = boosting.parts_of(features.frame, features.columns, features.splits[splitting])
        model = CatBoostClassifier(**parameters, allow_writing_files=False)
        boosting.fit(model, parts, config)
        found = boosting.judge(model, parts)
        notes = dict(zip(_NOTES, (splitting, repr(found.threshold), features.sha256), strict=True))
        files[output / _MODEL_FILES[splitting]] = boosting.model_bytes(model, notes)
        metrics[splitting] = {
            "model": _MODEL_FILES[splitting],
            "trees": model.tree_count_,
            "threshold": found.threshold,
            **found.scores,
            "importance": boosting.importance(model),
        }
    _publish(files | {metrics_path: _as_json(metrics)})
    return metrics


def evaluate(
    features_path: Path, model_path: Path, part: str, output: Path | None = None, *, force: bool = False
) -> dict[str, Any]:
    """Return the model's scores and calibration on a part of the splitting that it was trained on; write it if asked.

    The threshold is the one that was chosen on the validation rows. Other features than those of the training are
    refused: their test rows may be rows that the model has learned.

    Raises:
        ConfigError: The output is there and ``force`` is not.
        DataError: Features or model cannot be read, or do not belong together.
        StorageError: The output cannot be written.
    """
    from engine.workloads import boosting
    from engine.workloads.scores import calibration, scores

    if output is not None:
        _check_outputs([output], force=force)
    features = _read_features(features_path)
    model, splitting, threshold = _read_model(model_path, features)
    rows = getattr(features.splits[splitting], part)
    wanted = boosting.part_of(features.frame, features.columns, rows)
    predicted = boosting.probabilities(model, wanted.pool)
    result = {
        "model": {"path": str(model_path), "sha256": sha256_of(model_path), "trees": model.tree_count_},
        "features": {"path": str(features_path), "sha256": features.sha256},
        "splitting": splitting,
        "part": part,
        "rows": len(rows),
        "positives": int(wanted.target.sum()),
        "threshold": threshold,
        "scores": scores(wanted.target, predicted, threshold),
        "calibration": calibration(wanted.target, predicted),
    }
    if output is not None:
        _publish({output: _as_json(result)})
    return result


# --- files ------------------------------------------------------------------------------------------------------------


def _read_features(path: Path) -> Features:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; `nora ml build-features` writes it") from error
    try:
        frame = pd.read_parquet(io.BytesIO(data))
    except (ValueError, OSError) as error:  # pyarrow's errors are of these kinds
        raise DataError(f"{path} is not a Parquet file; build it again with `nora ml build-features`") from error
    for name in (bank.TARGET, *_SPLIT_COLUMNS.values()):
        if name not in frame:
            raise DataError(f"{path} has no column {name!r}; build it with `nora ml build-features`")
    columns = [str(name) for name in frame if name not in (bank.TARGET, *_SPLIT_COLUMNS.values())]
    splits = {name: _split_of(frame[column]) for name, column in _SPLIT_COLUMNS.items()}
    return Features(frame, columns, splits, hashlib.sha256(data).hexdigest())


def _read_model(path: Path, features: Features) -> tuple["CatBoostClassifier", Splitting, float]:
    """Return the model, the splitting that it was trained on, and its threshold."""
    from catboost import CatBoostClassifier, CatBoostError

    if not path.is_file():
        raise DataError(f"{path} is no file; `nora ml train` writes models")
    model = CatBoostClassifier()
    try:
        model.load_model(str(path), format="cbm")
    except CatBoostError as error:
        raise DataError(f"{path} is not a CatBoost model; train it again with `nora ml train`") from error
    notes = dict(model.get_metadata())
    if any(name not in notes for name in _NOTES):
        raise DataError(
            f"{path} was not written by `nora ml train`, so what it was tested on is unknown; train it there"
        )
    splitting, threshold, sha256 = (notes[name] for name in _NOTES)
    if sha256 != features.sha256:
        raise DataError(f"{path} was trained on other features ({sha256[:12]}…); give that file, or train again")
    return model, splitting, float(threshold)


def _check_outputs(paths: list[Path], *, force: bool) -> None:
    """Refuse, before any work is done, what could not be written at its end."""
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file")
        if path.exists() and not force:
            raise ConfigError(f"{path} exists; --force replaces it")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise StorageError(
                f"{path} cannot be written: {folder} lets nothing be created in it; choose another place"
            )


def _publish(files: Mapping[Path, bytes]) -> None:
    """Write the files; where one cannot be written, take back those that were not there before.

    Raises:
        StorageError: A file cannot be written.
    """
    new = [path for path in files if not path.exists()]
    try:
        for path, data in files.items():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{path.parent} cannot be created: {error.strerror}") from error
            write_atomic(path, data)
    except StorageError:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def _as_json(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


# --- small things -----------------------------------------------------------------------------------------------------


def _part_of_rows(split: bank.Split, count: int) -> pd.Series:
    """Return [rows], the name of the part in which each row stands."""
    parts = pd.Series("", index=range(count), dtype="str")
    for name in bank.PARTS:
        parts.iloc[getattr(split, name)] = name
    return parts.astype("category")


def _split_of(parts: pd.Series) -> bank.Split:
    return bank.Split(*(np.flatnonzero(parts == name) for name in bank.PARTS))


def _counts(split: bank.Split, table: bank.Table) -> dict[str, dict[str, Any]]:
    """Return rows, positives and a digest of the row numbers of each part."""
    parts = {name: getattr(split, name) for name in bank.PARTS}
    return {
        name: {
            "rows": len(rows),
            "positives": int(table.target[rows].sum()),
            "row_numbers_sha256": hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest(),
        }
        for name, rows in parts.items()
    }


def _described(values: pd.Series) -> dict[str, Any]:
    """Return name, type and range of a column."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return {"name": values.name, "type": "category", "values": values.cat.categories.tolist()}
    return {"name": values.name, "type": str(values.dtype), "min": int(values.min()), "max": int(values.max())}
