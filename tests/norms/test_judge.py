"""The judge: merging, cures, recurrence, order, muting, overrides, faults and how norms stand."""

import math
from typing import Any

import pytest

from configs.errors import ConfigError
from norms.finding import Answer, Detector, Finding, Limits
from norms.judge import NOTHING, Judge, Judged
from norms.norm import REGIMES, catalogue, parse_norms
from norms.signals import Determinism, EpochEnd, Evaluation, Preflight, Resources, RunEnd, Step, Update
from norms.user import UserNorm
from norms.windows import Windows
from sessions.events import ViolationFound

ONE = """
- {id: mine, category: operations, severity: minor, title: t, what: w., why: y., judged: [step], measures: m, advice: a}
"""


def with_detector(detect: Any) -> UserNorm:
    (norm,) = parse_norms(ONE.encode(), "mine.yaml")
    return UserNorm(norm, (Detector("mine", Step, detect, "", ""),))


def standing(judge: Judge, norm: str) -> str:
    return next(reading.standing for reading in judge.readings() if reading.norm == norm)


def stale(judge: Judge, step: int, broken: bool = True) -> Judged:
    return judge.feed(Step(step=step, stale_gradients=("w",) if broken else ()))


def test_a_healthy_signal_leads_to_nothing() -> None:
    assert Judge("strict").feed(Step(step=1, loss=1.0, stale_gradients=())) is NOTHING


def test_repeats_are_one_violation_until_it_is_cured() -> None:
    judge = Judge("strict")
    assert [v.id for v in stale(judge, 1).violations] == ["v1"]
    for step in range(2, 50):
        assert stale(judge, step) == NOTHING._replace(violations=[], outcomes=[], problems=[], repeats=["v1"])
    (reading,) = (reading for reading in judge.readings() if reading.norm == "zero-grad")
    assert (reading.standing, reading.repeats, reading.open, reading.limit) == ("broken", 49, ["v1"], 1)


def test_it_is_cured_when_kept_as_often_as_its_patience_says() -> None:
    judge = Judge("strict")
    stale(judge, 1)
    patience = catalogue()["zero-grad"].patience
    outcomes = [stale(judge, 1 + i, broken=False).outcomes for i in range(1, patience + 1)]
    assert [[(o.violation, o.state, o.step) for o in each] for each in outcomes] == [
        *[[]] * (patience - 1),
        [("v1", "cured", 1 + patience)],
    ]
    assert standing(judge, "zero-grad") == "cured"
    assert judge.verdict().broken == []


def test_what_was_not_seen_cures_nothing() -> None:
    judge = Judge("strict")
    stale(judge, 1)
    for step in range(2, 30):
        assert judge.feed(Step(step=step)) is NOTHING
    assert standing(judge, "zero-grad") == "broken"


def test_it_recurs_as_a_new_violation_that_names_the_old() -> None:
    judge = Judge("strict")
    stale(judge, 1)
    stale(judge, 2, broken=False)
    stale(judge, 3, broken=False)
    judged = stale(judge, 4)
    assert [(v.id, v.recurs) for v in judged.violations] == [("v2", "v1")]
    assert [(o.violation, o.state) for o in judged.outcomes] == [("v1", "recurred")]
    assert judged.violations[0].event().evidence["recurs"] == "v1"


def test_what_flaps_is_reported_ever_more_rarely() -> None:
    judge = Judge("strict")
    found = sum(len(stale(judge, step, broken=step % 5 == 0).violations) for step in range(1, 2001))
    assert 1 < found < 5


def test_places_are_broken_and_cured_apart() -> None:
    judge = Judge("strict")
    broken = [judge.feed(Evaluation(split=split, step=1, in_training=("drop",))) for split in ("val", "test")]
    assert [[v.place for v in judged.violations] for judged in broken] == [["val"], ["test"]]
    cured = judge.feed(Evaluation(split="test", step=2, in_training=())).outcomes
    assert [outcome.violation for outcome in cured] == ["v2"]
    assert standing(judge, "eval-mode") == "broken"


def test_streams_have_statistics_of_their_own() -> None:
    """A generator's loss of 8 is no spike of the discriminator's losses around 0.5."""
    judge = Judge("strict")
    found = []
    for step in range(1, 200):
        wave = 1 + 0.05 * math.sin(step)
        found += judge.feed(Step(step=step, stream="D", loss=0.5 * wave)).violations
        found += judge.feed(Step(step=step, stream="G", loss=8 * wave)).violations
    assert not found
    (spike,) = judge.feed(Step(step=200, stream="D", loss=8.0)).violations
    assert (spike.norm, spike.place) == ("spike", "D")


