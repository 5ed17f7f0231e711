"""The catboost workload: in this process on small data, and through the real worker."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import catboost
import numpy as np
import pytest
from catboost.utils import get_gpu_device_count

from configs.errors import ConfigError, DataError, StorageError
from configs.load import compose
from configs.schema import BoostModel, BoostRuntime, BoostTrain, CatBoostConfig, Features
from engine.datasets import bank
from engine.watch import Watch
from engine.workloads import boosting, workload_for
from engine.workloads.catboost_files import FILES, WAKE, MetricFiles, Row, followed
from engine.workloads.catboost_snapshots import SNAPSHOT
from engine.workloads.scores import best_f1_threshold, calibration, expected_calibration_error, scores
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import Stop, ask
from sessions.state import SessionState
from sessions.store import SessionReader, read_session
from tests.engine.runs import ended, start, wait_until
from tests.engine.tables import small_csv

FAST = BoostTrain(iterations=40)
LONG = ("train.iterations=100000", "train.early_stopping=0", "runtime.threads=1")
"""A fit that no test waits for: its iterations take milliseconds each."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_csv(tmp_path_factory.mktemp("data")))


def run_here(folder: Path, config: CatBoostConfig) -> SessionReader:
    """Run the workload in this process, with the instrument that a worker gives it."""
    folder.mkdir()
    paths = SessionPaths(folder)
    log = EventLog(paths.events)
    try:
        workload_for(config).preflight(config)
        workload_for(config).run(config, Watch(paths, log, config))
    finally:
        log.close()
    return read_session(paths)


def settings(data: str, **changes: object) -> CatBoostConfig:
    defaults = {"data": data, "train": FAST, "seed": 3, "runtime": BoostRuntime(threads=1), "approve": "record"}
    return CatBoostConfig(**{**defaults, **changes})  # type: ignore[arg-type]


def judged_step(reader: SessionReader, name: str = "auc") -> int:
    """Return the one step of which both the fit and the final judgement speak, having checked that they agree."""
    column = reader.series.column("val", name)
    (twice,) = np.flatnonzero(np.diff(column.steps) == 0)
    assert column.values[twice] == pytest.approx(column.values[twice + 1], abs=1e-9)
    if name.endswith("auc"):
        assert column.values[twice] == pytest.approx(column.values.max(), abs=1e-9), "not the best iteration"
    return int(column.steps[twice])


def test_every_iteration_of_both_fits_is_recorded_with_both_splits(tmp_path: Path, small: str) -> None:
    reader = run_here(tmp_path / "run", settings(small))
    for name, first in (("auc", 1), ("logloss", 1), ("date/auc", 41), ("date/logloss", 41)):
        steps = list(range(first, first + 40))
        assert reader.series.column("train", name).steps.tolist() == steps
        judged = judged_step(reader, name)
        assert reader.series.column("val", name).steps.tolist() == sorted([*steps, judged])
    assert reader.state.phase_seconds.keys() == {"data", "train", "test", "date/train", "date/test"}


def test_the_judgement_has_all_figures_for_both_splits(tmp_path: Path, small: str) -> None:
    state = run_here(tmp_path / "run", settings(small)).state
    names = {"auc", "logloss", "accuracy", "f1", "ece", "brier"}
    assert state.latest["test"].keys() == names | {f"date/{name}" for name in names}
    assert names | {"threshold", "date/threshold"} < state.latest["val"].keys()
    assert state.latest["test"]["auc"] > 0.65
    assert state.latest["test"]["auc"] != state.latest["test"]["date/auc"]


def test_models_and_importances_are_kept_without_pickle(tmp_path: Path, small: str) -> None:
    reader = run_here(tmp_path / "run", settings(small))
    kinds = {artifact.path: artifact.kind for artifact in reader.state.artifacts}
    assert kinds == {
        f"artifacts/{name}{end}": kind
        for name in ("model", "model-date")
        for end, kind in (
            (".cbm", "model"),
            ("-importance.json", "feature_importance"),
            ("-calibration.json", "calibration"),
        )
    }
    folder = reader.paths.artifacts
    assert (folder / "model.cbm").read_bytes()[:4] == b"CBM1"
    model = catboost.CatBoostClassifier().load_model(str(folder / "model.cbm"))
    table = bank.load(small)
    split = bank.stratified_split(table, 0.15, 0.2, 3)
    test = boosting.part_of(table.frame, bank.feature_columns(["duration"]), split.test)
    threshold = reader.state.latest["val"]["threshold"]
    assert scores(test.target, boosting.probabilities(model, test.pool), threshold) == {
        name: value for name, value in reader.state.latest["test"].items() if "/" not in name
    }
    importances = json.loads((folder / "model-importance.json").read_text())
    assert sum(row["importance"] for row in importances) == pytest.approx(100)
    assert "duration" not in {row["feature"] for row in importances}


