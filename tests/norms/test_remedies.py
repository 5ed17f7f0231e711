"""Ladders of remedies: from the first to the last, in the order of the catalogue, as far as the run can."""

from typing import Any

import pytest

from norms.actions import ACTIONS, check_params
from norms.agent import GENERIC, Able, Agent
from norms.detectors import DETECTORS
from norms.judge import Judge, Judged
from norms.norm import Norm, catalogue
from norms.policy import Approve
from norms.signals import Evaluation, Update
from tests.norms.agents import (
    NAN,
    UNCOVERED,
    Run,
    all_but,
    anything,
    climbed,
    fine_steps,
    ids,
    nan_steps,
    only,
    persists,
    violation_of,
)
from tests.norms.cases import CASES


@pytest.mark.parametrize(
    ("norm", "aspect", "expected"),
    [
        ("non-finite", "gradients", ["skip_step", "amp_off", "roll_back", "set_lr", "stop", None]),
        ("non-finite", "weights", ["roll_back", "set_lr", "stop", None]),
        ("non-finite", "evaluation", ["amp_off", "roll_back", "set_lr", "stop", None]),
        ("spike", "", ["skip_step", "roll_back", "set_lr", "clip_gradients", "stop", None]),
        ("grad-scale", "accumulation", ["set_lr", "stop", None]),
        ("grad-scale", "clipping", ["stop", None]),
        ("checkpoint-integrity", "", ["save_again", "pause", "stop", None]),
        ("promotion-gate", "", [None]),
        ("resources", "gap", [None]),
    ],
)
def test_a_remedy_that_does_not_help_is_followed_by_the_next(norm, aspect, expected) -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    assert climbed(agent, violation_of(norm, aspect)) == expected


@pytest.mark.parametrize(
    ("regime", "approve", "severity", "last"),
    [
        ("strict", "ask", "critical", ("ask", "stop")),
        ("strict", "ask", "major", ("ask", "stop")),
        ("balanced", "ask", "critical", ("ask", "recommended")),
        ("balanced", "ask", "major", ("ask", "continue")),
        ("strict", "auto", "critical", ("act", None)),
        ("balanced", "auto", "critical", ("act", None)),
        ("exploratory", "auto", "critical", ("act", None)),
        ("strict", "auto", "major", ("record", None)),
        ("balanced", "auto", "major", ("record", None)),
        ("balanced", "record", "critical", None),
    ],
)
def test_when_the_remedies_are_exhausted(regime, approve, severity, last) -> None:
    """A spike has no stop of its own: a person is asked to; alone, the agent does it for what is critical."""
    agent = Agent("norm_aware", regime, approve, norms=catalogue(), able=anything)
    (plan,) = agent.plans(Judged([violation_of("spike", severity=severity)]))
    for _ in range(4):
        if plan.decision.how == "record":
            agent.rejected(ids(plan))
            assert agent.plans(persists("v1")) == [] and last is None
            return
        agent.tried(["v1"], plan.action)
        (plan,) = agent.plans(persists("v1"))
    assert plan.action == "stop"
    assert (plan.decision.how, plan.decision.on_timeout) == last
    assert "clip_gradients did not help, and stop is what is left" in plan.rationale
    if last == ("record", None):
        assert plan.decision.policy == "approve=auto: no remedy is left, and major ends no run"
        assert agent.plans(persists("v1")) == []


def test_from_the_first_nan_to_the_last_remedy_with_a_judge() -> None:
    """Each remedy gets the norm's grace of three updates; the answer comes while the judge goes on seeing NaN."""
    run = Run("norm_aware", "balanced", "auto")
    plan, step, actions = run.one(*nan_steps(1)), 1, []
    while True:
        actions.append((step, plan.action))
        run.obey(plan)
        plans = []
        while not plans and step < 99:
            step += 1
            plans = run.feed(*nan_steps(step))
        if not plans:
            break
        (plan,) = plans
    assert actions == [(1, "skip_step"), (4, "amp_off"), (7, "roll_back"), (10, "set_lr"), (13, "stop")]