def test_a_norm_found_before_the_run_is_cured_by_what_is_seen_at_its_end() -> None:
    judge = Judge("strict")
    judge.feed(Preflight(step=0, selected_on=("test",), reported_on=("test",)))
    outcomes = judge.feed(RunEnd(step=9, selected_on=("val",), reported_on=("test",))).outcomes
    assert [outcome.state for outcome in outcomes] == ["cured"]


def test_violations_of_one_signal_go_by_the_hierarchy() -> None:
    judge = Judge("strict")
    judged = judge.feed(
        Step(step=1, loss=math.nan, stale_gradients=("w",), root_in_eval=True, in_eval=("drop",), clipped_scaled=True)
    )
    assert [(v.norm, v.severity) for v in judged.violations] == [
        ("zero-grad", "critical"),
        ("train-mode", "major"),
        ("grad-scale", "major"),
        ("non-finite", "critical"),
    ]


def test_after_a_remedy_it_is_cured_or_persists() -> None:
    judge = Judge("strict")
    judge.feed(Update(step=1, non_finite=("w",)))
    judge.follow("v1")
    states = [[o.state for o in judge.feed(Update(step=1 + i, non_finite=("w",))).outcomes] for i in range(1, 9)]
    grace = catalogue()["non-finite"].grace
    assert states == [[]] * (grace - 1) + [["persists"]] + [[]] * (8 - grace), "said once, until the next remedy"
    judge.follow("v1")
    for step in range(10, 10 + catalogue()["non-finite"].patience):
        outcomes = judge.feed(Update(step=step, non_finite=())).outcomes
    assert [o.state for o in outcomes] == ["cured"]


def test_a_muted_norm_is_judged_no_longer() -> None:
    judge = Judge("strict", muted=["zero-grad"])
    assert stale(judge, 1) is NOTHING
    assert standing(judge, "zero-grad") == "muted"
    judge = Judge("strict")
    stale(judge, 1)
    judge.mute("zero-grad")
    assert stale(judge, 2) is NOTHING
    assert standing(judge, "zero-grad") == "muted"
    assert judge.verdict().overridden == ["zero-grad"]
    assert judge.worst_open() is None


def test_the_verdict_tells_kept_broken_and_overridden() -> None:
    judge = Judge("strict")
    judge.feed(Step(step=1, stale_gradients=("w",), clipped_scaled=True, missing_grad=(), lr=0.1))
    verdict = judge.verdict(overridden=["grad-scale"])
    assert (verdict.broken, verdict.overridden) == (["zero-grad"], ["grad-scale"])
    assert verdict.kept == ["missing-grad"]
    assert judge.worst_open() == "critical"
    assert Judge("strict").worst_open() is None


def test_readings_say_how_every_norm_stands_beside_its_limit() -> None:
    judge = Judge("balanced")
    judge.feed(Update(step=1, ratio=0.01))
    judge.feed(EpochEnd(step=1, epoch=1, order_digest="a"))
    readings = {reading.norm: reading for reading in judge.readings()}
    assert list(readings) == list(catalogue())
    assert (readings["reshuffle"].standing, readings["reshuffle"].value, readings["reshuffle"].limit) == ("kept", 1, 2)
    assert readings["update-ratio"].standing == "not applicable", "one measurement is not yet a judgement"
    assert readings["drift"].standing == "not applicable"


def test_an_aspect_that_is_broken_is_the_one_that_is_shown() -> None:
    judge = Judge("strict")
    for step in range(1, 100):
        judge.feed(Step(step=step, loss=1 + 0.1 * math.sin(step), grad_norm=1 + 0.1 * math.sin(step)))
    judge.feed(Step(step=100, loss=1.0, grad_norm=90.0))
    (reading,) = (reading for reading in judge.readings() if reading.norm == "spike")
    assert reading.value is not None and reading.value > 20


def test_the_limit_beside_a_value_is_that_of_its_aspect() -> None:
    judge = Judge("strict")
    judge.feed(Preflight(step=0, total_steps=100))
    judge.feed(Step(step=1, lr=0.1, loss_inputs=()))
    judge.feed(Resources(step=1, disk_free_bytes=10**9, checkpoint_bytes=10**8))
    readings = {reading.norm: reading for reading in judge.readings()}
    assert (readings["scheduler"].value, readings["scheduler"].limit) == (0.1, 1e-7)
    assert (readings["loss-contract"].value, readings["loss-contract"].limit) == (0, 0)
    assert (readings["resources"].value, readings["resources"].limit) == (10, 2)
    assert readings["resources"].measures == "checkpoints that must fit on the disk"


