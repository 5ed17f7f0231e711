"""CatBoost held to norms: its signals, what can be changed while it fits, and the defects that can be planted."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from configs.errors import ConfigError
from configs.schema import BoostRuntime, BoostTrain, CatBoostConfig, Drift, Features, Norms
from engine.datasets import bank
from engine.environment import capture
from engine.probes import catboost as probe
from engine.watch import Watch
from engine.workloads import boosting, workload_for
from engine.workloads.catboost_snapshots import CONTENTS, KEPT, SNAPSHOT, Snapshots, position
from norms.judge import Judge
from norms.signals import Overlap
from sessions.codec import decode
from sessions.events import Action, AnyEvent, Checkpoint, Json, Metrics, Outcome, ViolationFound
from sessions.files import write_atomic
from sessions.log import EventLog
from sessions.paths import SessionPaths
from tests.engine.tables import small_csv

FAST = BoostTrain(iterations=60)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_csv(tmp_path_factory.mktemp("data"), every=5))


@cache
def environment() -> Json:
    return capture(seed=1)


def run_here(folder: Path, data: str, **changes: Any) -> list[AnyEvent]:
    """Run the workload in this process, and return what it has recorded."""
    folder.mkdir()
    defaults = {"data": data, "train": FAST, "seed": 1, "runtime": BoostRuntime(threads=1)}
    config = CatBoostConfig(**{**defaults, **changes})
    paths = SessionPaths(folder)
    log = EventLog(paths.events)
    watch = Watch(paths, log, config)
    watch.environment = environment()
    try:
        workload_for(config).run(config, watch)
    finally:
        log.close()
    return recorded(paths)


def recorded(paths: SessionPaths) -> list[AnyEvent]:
    return [decode(line) for line in paths.events.read_bytes().splitlines()]  # type: ignore[misc]


def of(events: list[AnyEvent], kind: type[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def found(events: list[AnyEvent]) -> list[tuple[str, str]]:
    return [(event.norm, event.severity) for event in of(events, ViolationFound)]


# --- signals ----------------------------------------------------------------------------------------------------------


def test_figures_are_computed_again_as_the_library_has_them() -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(500).round(2)
    target = (generator.random(500) < probability).astype(np.int8)
    assert probe.auc_of(target, probability) == pytest.approx(roc_auc_score(target, probability), abs=1e-12)
    assert probe.logloss_of(target, probability) == pytest.approx(log_loss(target, probability), abs=1e-12)
    assert math.isnan(probe.auc_of(np.ones(3, np.int8), np.ones(3)))


@pytest.mark.parametrize("wrong", [{}, {"auc": 0.02}, {"accuracy": -0.01}], ids=["right", "auc", "accuracy"])
def test_a_figure_that_is_not_that_of_all_rows_is_found(wrong: dict[str, float]) -> None:
    generator = np.random.default_rng(0)
    probability = generator.random(500)
    target = (generator.random(500) < probability).astype(np.int8)
    reported = {
        "auc": float(roc_auc_score(target, probability)),
        "logloss": float(log_loss(target, probability)),
        "accuracy": float(((probability >= 0.5) == target).mean()),
        "brier": 0.2,
    }
    reported |= {name: reported[name] + by for name, by in wrong.items()}
    judged = Judge("strict").feed(probe.judgement_of(400, "test", reported, target, probability))
    assert [violation.norm for violation in judged.violations] == ["metric-aggregation"] * bool(wrong)


@pytest.mark.parametrize(
    ("values", "broken"),
    [({"logloss": 0.28, "auc": 0.8}, False), ({"logloss": 0.5, "auc": 0.5}, True)],
    ids=["learns", "guesses"],
)
def test_a_model_that_guesses_is_told_from_one_that_learns_skewed_classes(
    values: dict[str, float], broken: bool
) -> None:
    judged = Judge("balanced").feed(probe.validation_of(300, "val", values, (0.88, 0.12)))
    assert [violation.norm for violation in judged.violations] == ["at-chance"] * broken


def test_a_replay_tells_equal_fits_from_others() -> None:
    def replayed(*runs: list[float]) -> float | None:
        results = iter(runs)
        return probe.replay(lambda: next(results)).difference

    assert replayed([0.5, 0.4], [0.5, 0.4]) == 0
    assert replayed([0.5, 0.4], [0.5, 0.44]) == pytest.approx(0.04 / 0.44)
    assert replayed([math.nan, 0.4], [math.nan, 0.4]) == 0
    assert math.isnan(replayed([0.5, math.nan], [0.5, 0.4]) or 0)
    assert replayed([0.5], [0.5, 0.4]) == math.inf


def test_gpus_promise_nothing_and_an_unseeded_generator_is_found() -> None:
    on_gpu = {"task_type": "GPU", "random_seed": 1}
    (violation,) = Judge("strict").feed(probe.preflight_of_run(on_gpu, 100, 1)).violations
    assert (violation.norm, violation.severity) == ("determinism", "info")
    (violation,) = Judge("balanced").feed(probe.preflight_of_run({}, 100, 1)).violations
    assert violation.norm == "seeding"
    assert not Judge("strict").feed(probe.preflight_of_run({"random_seed": 0}, 100, 0)).violations


def test_overlaps_of_the_second_splitting_carry_its_name() -> None:
    (named,) = probe.named([Overlap(first="train", second="test", count=1, size=10)], "date/")
    assert (named.first, named.second, named.count) == ("date/train", "date/test", 1)


# --- snapshots --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted(small: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a fit of 30 iterations, with its snapshot."""
    folder = tmp_path_factory.mktemp("fit")
    config = CatBoostConfig(data=small, seed=1, runtime=BoostRuntime(threads=1), train=BoostTrain(iterations=30))
    table = bank.load(small)
    parts = boosting.parts_of(
        table.frame, bank.feature_columns(["duration"]), bank.stratified_split(table, 0.15, 0.2, 1)
    )
    boosting.fit(boosting.classifier(config, boosting.recording(folder, 1)), parts, config)
    return folder