def test_when_not_even_stopping_is_possible() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=only("skip_step"))
    assert climbed(agent, violation_of("spike")) == ["skip_step", None]
    agent.tried(["v1"], "skip_step")
    (plan,) = agent.plans(persists("v1"))
    assert "skip_step did not help, and nothing is left that this run can carry out" in plan.rationale


def test_the_agentic_ladder() -> None:
    for norm in ("non-finite", "spike", "at-chance"):
        agent = Agent("agentic", "strict", "ask", norms=catalogue(), able=anything)
        assert climbed(agent, violation_of(norm)) == [*(remedy.action for remedy in GENERIC), None]
    (plan,) = Run("agentic").feed(*nan_steps(1))
    assert "the first generic remedy is roll_back" in plan.rationale


def test_what_comes_back_goes_on_where_it_was() -> None:
    run = Run("norm_aware", "balanced", "auto")
    run.obey(run.one(*nan_steps(1)))
    assert run.feed(*fine_steps(2)) == [], "cured"
    plan = run.one(*nan_steps(20))
    assert (plan.action, plan.violations[0].recurs) == ("amp_off", "v1")
    assert "it came back after skip_step, and the next remedy is amp_off" in plan.rationale
    run.obey(plan)
    assert [p.action for p in run.feed(*nan_steps(21, 3))] == ["roll_back"]


def test_what_was_cured_without_a_remedy_starts_with_the_first() -> None:
    run = Run("norm_aware", "balanced")
    first = run.one(*nan_steps(1))
    assert run.feed(*fine_steps(2)) == []
    again = run.one(*nan_steps(20))
    assert first.action == again.action == "skip_step"
    assert ids(first) != ids(again)


def test_places_and_aspects_have_ladders_of_their_own() -> None:
    run = Run("norm_aware", "balanced", "auto")
    bad = {split: Evaluation(split=split, step=1, loss=NAN) for split in ("val", "test")}
    run.obey(run.one(bad["val"]))
    assert run.one(bad["test"]).action == "amp_off"
    run.obey(run.one(*nan_steps(1)))
    assert run.one(Update(step=1, non_finite=("w",))).action == "roll_back"


def test_while_a_plan_waits_there_is_no_other() -> None:
    run = Run("norm_aware", "balanced")
    plan = run.one(*nan_steps(1))
    assert run.feed(*nan_steps(2, 30)) == []
    assert run.agent.plans(persists(*ids(plan))) == []


def test_what_was_rejected_is_left_alone_until_it_comes_back() -> None:
    run = Run("norm_aware", "balanced")
    plan = run.one(*nan_steps(1))
    run.agent.rejected(ids(plan))
    run.judge.follow("v1")
    assert run.feed(*nan_steps(2, 30)) == []
    assert run.feed(*fine_steps(40)) == []
    assert run.one(*nan_steps(60)).action == "skip_step"


def test_what_a_person_leaves_after_a_remedy_is_left() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    agent.plans(Judged([violation_of("spike")]))
    agent.tried(["v1"], "skip_step")
    agent.rejected(["v1"])
    assert agent.plans(persists("v1")) == []


@pytest.mark.parametrize(
    ("taken", "then"), [("skip_step", "amp_off"), ("roll_back", "set_lr"), ("set_lr", "stop"), ("pause", "amp_off")]
)
def test_a_person_who_takes_another_action_has_passed_over_those_before(taken: str, then: str) -> None:
    run = Run("norm_aware", "balanced")
    run.obey(run.one(*nan_steps(1)), taken)
    plan = run.one(*nan_steps(2, 3))
    assert plan.action == then
    assert f"{taken} did not help" in plan.rationale


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        (all_but("skip_step"), "amp_off"),
        (all_but("skip_step", "amp_off"), "roll_back"),
        (only("stop"), "stop"),
        (only("pause"), None),
        (only(), None),
    ],
)
def test_only_what_the_run_can_do_is_recommended_or_offered(able: Able, expected: str | None) -> None:
    plan = Run("norm_aware", "strict", able=able).one(*nan_steps(1))
    assert plan.action == expected
    assert all(able(option.action, option.params) is None for option in plan.alternatives)
    said = "there is no remedy that this run can carry out" if expected is None else "that this run can carry out is"
    assert said in plan.rationale