def test_limits_and_levels_can_be_overridden() -> None:
    tolerant = Judge("strict", overrides={"zero-grad": {"steps": 3}})
    assert [len(stale(tolerant, step).violations) for step in (1, 2, 3)] == [0, 0, 1]
    warned = Judge("strict", overrides={"zero-grad": {"level": "warn"}})
    assert stale(warned, 1).violations[0].severity == "minor"
    off = Judge("strict", overrides={"zero-grad": {"level": "off"}})
    assert stale(off, 1) is NOTHING and standing(off, "zero-grad") == "not applicable"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"zero-grads": {}}, "did you mean 'zero-grad'"),
        ({"zero-grad": {"step": 1}}, "did you mean 'steps'"),
        ({"zero-grad": {"level": "loud"}}, "level=loud: allowed is violate, warn, label, off"),
        ({"zero-grad": {"steps": "two"}}, "steps=two: expected a number"),
        ({"zero-grad": {"steps": True}}, "expected a number"),
        ({"zero-grad": {"steps": math.nan}}, "expected a number"),
    ],
)
def test_an_override_that_cannot_be_is_refused(overrides: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Judge("strict", overrides=overrides)


def test_an_unknown_regime_or_muted_norm_is_refused() -> None:
    with pytest.raises(ConfigError, match="allowed is strict, balanced, exploratory"):
        Judge("lax")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="did you mean 'drift'"):
        Judge("strict", muted=["drifts"])


@pytest.mark.parametrize("answer", ["yes", [1], object()])
def test_a_detector_that_answers_nonsense_is_asked_no_more(answer: object) -> None:
    judge = Judge("strict", user_norms=[with_detector(lambda *_: answer)])
    (problem,) = judge.feed(Step(step=1)).problems
    assert "norm mine failed" in problem
    assert judge.feed(Step(step=2)) is NOTHING


def test_a_detector_that_raises_is_asked_no_more_and_the_others_go_on() -> None:
    def broken(signal: Step, limits: Limits, windows: Windows) -> Answer:
        raise ZeroDivisionError("division by zero")

    judge = Judge("strict", user_norms=[with_detector(broken)])
    judged = stale(judge, 1)
    assert judged.problems == [
        "the detector of norm mine failed and is asked no more: ZeroDivisionError: division by zero"
    ]
    assert [v.norm for v in judged.violations] == ["zero-grad"]
    assert not stale(judge, 2).problems


def test_a_norm_of_a_user_is_one_like_any_other() -> None:
    def high_loss(signal: Step, limits: Limits, windows: Windows) -> Answer:
        if signal.loss is None:
            return None
        return Finding(value=signal.loss, message="high", evidence={}) if signal.loss > 9 else signal.loss

    judge = Judge("balanced", user_norms=[with_detector(high_loss)])
    judge.feed(Step(step=1, loss=1.0))
    assert standing(judge, "mine") == "kept"
    (violation,) = judge.feed(Step(step=2, loss=10.0)).violations
    assert isinstance(violation.event(), ViolationFound)
    assert violation.event(pictures=["a.png"]).pictures == ["a.png"]
    assert [v.norm for v in judge.feed(Step(step=3, loss=10.0, stale_gradients=("w",))).violations] == []


def test_a_signal_that_cannot_be_read_is_passed_over_and_said_once() -> None:
    judge = Judge("strict")
    wrong = Step(step=1, loss="a lot")  # type: ignore[arg-type]
    assert ["step signals cannot be read" in problem for problem in judge.feed(wrong).problems] == [True]
    assert judge.feed(wrong) is NOTHING
    assert stale(judge, 2).violations


def test_a_reading_is_as_grave_as_what_is_open() -> None:
    judge = Judge("strict")
    judge.feed(Preflight(step=0, determinism=Determinism(promised=False, missing=("x",))))
    (reading,) = (reading for reading in judge.readings() if reading.norm == "determinism")
    assert (reading.standing, reading.severity) == ("broken", "info")


def test_ids_go_on_where_a_resumed_run_stopped() -> None:
    assert stale(Judge("strict", first=7), 1).violations[0].id == "v7"


def test_after_a_roll_back_a_spike_is_still_told_from_what_was_usual() -> None:
    judge = Judge("balanced")
    for step in range(1, 101):
        judge.feed(Step(step=step, loss=1 + 0.1 * math.sin(step)))
    judge.feed(Step(step=101, loss=50.0))
    judge.rewind(90)
    for step in range(91, 102):
        assert not judge.feed(Step(step=step, loss=1 + 0.1 * math.sin(step))).violations
    assert judge.readings()[list(catalogue()).index("spike")].standing == "cured"


@pytest.mark.parametrize("regime", REGIMES)
def test_a_budget_told_late_is_known_to_every_stream(regime: str) -> None:
    judge = Judge(regime)  # type: ignore[arg-type]
    judge.feed(Step(step=1, stream="G", lr=1e-3))
    judge.feed(Preflight(step=1, total_steps=1000))
    (violation,) = judge.feed(Step(step=2, stream="G", lr=1e-9)).violations
    assert (violation.norm, violation.aspect) == ("scheduler", "floor")
