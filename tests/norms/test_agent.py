"""The agent: modes, regimes, several violations at one moment, updates that are left out, norms of users."""

from typing import Any

import pytest

from configs.schema import Mode
from norms.agent import Agent
from norms.finding import Detector, Finding
from norms.judge import NOTHING, Judge, Judged
from norms.norm import REGIMES, Regime, catalogue, parse_norms
from norms.policy import Approve
from norms.signals import Evaluation, Step
from norms.user import UserNorm
from tests.norms.agents import (
    IN_EVAL,
    NAN,
    SPIKE,
    STALE,
    UNCOVERED,
    Run,
    anything,
    calm,
    does,
    fine_steps,
    ids,
    nan_steps,
    only,
    persists,
    violation_of,
)


@pytest.mark.parametrize(
    ("mode", "regime", "approve", "expected"),
    [
        ("pipeline", "strict", "ask", None),
        ("pipeline", "strict", "auto", None),
        ("agentic", "strict", "ask", ("roll_back", "ask", "pause", "stop")),
        ("agentic", "balanced", "ask", ("roll_back", "ask", "pause", "recommended")),
        ("agentic", "balanced", "auto", ("roll_back", "act", "continue", None)),
        ("norm_aware", "strict", "ask", ("skip_step", "ask", "pause", "stop")),
        ("norm_aware", "balanced", "ask", ("skip_step", "ask", "pause", "recommended")),
        ("norm_aware", "exploratory", "ask", ("skip_step", "ask", "continue", "continue")),
        ("norm_aware", "exploratory", "auto", ("skip_step", "act", "continue", None)),
        ("norm_aware", "balanced", "record", ("skip_step", "record", "continue", None)),
    ],
)
def test_a_loss_of_nan_in_every_mode_and_regime(mode, regime, approve, expected) -> None:
    plans = Run(mode, regime, approve).feed(*nan_steps(1))
    found = [(*does(plan), plan.decision.hold, plan.decision.on_timeout) for plan in plans]
    assert found == ([] if expected is None else [expected])
    for plan in plans:
        assert plan.decision.deadline_seconds == (30 if plan.decision.how == "ask" else None)


@pytest.mark.parametrize(
    ("regime", "approve", "expected"),
    [
        ("strict", "ask", "ask"), ("strict", "auto", "act"), ("strict", "record", "record"),
        ("balanced", "ask", "act"), ("balanced", "auto", "act"), ("balanced", "record", "record"),
        ("exploratory", "ask", None), ("exploratory", "auto", None), ("exploratory", "record", None),
    ],
)  # fmt: skip
def test_what_is_merely_recorded_needs_no_plan_and_what_is_left_has_one(regime, approve, expected) -> None:
    """A spike is major: the exploratory regime records it, approve=record keeps from acting on it."""
    plans = Run("norm_aware", regime, approve).feed(*calm(), SPIKE)
    assert [does(plan) for plan in plans] == ([] if expected is None else [("skip_step", expected)])


@pytest.mark.parametrize("regime", REGIMES)
def test_a_minor_violation_is_left_on_record(regime: Regime) -> None:
    agent = Agent("norm_aware", regime, "auto", norms=catalogue(), able=anything)
    assert agent.plans(Judged([violation_of("dead-units", severity="minor")])) == []


@pytest.mark.parametrize("signal", [STALE, IN_EVAL, UNCOVERED], ids=["zero-grad", "train-mode", "coverage"])
def test_an_agent_that_knows_symptoms_only_does_nothing_about_mechanisms(signal: Any) -> None:
    assert Run("agentic", "strict").feed(signal) == []
    assert Run("norm_aware", "strict").feed(signal)


def test_a_healthy_signal_leads_to_no_plan() -> None:
    assert Run().feed(*fine_steps(1)) == []
    assert Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything).plans(NOTHING) == []


def many(**facts: Any) -> Step:
    return Step(step=1, **facts)