@pytest.mark.parametrize(("approve", "how"), [("ask", ["ask"]), ("auto", []), ("record", [])])
def test_without_an_action_a_person_is_asked_and_nobody_else(approve: Approve, how: list[str]) -> None:
    plans = Run("norm_aware", "strict", approve, able=only()).feed(*nan_steps(1))
    assert [plan.decision.how for plan in plans] == how


def test_a_remedy_whose_parameters_the_evidence_lacks_is_passed_over() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    (plan,) = agent.plans(Judged([violation_of("optimizer-coverage", evidence={"parameters": []})]))
    assert plan.action == "stop"
    assert [option.action for option in plan.alternatives] == ["pause"]
    full = Run("norm_aware", "strict").one(UNCOVERED)
    assert (full.action, full.params) == ("add_parameters", {"names": ["head.weight", "head.bias"]})


def test_what_the_run_can_do_is_asked_anew() -> None:
    """There is nothing to go back to until a checkpoint was saved."""
    missing = {"roll_back"}
    run = Run("norm_aware", "strict", able=lambda action, params: "none yet" if action in missing else None)
    assert run.one(Update(step=1, non_finite=("w",))).action == "set_lr"
    missing.clear()
    assert "roll_back" in [option.action for option in run.one(*nan_steps(2)).alternatives]


def test_nobody_is_there_to_end_a_pause() -> None:
    agent = Agent("norm_aware", "strict", "auto", norms=catalogue(), able=anything)
    assert climbed(agent, violation_of("checkpoint-integrity")) == ["save_again", "stop"]


@pytest.mark.parametrize("case", [case for case in CASES if case.expected[0]], ids=lambda c: f"{c.norm}-{c.what}")
def test_every_plan_is_complete_possible_and_said_in_data(case: Any) -> None:
    run = Run("norm_aware", "strict")
    for plan in run.feed(*case.signals):
        first = plan.violations[0]
        assert plan.rationale.startswith(f"{first.norm}: {first.message}; ")
        assert run.judge.norms[first.norm].why in plan.rationale and "\n" not in plan.rationale
        options = [(option.action, option.params) for option in plan.alternatives]
        for action, params in [*options, *([(plan.action, plan.params)] if plan.action else [])]:
            check_params(action, params)
        assert (plan.action, plan.params) not in options
        assert len({repr(option) for option in options}) == len(options)
        assert {"pause", "stop"} <= {plan.action, *(action for action, _ in options)}
        for option in plan.alternatives:
            assert (option.effect, option.reversible) == (
                ACTIONS[option.action].effect,
                ACTIONS[option.action].reversible,
            )


def evidence_for(norm: Norm, aspect: str) -> dict[str, Any]:
    """Return the evidence that a real case of the norm leaves."""
    for case in CASES:
        if (case.norm, case.aspect) == (norm.id, aspect):
            judge = Judge("strict")
            for signal in case.signals:
                for violation in judge.feed(signal).violations:
                    if (violation.norm, violation.aspect) == (norm.id, aspect):
                        return violation.evidence
    raise AssertionError(f"no case breaks {norm.id} {aspect}")


@pytest.mark.parametrize("norm", catalogue().values(), ids=lambda norm: norm.id)
def test_every_remedy_of_the_catalogue_is_proposed_at_some_point(norm: Norm) -> None:
    """Those of lighter norms as well, once a person has made them graver."""
    proposed: list[str | None] = []
    for aspect in sorted({detector.aspect for detector in DETECTORS if detector.norm == norm.id}):
        agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
        violation = violation_of(norm.id, aspect, "major", evidence=evidence_for(norm, aspect))
        proposed += climbed(agent, violation)
    assert {remedy.action for remedy in norm.remedies} <= set(proposed)
