"""The four steps behind `nora ml`, on small data."""

import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import ConfigError, DataError, StorageError
from configs.schema import BoostRuntime, BoostTrain, CatBoostConfig, Features
from engine import tabular
from engine.datasets import bank
from engine.watch import Watch
from engine.workloads import workload_for
from sessions.files import sha256_of, write_atomic
from sessions.log import EventLog
from sessions.paths import SessionPaths
from tests.engine.tables import small_csv


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> CatBoostConfig:
    data = str(small_csv(tmp_path_factory.mktemp("data")))
    return CatBoostConfig(data=data, seed=3, train=BoostTrain(iterations=30), runtime=BoostRuntime(threads=1))


@pytest.fixture(scope="module")
def features(config: CatBoostConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    tabular.build_features(config, path)
    return path


@pytest.fixture(scope="module")
def model(config: CatBoostConfig, features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "new" / "model"
    tabular.train(config, features, folder)
    return folder


def test_sound_data_is_described(config: CatBoostConfig, tmp_path: Path) -> None:
    report = tabular.validate(config.data, tmp_path / "report.json")
    assert report["valid"]
    assert (report["rows"], report["problem_count"]) == (3_015, 0)
    assert report["columns"][0] == {"name": "age", "type": "int64", "min": 19, "max": 85}
    assert json.loads((tmp_path / "report.json").read_text()) == report


def test_broken_data_is_reported_problem_by_problem(tmp_path: Path) -> None:
    path = small_csv(tmp_path)
    path.write_text(path.read_text().replace('"married"', '"wed"'))
    report = tabular.validate(str(path))
    assert not report["valid"]
    assert report["problem_count"] > len(report["problems"]) == tabular.REPORTED_PROBLEMS
    assert report["problems"][0]["column"] == "marital"
    assert report["problems"][0]["line"] == 2


def test_features_hold_the_table_and_both_splittings(config: CatBoostConfig, features: Path) -> None:
    frame = pd.read_parquet(features)
    record = json.loads(features.with_suffix(".json").read_text())
    table = bank.load(config.data)
    assert list(frame) == [*bank.feature_columns(["duration"]), "y", "split", "date_split"]
    assert frame["job"].astype(str).tolist() == table.frame["job"].astype(str).tolist()
    split = bank.stratified_split(table, 0.15, 0.2, 3)
    assert (frame["split"] == "test").to_numpy().nonzero()[0].tolist() == split.test.tolist()
    assert (frame["date_split"].iloc[-603:] == "test").all()
    assert record["data"]["sha256"] == table.sha256
    assert record["excluded"] == ["duration"]
    assert record["splits"]["stratified"]["test"]["rows"] == len(split.test) == 603
    assert record["splits"]["date"]["test"]["positives"] == int(table.target[-603:].sum())


def test_equal_settings_build_equal_files(config: CatBoostConfig, features: Path, tmp_path: Path) -> None:
    tabular.build_features(config, tmp_path / "features.parquet")
    assert sha256_of(tmp_path / "features.parquet") == sha256_of(features)
    assert (tmp_path / "features.json").read_bytes() == features.with_suffix(".json").read_bytes()


def test_the_steps_and_the_workload_find_the_same(config: CatBoostConfig, model: Path, tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path)
    log = EventLog(paths.events)
    summary = workload_for(config).run(config, Watch(paths, log, config))
    log.close()
    metrics = json.loads((model / "metrics.json").read_text())
    for found, name in ((summary, "stratified"), (summary["date"], "date")):
        assert {key: metrics[name][key] for key in ("trees", "threshold", "val", "test")} == {
            key: found[key] for key in ("trees", "threshold", "val", "test")
        }


@pytest.mark.parametrize(("name", "splitting"), [("model.cbm", "stratified"), ("model-date.cbm", "date")])
def test_evaluation_repeats_what_training_found_on_the_models_own_splitting(
    features: Path, model: Path, tmp_path: Path, name: str, splitting: str
) -> None:
    metrics = json.loads((model / "metrics.json").read_text())[splitting]
    for part in ("val", "test"):
        result = tabular.evaluate(features, model / name, part, tmp_path / f"{part}.json")
        assert result["scores"] == metrics[part]
        assert (result["splitting"], result["threshold"]) == (splitting, metrics["threshold"])
        assert sum(row["rows"] for row in result["calibration"]) == result["rows"]
        assert json.loads((tmp_path / f"{part}.json").read_text()) == result


# --- what is refused --------------------------------------------------------------------------------------------------


def test_other_features_than_those_of_the_training_are_refused(
    config: CatBoostConfig, model: Path, tmp_path: Path
) -> None:
    other = CatBoostConfig(data=config.data, seed=4)
    tabular.build_features(other, tmp_path / "other.parquet")
    with pytest.raises(DataError, match="was trained on other features"):
        tabular.evaluate(tmp_path / "other.parquet", model / "model.cbm", "test")


def test_files_that_are_not_what_they_should_be_are_refused(
    config: CatBoostConfig, features: Path, model: Path, tmp_path: Path
) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(gzip.compress(b"junk" * 100))
    with pytest.raises(DataError, match="is not a Parquet file"):
        tabular.train(config, junk, tmp_path / "out")
    with pytest.raises(DataError, match=r"gone cannot be read: No such file.*build-features"):
        tabular.train(config, tmp_path / "gone", tmp_path / "out")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="has no column 'y'"):
        tabular.train(config, tmp_path / "other.parquet", tmp_path / "out")
    with pytest.raises(DataError, match="is not a CatBoost model"):
        tabular.evaluate(features, junk, "test")
    with pytest.raises(DataError, match="is no file"):
        tabular.evaluate(features, tmp_path / "gone", "test")
    assert not (tmp_path / "out").exists()


def test_a_model_of_unknown_origin_is_refused(config: CatBoostConfig, features: Path, tmp_path: Path) -> None:
    from catboost import CatBoostClassifier

    CatBoostClassifier(iterations=1, allow_writing_files=False, verbose=False).fit([[0], [1]], [0, 1]).save_model(
        str(tmp_path / "foreign.cbm")
    )
    with pytest.raises(DataError, match="was not written by `nora ml train`"):
        tabular.evaluate(features, tmp_path / "foreign.cbm", "test")


def test_what_exists_is_not_overwritten_unless_forced(config: CatBoostConfig, tmp_path: Path) -> None:
    output = tmp_path / "features.parquet"
    output.with_suffix(".json").write_text("mine")
    with pytest.raises(ConfigError, match=r"features\.json exists; --force replaces it"):
        tabular.build_features(config, output)
    assert [path.name for path in tmp_path.iterdir()] == ["features.json"]
    assert output.with_suffix(".json").read_text() == "mine"
    tabular.build_features(config, output, force=True)
    assert json.loads(output.with_suffix(".json").read_text())["seed"] == 3
    with pytest.raises(ConfigError, match=r"let the output end in \.parquet"):
        tabular.build_features(config, tmp_path / "features.json", force=True)
    with pytest.raises(ConfigError, match="is a folder"):
        tabular.build_features(config, tmp_path, force=True)


def test_a_place_that_takes_no_files_is_a_storage_error_before_any_work(config: CatBoostConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="lets nothing be created in it"):
        tabular.train(config, tmp_path / "not read", tmp_path / "file" / "model")


def test_a_full_disk_leaves_nothing_half_made(
    config: CatBoostConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(path: Path, data: bytes) -> None:  # a disk that is full at the second file
        if path.suffix == ".json":
            raise StorageError(f"{path} cannot be written: No space left on device")
        write_atomic(path, data)

    monkeypatch.setattr(tabular, "write_atomic", write)
    with pytest.raises(StorageError, match="No space left"):
        tabular.build_features(config, tmp_path / "features.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_split_that_cannot_be_made_leaves_nothing(config: CatBoostConfig, tmp_path: Path) -> None:
    few = small_csv(tmp_path, every=2000)
    with pytest.raises(DataError, match="too few"):
        tabular.build_features(CatBoostConfig(data=str(few)), tmp_path / "features.parquet")
    with pytest.raises(ConfigError, match="no such feature"):
        tabular.build_features(
            CatBoostConfig(data=config.data, features=Features(exclude=["x"])), tmp_path / "features.parquet"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["small.csv"]