def test_plans_go_by_the_hierarchy() -> None:
    run = Run("norm_aware", "strict")
    plans = run.feed(many(loss=NAN, stale_gradients=("w",), root_in_eval=True, in_eval=("drop",)))
    assert [(plan.violations[0].norm, plan.action) for plan in plans] == [
        ("zero-grad", "zero_gradients"),
        ("train-mode", "set_mode"),
        ("non-finite", "skip_step"),
    ]


def test_what_rewinds_or_ends_the_run_settles_what_comes_after_it() -> None:
    run = Run("norm_aware", "strict")
    plan = run.one(many(loss=NAN, clipped_scaled=True))
    assert ([v.norm for v in plan.violations], plan.action) == (["grad-scale", "non-finite"], "stop")
    assert "non-finite would be judged anew after it" in plan.rationale
    assert "skip_step" in [option.action for option in plan.alternatives]
    assert run.feed(*nan_steps(2)) == [], "its plan is that one"
    run.obey(plan, "pause")
    assert [p.action for p in run.feed(*nan_steps(3, 3))] == ["skip_step"], "its own remedy was not tried"


def test_what_is_done_at_once_settles_as_well() -> None:
    plan = Run("norm_aware", "balanced", "auto").one(many(loss=NAN, clipped_scaled=True))
    assert (ids(plan), *does(plan)) == (["v2", "v1"], "stop", "act")


def test_what_is_left_alone_is_settled_by_nothing() -> None:
    run = Run("norm_aware", "strict")
    run.agent.remember("non-finite", "rejected", "ann")
    plans = run.feed(many(loss=NAN, clipped_scaled=True))
    assert [(ids(plan), *does(plan)) for plan in plans] == [(["v2"], "stop", "ask"), (["v1"], "skip_step", "record")]


def test_plans_without_an_action_stay_apart() -> None:
    plans = Run("norm_aware", "strict", able=only()).feed(many(loss=NAN, clipped_scaled=True))
    assert [(ids(plan), plan.action) for plan in plans] == [(["v2"], None), (["v1"], None)]


def test_what_does_not_hold_the_run_settles_nothing() -> None:
    """In balanced a major norm asks to stop while the run goes on; NaN cannot wait for that."""
    plans = Run("norm_aware", "balanced").feed(many(loss=NAN, clipped_scaled=True))
    assert [(plan.violations[0].norm, plan.action, plan.decision.hold) for plan in plans] == [
        ("grad-scale", "stop", "continue"),
        ("non-finite", "skip_step", "pause"),
    ]


def test_one_action_for_two_norms_is_one_plan_of_the_gravest() -> None:
    agent = Agent("norm_aware", "balanced", "ask", norms=catalogue(), able=anything)
    spike, nan = violation_of("spike", id="v1"), violation_of("non-finite", "gradients", id="v2")
    (plan,) = agent.plans(Judged([spike, nan]))
    assert (ids(plan), plan.action, plan.decision.how) == (["v2", "v1"], "skip_step", "ask")
    assert "The same action is for spike" in plan.rationale
    agent.tried(ids(plan), "skip_step")
    assert [(ids(p), p.action) for p in agent.plans(persists("v1", "v2"))] == [
        (["v2"], "amp_off"),
        (["v1"], "roll_back"),
    ]


@pytest.mark.parametrize("own", ["grad-scale", "metric-aggregation"], ids=["before", "after"])
def test_a_norm_that_ends_the_run_by_its_own_remedy_ends_it_for_one_that_has_none_left(own: str) -> None:
    agent = Agent("norm_aware", "balanced", "auto", norms=catalogue(), able=anything)
    (plan,) = agent.plans(Judged([violation_of("spike", id="v1")]))
    for action in ("skip_step", "roll_back", "set_lr", "clip_gradients"):
        assert does(plan) == (action, "act")
        agent.tried(["v1"], action)
        other = [violation_of(own, "clipping" if own == "grad-scale" else "", id="v2")]
        new = other if action == "clip_gradients" else []
        (plan,) = agent.plans(persists("v1")._replace(violations=new))
    assert (sorted(ids(plan)), *does(plan)) == (["v1", "v2"], "stop", "act")