def test_equal_seeds_and_threads_give_equal_results_and_another_seed_others(tmp_path: Path, small: str) -> None:
    def curve(name: str, seed: int) -> list[float]:
        reader = run_here(tmp_path / name, settings(small, seed=seed))
        return [
            value for split, metric in reader.series.metrics() for value in reader.series.column(split, metric).values
        ]

    assert curve("a", 3) == curve("b", 3)
    assert curve("c", 4) != curve("d", 3)


def test_excluded_columns_are_not_learned_from(tmp_path: Path, small: str) -> None:
    with_duration = run_here(tmp_path / "a", settings(small, features=Features(exclude=[]))).state
    without = run_here(tmp_path / "b", settings(small)).state
    assert with_duration.latest["test"]["auc"] > without.latest["test"]["auc"] + 0.05


def test_early_stopping_ends_the_fit_and_can_be_off(tmp_path: Path, small: str) -> None:
    model = BoostModel(depth=8)
    early = run_here(tmp_path / "a", settings(small, model=model, train=BoostTrain(iterations=150, early_stopping=5)))
    assert len(early.series.column("train", "auc").steps) < 150
    assert "stopped early" in early.state.logs[1].text
    never = run_here(tmp_path / "b", settings(small, model=model, train=BoostTrain(iterations=150, early_stopping=0)))
    assert len(never.series.column("train", "auc").steps) == 150


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_gpu_that_is_not_there_is_refused_before_anything_starts(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.workloads.catboost.gpus", lambda: [])
    for device in ("cuda", "cuda:3"):
        with pytest.raises(ConfigError, match=f"runtime.device={device}: this machine has 0 CUDA devices; use cpu"):
            run_here(tmp_path / device, settings(small, runtime=BoostRuntime(device=device)))


@pytest.mark.skipif(get_gpu_device_count() > 0, reason="this machine has a GPU")
def test_a_gpu_that_catboost_cannot_use_is_a_configuration_error(
    tmp_path: Path, small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.workloads.catboost.gpus", lambda: [{"name": "of another driver"}])
    with pytest.raises(ConfigError, match=r"runtime\.device=cuda: CatBoost cannot train there"):
        run_here(tmp_path / "run", settings(small, runtime=BoostRuntime(device="cuda")))


def test_preflight_refuses_columns_and_data_without_loading_the_libraries(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"features\.exclude=agee"):
        workload_for(CatBoostConfig()).preflight(compose(["workload=catboost", "features.exclude=[agee]"]))
    with pytest.raises(DataError, match=r"gone\.csv"):
        workload_for(CatBoostConfig()).preflight(compose(["workload=catboost", f"data={tmp_path}/gone.csv"]))
    code = (
        "import sys; from configs.schema import CatBoostConfig; from engine.workloads import workload_for;"
        "config = CatBoostConfig(); workload = workload_for(config); workload.preflight(config);"
        "print(workload.plan(config).total_steps, {'torch', 'catboost', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "2000 set()\n"


def test_constant_features_are_a_data_error(tmp_path: Path) -> None:
    path = small_csv(tmp_path, every=50)
    header, *rows = path.read_text().splitlines()
    path.write_text("\n".join([header, *("40;" + row.partition(";")[2] for row in rows)]))
    others = [name for name in bank.feature_columns([]) if name != "age"]
    with pytest.raises(DataError, match="every feature is constant or excluded"):
        run_here(tmp_path / "run", settings(str(path), features=Features(exclude=others)))


def test_a_snapshot_that_cannot_be_written_is_a_storage_error(tmp_path: Path, small: str) -> None:
    # A limit on the size of files stands in for a full disk: it leaves room for the metrics, not for a snapshot.
    code = f"""
import resource
from pathlib import Path
from catboost import CatBoostClassifier
from configs.errors import StorageError
from configs.schema import BoostRuntime, BoostTrain, CatBoostConfig
from engine.datasets import bank
from engine.workloads import boosting
endless = BoostTrain(iterations=10**5, early_stopping=0)
config = CatBoostConfig(data={small!r}, runtime=BoostRuntime(threads=1), train=endless)
table = bank.load(config.data)
parts = boosting.parts_of(table.frame, ["age", "job"], bank.stratified_split(table, 0.2, 0.2, 1))
parameters = boosting.parameters(config) | boosting.recording(Path({str(tmp_path / "fit")!r}), 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
try:
    boosting.fit(CatBoostClassifier(**parameters), parts, config)
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("CatBoost cannot write its progress"), done.stdout
    assert SNAPSHOT in done.stdout


# --- following a fit --------------------------------------------------------------------------------------------------


def test_rows_are_paired_by_iteration_and_torn_lines_wait(tmp_path: Path) -> None:
    files = MetricFiles(tmp_path)
    assert list(files.read()) == []
    learn, test, times = (tmp_path / name for name in FILES)
    learn.write_text("iter\tAUC:hints=skip_train~false\tLogloss\n0\t0.5\t0.7\n1\t0.")
    assert list(files.read()) == []
    test.write_text("iter\tAUC\tLogloss\n0\t0.25\tnan\n")
    times.write_text("iter\tPassed\tRemaining\n0\t80\t9000\n")
    (found,) = files.read()
    assert found[:2] == (1, {"auc": 0.5, "logloss": 0.7})
    assert found.val["auc"] == 0.25
    assert np.isnan(found.val["logloss"])
    assert found.seconds == 0.08
    with learn.open("a") as file:
        file.write("75\t0.5\n2\t1\t1\n")
    with times.open("a") as file:
        file.write("1\t90\t9000\n")
    assert list(files.read()) == []
    with test.open("a") as file:
        file.write("1\t0.5\t0.5\n2\t1\t1\n")
    assert [(row.iteration, row.seconds) for row in files.read()] == [(2, pytest.approx(0.01)), (3, None)]


def test_a_resumed_fit_is_reported_from_where_it_went_on(tmp_path: Path) -> None:
    for name in ("learn", "test"):
        (tmp_path / f"{name}_error.tsv").write_text("iter\tAUC\n" + "".join(f"{i}\t0.5\n" for i in range(30)))
    assert [row.iteration for row in MetricFiles(tmp_path, after=27).read()] == [28, 29, 30]


def fit_of(data: str, folder: Path) -> Callable[[], None]:
    """Return a fit that no test waits for."""
    config = settings(data, train=BoostTrain(iterations=100_000, early_stopping=0))
    table = bank.load(data)
    split = bank.stratified_split(table, 0.2, 0.2, 1)
    parts = boosting.parts_of(table.frame, bank.feature_columns(["duration"]), split)
    model = boosting.classifier(config, {"train_dir": str(folder)})
    return lambda: boosting.fit(model, parts, config)


def test_what_the_report_raises_ends_the_fit_at_once_and_is_raised(tmp_path: Path, small: str) -> None:
    times: list[float] = []

    def full(row: Row) -> None:
        times.append(time.monotonic())
        if row.iteration == 20:
            raise StorageError("no space")

    handler = signal.getsignal(WAKE)
    with pytest.raises(StorageError, match="no space"):
        followed(fit_of(small, tmp_path), tmp_path, full)
    assert time.monotonic() - times[-1] < 1
    assert len(times) == 20
    assert signal.getsignal(WAKE) is handler
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("catboost")]


def test_the_fit_waits_for_a_report_that_takes_long(tmp_path: Path, small: str) -> None:
    rows: list[int] = []
    seconds: list[float] = []

    def held(row: Row) -> None:
        assert row.seconds is not None
        seconds.append(row.seconds)
        if row.iteration == 10:
            time.sleep(0.6)
            rows.append(len((tmp_path / "learn_error.tsv").read_text().splitlines()))
            time.sleep(0.6)
            rows.append(len((tmp_path / "learn_error.tsv").read_text().splitlines()))
        if row.iteration == rows[-1] + 50 if rows else False:
            raise StorageError("enough")

    with pytest.raises(StorageError, match="enough"):
        followed(fit_of(small, tmp_path), tmp_path, held)
    assert rows[0] == rows[1], "the fit went on"
    assert max(seconds) < 0.6, "an iteration is charged with the time for which it waited"


def test_rows_of_an_earlier_fit_in_the_same_folder_are_not_taken_for_those_of_the_next(
    tmp_path: Path, small: str
) -> None:
    def stopped_after(iterations: int) -> list[float]:
        seen: list[float] = []

        def report(row: Row) -> None:
            seen.append(row.learn["logloss"])
            if row.iteration == iterations:
                raise StorageError("enough")

        with pytest.raises(StorageError, match="enough"):
            followed(fit_of(small, tmp_path), tmp_path, report)
        return seen

    first = stopped_after(40)
    (tmp_path / "learn_error.tsv").write_text("iter\tAUC\tLogloss\n" + "0\t0.5\t9\n" * 50)
    assert stopped_after(30) == first[:30]


def test_ctrl_c_without_a_worker_is_a_keyboard_interrupt(tmp_path: Path, small: str) -> None:
    def interrupt(row: Row) -> None:
        if row.iteration == 5:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        followed(fit_of(small, tmp_path), tmp_path, interrupt)


def test_a_fit_that_ends_by_itself_is_reported_to_its_last_iteration(tmp_path: Path) -> None:
    def fit() -> None:
        for name in ("learn", "test"):
            (tmp_path / f"{name}_error.tsv").write_text("iter\tAUC\n" + "".join(f"{i}\t0.5\n" for i in range(1000)))

    seen: list[int] = []
    followed(fit, tmp_path, lambda row: seen.append(row.iteration))
    assert seen == list(range(1, 1001))


# --- through the worker -----------------------------------------------------------------------------------------------


def _by_request(paths: SessionPaths, _state: SessionState) -> None:
    ask(paths, Stop(via="cli", reason="seen enough"))


def _by(name: signal.Signals) -> Callable[[SessionPaths, SessionState], None]:
    def send(_paths: SessionPaths, state: SessionState) -> None:
        assert state.pid is not None
        os.kill(state.pid, name)

    return send


@pytest.mark.parametrize(
    ("stop", "exit_code", "reason"),
    [(_by_request, 6, "seen enough"), (_by(signal.SIGINT), 130, "SIGINT"), (_by(signal.SIGTERM), 130, "SIGTERM")],
    ids=["request", "SIGINT", "SIGTERM"],
)
def test_a_stopped_run_keeps_the_model_so_far_and_says_what_it_is_worth(
    tmp_path: Path, small: str, stop: Callable[[SessionPaths, SessionState], None], exit_code: int, reason: str
) -> None:
    paths = start(tmp_path, "workload=catboost", f"data={small}", *LONG)
    stop(paths, wait_until(paths, lambda state: state.step > 20).state)
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("stopped", exit_code), reader.state.reason
    assert reason in reader.state.reason
    steps = reader.series.column("train", "auc").steps
    assert steps.tolist() == list(range(1, len(steps) + 1))
    assert {"auc", "ece", "f1"} < reader.state.latest["test"].keys()
    model = catboost.CatBoostClassifier().load_model(str(paths.artifacts / "model.cbm"))
    assert model.tree_count_ == judged_step(reader)
    assert (paths.checkpoints / "model" / SNAPSHOT).exists()


@pytest.mark.slow
def test_bank_marketing_without_duration_is_ranked_well(tmp_path: Path) -> None:
    state = ended(start(tmp_path, "workload=catboost", "seed=1")).state
    assert (state.status, state.exit_code) == ("completed", 0), state.reason
    assert state.latest["test"]["auc"] >= 0.78
    assert state.latest["test"]["ece"] < 0.03
    assert 0.6 < state.latest["test"]["date/auc"] < state.latest["test"]["auc"]
    assert state.summary["data"]["rows"] == 45_211


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    target = np.array([0, 0, 1, 1], np.int8)
    probability = np.array([0.1, 0.38, 0.35, 0.8])
    found = scores(target, probability, threshold=0.3)
    assert found["auc"] == 0.75
    assert found["accuracy"] == 0.75
    assert found["f1"] == pytest.approx(0.8)
    assert found["brier"] == pytest.approx((0.1**2 + 0.38**2 + 0.65**2 + 0.2**2) / 4)
    assert found["logloss"] == pytest.approx(-np.log([0.9, 0.62, 0.35, 0.8]).mean())
    assert found["ece"] == pytest.approx((0.1 + (1 - 0.73) + 0.2) / 4), "0.35 and 0.38 share the bin from 1/3 to 2/5"


def test_calibration_counts_every_row_once_and_knows_a_calibrated_model() -> None:
    generator = np.random.default_rng(0)
    probability = np.concatenate([generator.random(100_000), [0.0, 1.0]])
    target = (generator.random(len(probability)) < probability).astype(np.int8)
    table = calibration(target, probability)
    assert sum(row["rows"] for row in table) == len(target)
    assert len(table) == 15
    assert expected_calibration_error(target, probability) < 0.01
    assert expected_calibration_error(target, probability**4) > 0.1


def test_the_threshold_of_f1_is_the_best_of_all() -> None:
    generator = np.random.default_rng(1)
    probability = generator.random(200).round(2)
    target = (generator.random(200) < probability**2).astype(np.int8)
    best = max(scores(target, probability, threshold)["f1"] for threshold in np.unique(probability))
    assert scores(target, probability, best_f1_threshold(target, probability))["f1"] == pytest.approx(best)