def test_a_snapshot_says_how_far_it_is_unless_it_is_cut_off(fitted: Path) -> None:
    content = (fitted / SNAPSHOT).read_bytes()
    assert position(content) == 30
    assert position(content[: len(content) // 2]) is None
    assert position(b"") is None


def test_a_copy_is_whole_and_can_be_put_back(fitted: Path, tmp_path: Path) -> None:
    train_dir, folder = tmp_path / "fit", tmp_path / "checkpoints"
    train_dir.mkdir()
    folder.mkdir()
    snapshots = Snapshots(folder, train_dir, after=100)
    assert snapshots.keep(5, ("last",)) is None, "there is no snapshot yet"
    content = (fitted / SNAPSHOT).read_bytes()
    snapshots.live.write_bytes(content)
    kept = snapshots.keep(99, ("last",))
    assert kept is not None
    assert (kept.step, kept.iteration, kept.complete, kept.path) == (130, 30, True, "checkpoints/step-00000130")
    signal = snapshots.signal(kept)
    assert (signal.contents, signal.hash_matches) == (CONTENTS, True)
    assert not Judge("strict").feed(signal).violations
    assert (folder / "last").read_text() == "step-00000130\n"
    assert json.loads((tmp_path / kept.path / "MANIFEST.json").read_text())["sha256"] == kept.sha256
    snapshots.live.write_bytes(b"later")
    assert snapshots.before(129) is None
    assert snapshots.before(130) == kept
    snapshots.put_back(kept)
    assert snapshots.live.read_bytes() == content


def test_a_copy_that_lost_bytes_is_found_and_never_gone_back_to(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    snapshots = Snapshots(folder, fitted, 0, write=lambda path, data: write_atomic(path, data[:1000]))
    kept = snapshots.keep(30, ("periodic",))
    assert kept is not None and not kept.complete
    (violation,) = Judge("exploratory").feed(snapshots.signal(kept)).violations
    assert violation.norm == "checkpoint-integrity"
    assert "does not have the SHA-256" in violation.message
    assert violation.evidence["contents"] == []
    assert snapshots.before(30) is None


def test_only_the_newest_copies_are_kept_and_none_replaces_another(fitted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    snapshots = Snapshots(folder, fitted, 0)
    for _ in range(KEPT + 2):
        snapshots.keep(30, ("periodic",))
    assert len(list(folder.glob("step-*"))) == KEPT == len(snapshots.kept)
    assert all((tmp_path / kept.path / SNAPSHOT).exists() for kept in snapshots.kept)


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regime", ["strict", "balanced", "exploratory"])
def test_a_healthy_run_is_silent(tmp_path: Path, small: str, regime: str) -> None:
    events = run_here(tmp_path / "run", small, regime=regime, approve="record")
    assert [item for item in found(events) if item[1] != "info"] == []
    kept = of(events, Checkpoint)
    assert [checkpoint.step for checkpoint in kept] == [60, 120]
    assert all(checkpoint.complete for checkpoint in kept)


def test_a_column_known_after_the_outcome_is_critical(tmp_path: Path, small: str) -> None:
    events = run_here(tmp_path / "run", small, features=Features(exclude=[]), approve="record")
    assert found(events)[0] == ("feature-leak", "critical")
    (leak,) = [event for event in of(events, ViolationFound) if event.norm == "feature-leak"]
    assert leak.evidence["columns"] == ["duration"]
    assert leak.step == 0


def test_norms_that_are_switched_off_cost_and_say_nothing(tmp_path: Path, small: str) -> None:
    events = run_here(tmp_path / "run", small, norms=Norms(enabled=False), features=Features(exclude=[]))
    assert found(events) == []


def test_cohorts_that_do_not_exist_are_refused() -> None:
    config = CatBoostConfig(drift=Drift(cohorts=["jobb"]))
    with pytest.raises(ConfigError, match=r"drift\.cohorts=jobb: there is no such column; did you mean 'job'"):
        workload_for(config).preflight(config)


# --- planted defects --------------------------------------------------------------------------------------------------


def cured(events: list[AnyEvent], norm: str) -> list[str]:
    """Return the actions that were done about a norm, having checked that it was found, and cured."""
    ids = [event.id for event in of(events, ViolationFound) if event.norm == norm]
    outcomes = [(event.violation, event.state) for event in of(events, Outcome)]
    assert ids, f"{norm} was not found: {found(events)}"
    assert (ids[-1], "cured") in outcomes
    return [event.action for event in of(events, Action) if event.state == "done"]


def test_a_column_order_of_chance_is_found_by_a_replay_and_cured_by_a_seed(tmp_path: Path, small: str) -> None:
    events = run_here(tmp_path / "run", small, violation="nondeterminism", approve="auto")
    assert cured(events, "determinism") == ["reseed_restart"]
    assert max(event.step for event in of(events, Metrics)) == 120


def test_without_a_remedy_two_runs_of_the_planted_order_differ(tmp_path: Path, small: str) -> None:
    def losses(name: str) -> list[float]:
        events = run_here(tmp_path / name, small, violation="nondeterminism", approve="record")
        assert ("determinism", "major") in found(events)
        return [event.values["logloss"] for event in of(events, Metrics) if "logloss" in event.values]

    assert losses("a") != losses("b")


def test_a_checkpoint_that_lost_its_half_is_saved_again(tmp_path: Path, small: str) -> None:
    events = run_here(tmp_path / "run", small, violation="checkpoint_incomplete", approve="auto")
    assert cured(events, "checkpoint-integrity") == ["save_again"]
    complete = [event.complete for event in of(events, Checkpoint)]
    assert complete == [False, True, True]
    assert position((tmp_path / "run" / of(events, Checkpoint)[-1].path / SNAPSHOT).read_bytes()) == 60