def test_equal_actions_with_other_parameters_are_two_plans() -> None:
    agent = Agent("norm_aware", "balanced", "ask", norms=catalogue(), able=only("set_lr"))
    chance, ratio = violation_of("at-chance", id="v1"), violation_of("update-ratio", id="v2")
    found = [(plan.action, plan.params) for plan in agent.plans(Judged([chance, ratio]))]
    assert found == [("set_lr", {"factor": 0.3}), ("set_lr", {"factor": 0.333})]


def test_a_violation_that_persists_and_a_new_one_are_ordered_together() -> None:
    run = Run("norm_aware", "strict")
    run.obey(run.one(*nan_steps(1)))
    run.feed(*nan_steps(2, 2))
    plans = run.feed(Step(step=4, loss=NAN, stale_gradients=("w",)))
    assert [(plan.violations[0].norm, plan.action) for plan in plans] == [
        ("zero-grad", "zero_gradients"),
        ("non-finite", "amp_off"),
    ]


@pytest.mark.parametrize(
    ("mode", "approve", "expected"),
    [
        ("pipeline", "ask", False), ("agentic", "auto", False), ("norm_aware", "record", False),
        ("norm_aware", "ask", True), ("norm_aware", "auto", True),
    ],
)  # fmt: skip
def test_a_non_finite_update_is_left_out_for_as_long_as_it_lasts(mode: Mode, approve: Approve, expected: bool) -> None:
    judge = Judge("exploratory")
    agent = Agent(mode, "exploratory", approve, norms=judge.norms, able=anything)
    for step in range(1, 6):
        judged = judge.feed(Step(step=step, loss=NAN))
        assert agent.withhold(judged) is expected
        for plan in agent.plans(judged):
            agent.rejected(ids(plan))
    assert not agent.withhold(judge.feed(Step(step=6, loss=1.0)))


@pytest.mark.parametrize(
    "signals", [[STALE], [*calm(), SPIKE], [Evaluation(split="val", step=1, loss=NAN)], [UNCOVERED]], ids=range(4)
)
def test_nothing_else_leaves_an_update_out(signals: list[Any]) -> None:
    run = Run("norm_aware", "strict")
    for signal in signals:
        judged = run.judge.feed(signal)
        assert not run.agent.withhold(judged)
        run.agent.plans(judged)


MINE = """
- id: high-loss
  category: stability
  severity: critical
  title: The loss stays below 9
  what: The loss is 9 or more.
  why: It should not be.
  judged: [step]
  measures: the loss
  symptom: {symptom}
  remedies:
    - {{action: set_lr, params_from: {{factor: share}}}}
    - {{action: clip_gradients, params: {{max_norm: 0.5}}}}
  advice: Look at the data.
  evidence: {{share: what to multiply the learning rate by}}
"""


def user_norm(symptom: bool) -> UserNorm:
    (norm,) = parse_norms(MINE.format(symptom=str(symptom).lower()).encode(), "mine.yaml")

    def detect(signal: Step, limits: Any, windows: Any) -> Finding | float | None:
        loss = signal.loss
        if loss is None or loss < 9:
            return loss
        return Finding(value=loss, message=f"the loss is {loss}", evidence={"share": 9 / loss if loss < 1000 else None})

    return UserNorm(norm, (Detector("high-loss", Step, detect, "", ""),))


@pytest.mark.parametrize(
    ("mode", "symptom", "loss", "expected"),
    [
        ("norm_aware", False, 90.0, [("set_lr", {"factor": 0.1})]),
        ("norm_aware", False, 9000.0, [("clip_gradients", {"max_norm": 0.5})]),
        ("agentic", False, 90.0, []),
        ("agentic", True, 90.0, [("roll_back", {})]),
    ],
)
def test_a_norm_of_a_user_has_its_remedies_like_any_other(mode, symptom, loss, expected) -> None:
    run = Run(mode, "strict", user_norms=[user_norm(symptom)])
    assert [(plan.action, plan.params) for plan in run.feed(Step(step=1, loss=loss))] == expected
