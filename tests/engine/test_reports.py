"""What a run leaves beside its model: intervals, result, cohorts, times, promotion."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.errors import StorageError
from configs.schema import AnyConfig, CatBoostConfig, FakeConfig, Norms, Promotion, Sla
from engine import reports
from engine.intervals import bootstrapped, interquartile_mean, wilson
from engine.promotion import promote
from engine.watch import Watch
from norms.signals import Candidate, RunEnd
from sessions.codec import decode
from sessions.events import Artifact, Verdict, ViolationFound
from sessions.log import EventLog
from sessions.paths import SessionPaths

GOOD = Candidate(split="test", accuracy=0.9, ece=0.02)
POOR = Candidate(split="test", accuracy=0.9, ece=0.2)


class Run:
    """A run that is about to end."""

    def __init__(self, folder: Path, config: AnyConfig, name: str = "run") -> None:
        self.paths = SessionPaths(folder / name)
        self.paths.root.mkdir(parents=True)
        self.log = EventLog(self.paths.events)
        self.config = config
        self.watch = Watch(self.paths, self.log, config)
        self.model = self.paths.root / "model.cbm"
        self.model.write_bytes(name.encode())

    def end(self, candidate: Candidate | None = None, **more: Any) -> None:
        end = RunEnd(step=10, candidate=candidate)
        reports.judge_end(self.watch, self.config, end, model=self.model, **more)

    def events(self) -> list[Any]:
        self.log.close()
        return [decode(line) for line in self.paths.events.read_bytes().splitlines()]

    def report(self, name: str) -> Any:
        return json.loads((self.paths.artifacts / name).read_text())


# --- intervals --------------------------------------------------------------------------------------------------------


def test_a_share_lies_in_its_interval_which_narrows_with_rows() -> None:
    low, high = wilson(8, 10)  # Newcombe 1998 has .490 to .943
    assert (low, high) == (pytest.approx(0.490, abs=1e-3), pytest.approx(0.943, abs=1e-3))
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 1
    assert wilson(0, 0) == (0, 1)
    wide, narrow = wilson(8, 10), wilson(800, 1000)
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 5


def test_the_interquartile_mean_passes_over_the_extremes() -> None:
    assert interquartile_mean(np.array([0.0, 1, 2, 3, 4, 5, 6, 100])) == 3.5
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 3.0


def test_the_bootstrap_covers_the_mean_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for _ in range(100):
        interval = bootstrapped(generator.normal(0.8, 0.01, 20))
        assert interval is not None
        covered += interval[0] <= 0.8 <= interval[1]
    assert covered >= 85
    values = np.array([0.8, 0.81, 0.82])
    assert bootstrapped(values) == bootstrapped(values)
    assert bootstrapped(values[:2]) is None
    assert bootstrapped(np.array([0.8, np.nan, 0.9])) is None


# --- the result -------------------------------------------------------------------------------------------------------


def result(folder: Path, seed: int, auc: float, **changes: Any) -> Any:
    config = CatBoostConfig(seed=seed, **changes)
    run = Run(folder, config, f"run-{seed}-{auc}")
    reports.write_result(run.watch, config, {"test": {"auc": auc, "f1": 0.5}, "trees": 10, "data": {"rows": 5}})
    (artifact,) = [event for event in run.events() if isinstance(event, Artifact)]
    assert (artifact.path, artifact.kind) == ("artifacts/result.json", "report")
    return run.report("result.json")


def test_runs_that_differ_in_their_seed_alone_are_summed_up(tmp_path: Path) -> None:
    first = result(tmp_path, 1, 0.80)
    assert (first["seeds"], first["over_runs"], first["claim"]) == ([1], {}, None)
    assert first["metrics"] == {"test/auc": 0.8, "test/f1": 0.5, "trees": 10}
    result(tmp_path, 2, 0.82)
    result(tmp_path, 7, 0.99, promotion=Promotion(enabled=True), tags=["x"], violation="nondeterminism")
    result(tmp_path, 1, 0.70)  # of a seed that counts already
    third = result(tmp_path, 3, 0.81, promotion=Promotion(enabled=True), tags=["x"])
    assert third["seeds"] == [1, 2, 3]
    over = third["over_runs"]["test/auc"]
    assert sorted(over["values"]) == [0.7, 0.81, 0.82], "the newest run of seed 1"
    assert over["interval"][0] < over["interquartile_mean"] < over["interval"][1]


def test_what_is_no_result_is_passed_over(tmp_path: Path) -> None:
    for name, content in (("torn", '{"group": '), ("other", '{"a": 1}'), ("list", "[]")):
        path = tmp_path / name / "artifacts" / "result.json"
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert result(tmp_path, 1, 0.8)["seeds"] == [1]


@pytest.mark.parametrize(
    ("verdict", "supported"),
    [
        (Verdict(kept=["single-run"]), True),
        (Verdict(broken=["single-run"]), False),
        (Verdict(overridden=["single-run"]), False),
        (Verdict(), None),
    ],
    ids=["kept", "broken", "overridden", "not judged"],
)
def test_a_claim_is_supported_as_it_was_judged(tmp_path: Path, verdict: Verdict, supported: bool | None) -> None:
    config = CatBoostConfig(seed=1, claim="better than chance")
    found = reports.result_of(SessionPaths(tmp_path / "run"), config, {"test": {"auc": 0.8}}, verdict)
    assert found["claim"] == {
        "text": "better than chance",
        "metric": "test/auc",
        "seeds": 1,
        "interval": None,
        "supported": supported,
    }


def test_a_result_that_is_not_finite_is_written_and_read_back(tmp_path: Path) -> None:
    assert result(tmp_path, 1, float("nan"))["metrics"]["test/auc"] == "nan"
    second = result(tmp_path, 2, 0.8)
    assert second["over_runs"]["test/auc"]["interval"] is None
    assert "nan" in second["over_runs"]["test/auc"]["values"]


# --- times ------------------------------------------------------------------------------------------------------------


def test_phases_are_held_to_the_agreed_times(tmp_path: Path) -> None:
    run = Run(tmp_path, FakeConfig(regime="strict", approve="record", sla=Sla(phases=["validate", "step", "gone"])))
    run.watch.phase_times["validate"] = [0.3] * 30
    run.watch.phase_times["step"] = [0.001 * i for i in range(1, 101)]
    run.end()
    slow, fast = run.report("sla.json")["phases"]
    assert (slow["phase"], slow["count"], slow["mean_ms"], slow["p99_ms"]) == ("validate", 30, 300, 300)
    assert (fast["mean_ms"], fast["p95_ms"]) == (pytest.approx(50.5), pytest.approx(95.05))
    (violation,) = [event for event in run.events() if isinstance(event, ViolationFound)]
    assert violation.norm == "sla"
    assert "validate" in violation.message


# --- cohorts ----------------------------------------------------------------------------------------------------------


def predictions(rows: int) -> tuple[Any, Any]:
    generator = np.random.default_rng(0)
    target = (generator.random(rows) < 0.3).astype(np.int8)
    return target, np.clip(target * 0.6 + generator.random(rows) * 0.5, 0, 1)


def test_a_cohort_that_is_served_worse_is_found(tmp_path: Path) -> None:
    target, probability = predictions(4000)
    city = np.array(["a", "b"] * 2000)
    probability[city == "b"] = np.random.default_rng(1).random(2000)
    found = reports.cohorts_of({"city": city}, target, probability, 0.5)
    assert [each.cohort.name for each in found] == ["all", "city a", "city b"]
    run = Run(tmp_path, CatBoostConfig(regime="strict", approve="record"))
    run.end(cohorts=found)
    content = run.report("drift.json")
    assert content["found"] and "city b" in content["found"][0]
    rates = content["cohorts"][2]
    assert rates["rows"] == 2000
    for name in ("accuracy", "precision", "recall", "ece"):
        low, high = rates[name]["interval"]
        assert low < high
        assert name == "ece" or low < rates[name]["value"] < high


def test_rates_of_a_cohort_by_hand() -> None:
    target = np.array([1, 1, 0, 0, 0], np.int8)
    probability = np.array([0.9, 0.3, 0.4, 0.1, 0.6])
    (whole, *_) = reports.cohorts_of({"x": np.arange(5)}, target, probability, 0.35)
    cohort = whole.cohort
    assert (cohort.rows, cohort.predicted, cohort.positives) == (5, 3, 2)
    assert (cohort.accuracy, cohort.precision, cohort.recall) == (0.6, pytest.approx(1 / 3), 0.5)


def test_numbers_are_cut_into_quarters_that_hold_every_row_once() -> None:
    target, probability = predictions(1000)
    values = np.random.default_rng(2).integers(0, 50, 1000)
    values[:400] = 7  # several quantiles fall on one value
    _, *parts = reports.cohorts_of({"age": values}, target, probability, 0.5)
    assert sum(part.cohort.rows for part in parts) == 1000
    assert all(part.cohort.rows for part in parts)
    (_, only) = reports.cohorts_of({"age": np.full(1000, 3)}, target, probability, 0.5)
    assert only.cohort.rows == 1000


def test_a_cohort_without_positives_has_no_recall() -> None:
    target, probability = np.zeros(10, np.int8), np.full(10, 0.1)
    (_, part) = reports.cohorts_of({"city": np.array(["a"] * 10)}, target, probability, 0.5)
    assert (part.cohort.recall, part.cohort.precision, part.cohort.accuracy) == (None, None, 1)
    assert part.content()["recall"] == {"value": None, "interval": None}


# --- promotion --------------------------------------------------------------------------------------------------------


def promoting(tmp_path: Path, name: str, candidate: Candidate, **changes: Any) -> Run:
    promotion = Promotion(enabled=True, folder=str(tmp_path / "models"))
    run = Run(tmp_path / "runs", CatBoostConfig(promotion=promotion, approve="record", **changes), name)
    run.end(candidate, metrics={"test/auc": 0.8})
    return run


def test_a_good_model_becomes_current_and_the_one_before_is_kept(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        promoting(tmp_path, name, GOOD)
    models = tmp_path / "models"
    assert (models / "current/catboost-bank/model.cbm").read_bytes() == b"third"
    assert (models / "previous/catboost-bank/model.cbm").read_bytes() == b"second"
    assert sorted(path.name for path in (models / "versions/catboost-bank").iterdir()) == ["second", "third"]
    report = json.loads((models / "current/catboost-bank/promotion.json").read_text())
    assert report["verdict"] == "promoted"
    assert (report["run"], report["replaces"], report["objections"]) == ("third", "second", [])
    assert report["metrics"] == {"test/auc": 0.8}
    assert len(report["sha256"]) == 64


@pytest.mark.parametrize("regime", ["strict", "balanced", "exploratory"])
def test_a_poor_model_stays_a_candidate(tmp_path: Path, regime: str) -> None:
    promoting(tmp_path, "good", GOOD)
    run = promoting(tmp_path, "poor", POOR, regime=regime)
    models = tmp_path / "models"
    assert (models / "current/catboost-bank/model.cbm").read_bytes() == b"good"
    assert (models / "candidates/catboost-bank/poor/model.cbm").read_bytes() == b"poor"
    report = json.loads((models / "candidates/catboost-bank/poor/promotion.json").read_text())
    assert "calibration error of 0.2" in report["objections"][0]
    assert report["replaces"] is None
    (violation,) = [event for event in run.events() if isinstance(event, ViolationFound)]
    assert violation.norm == "promotion-gate"


def test_a_model_that_nobody_judged_is_a_candidate_and_one_by_leave_of_a_person_is_not(tmp_path: Path) -> None:
    promoting(tmp_path, "unjudged", GOOD, norms=Norms(enabled=False))
    models = tmp_path / "models"
    assert (models / "candidates/catboost-bank/unjudged").exists()
    promoting(tmp_path, "muted", POOR, norms=Norms(muted=["promotion-gate"]))
    report = json.loads((models / "current/catboost-bank/promotion.json").read_text())
    assert report["muted"]


def test_without_promotion_nothing_is_judged_or_written(tmp_path: Path) -> None:
    run = Run(tmp_path, CatBoostConfig(regime="strict", approve="record"))
    run.end(POOR)
    assert [event for event in run.events() if isinstance(event, ViolationFound)] == []


def test_the_same_run_once_more_replaces_its_model(tmp_path: Path) -> None:
    model = tmp_path / "model.cbm"
    for content in (b"a", b"b"):
        model.write_bytes(content)
        promote(model, tmp_path / "models", "name", "run", good=True, report={})
    assert (tmp_path / "models/current/name/model.cbm").read_bytes() == b"b"
    assert not (tmp_path / "models/previous").exists()


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    model = tmp_path / "model.cbm"
    model.write_bytes(b"a")
    with pytest.raises(StorageError, match=r"promotion\.folder=.*models"):
        promote(model, tmp_path / "models", "name", "run", good=True, report={})
