"""Answers that a person wants remembered: when they hold, and when it becomes a question again."""

from typing import Any

import pytest

from norms.agent import Able, Agent, Plan
from norms.judge import Judged
from norms.norm import catalogue
from norms.policy import Approve
from tests.norms.agents import UNCOVERED, Run, all_but, anything, does, ids, persists, violation_of


def spiked(agent: Agent, violation: str = "v1", recurs: str | None = None) -> list[Plan]:
    return agent.plans(Judged([violation_of("spike", id=violation, recurs=recurs)]))


@pytest.mark.parametrize(
    ("verdict", "action", "params", "expected"),
    [
        ("approved", "", {}, ("skip_step", {}, "act")),
        ("approved", "skip_step", {}, ("skip_step", {}, "act")),
        ("approved", "roll_back", {"steps": 5}, ("roll_back", {"steps": 5}, "act")),
        ("overridden", "set_lr", {"factor": 0.1}, ("set_lr", {"factor": 0.1}, "act")),
        ("rejected", "none", {}, ("skip_step", {}, "record")),
    ],
)
@pytest.mark.parametrize("approve", ["ask", "auto"])
def test_a_remembered_answer_decides_at_once(approve, verdict, action, params, expected) -> None:
    agent = Agent("norm_aware", "strict", approve, norms=catalogue(), able=anything)
    agent.remember("spike", verdict, "ann", action, params)
    (plan,) = spiked(agent)
    assert (plan.action, plan.params, plan.decision.how) == expected
    assert plan.decision.policy == "always, said by ann of spike"
    assert plan.remembered is not None and (plan.remembered.verdict, plan.remembered.by) == (verdict, "ann")
    assert plan.remembered.action == ("" if verdict == "rejected" else action)
    assert "ann wants" in plan.rationale
    (other,) = agent.plans(Judged([violation_of("zero-grad", id="v2")]))
    assert other.remembered is None


def test_a_remembered_answer_takes_its_parameters_from_each_violation() -> None:
    run = Run("norm_aware", "strict")
    run.agent.remember("optimizer-coverage", "approved", "ann", "add_parameters", {"names": ["old"]})
    assert run.one(UNCOVERED).params == {"names": ["head.weight", "head.bias"]}


def test_a_remembered_remedy_that_does_not_help_becomes_a_question_again() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    agent.remember("spike", "overridden", "ann", "set_lr", {"factor": 0.1})
    (plan,) = spiked(agent)
    agent.tried(ids(plan), "set_lr")
    assert [does(plan) for plan in spiked(agent, "v2", recurs="v1")] == [("set_lr", "act")], "whenever it is broken"
    agent.tried(["v2"], "set_lr")
    (plan,) = agent.plans(persists("v2"))
    assert does(plan) == ("skip_step", "ask")
    agent.tried(ids(plan), "skip_step")
    assert [does(plan) for plan in spiked(agent, "v3", recurs="v2")] == [("set_lr", "act")]


def test_an_answer_given_meanwhile_holds_for_what_persists_after_another_remedy() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    (plan,) = spiked(agent)
    agent.tried(ids(plan), "skip_step")
    agent.remember("spike", "overridden", "ann", "set_lr", {"factor": 0.1})
    assert [does(plan) for plan in agent.plans(persists("v1"))] == [("set_lr", "act")]


def test_approving_always_is_not_consent_to_the_end_of_the_run() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    agent.remember("spike", "approved", "ann")
    hows, plans = [], spiked(agent)
    while plans[0].action != "stop":
        hows.append(does(plans[0]))
        agent.tried(ids(plans[0]), plans[0].action)
        plans = agent.plans(persists("v1"))
    assert hows == [(action, "act") for action in ("skip_step", "roll_back", "set_lr", "clip_gradients")]
    assert does(plans[0]) == ("stop", "ask")


@pytest.mark.parametrize(
    ("approve", "able", "expected"),
    [("ask", all_but("set_lr"), [("skip_step", "ask")]), ("record", anything, [("skip_step", "record")])],
    ids=["not able", "approve=record"],
)
def test_a_remembered_answer_that_cannot_hold(approve: Approve, able: Able, expected: Any) -> None:
    agent = Agent("norm_aware", "strict", approve, norms=catalogue(), able=able)
    agent.remember("spike", "overridden", "ann", "set_lr", {"factor": 0.1})
    assert [(*does(plan), plan.remembered) for plan in spiked(agent)] == [(*each, None) for each in expected]


@pytest.mark.parametrize(("verdict", "expected"), [("approved", [("set_lr", "act")]), ("rejected", [])])
def test_an_answer_holds_for_what_would_only_be_recorded(verdict: Any, expected: Any) -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    agent.remember("dead-units", verdict, "ann")
    assert [does(plan) for plan in agent.plans(Judged([violation_of("dead-units")]))] == expected


def test_the_last_answer_holds() -> None:
    agent = Agent("norm_aware", "strict", "ask", norms=catalogue(), able=anything)
    agent.remember("spike", "rejected", "ann")
    agent.remember("spike", "approved", "bob")
    (plan,) = spiked(agent)
    assert (plan.decision.how, plan.decision.policy) == ("act", "always, said by bob of spike")


@pytest.mark.parametrize(
    ("remembered", "verdict", "expected"),
    [
        ("spike", "approved", [(["v2", "v1"], "act")]),
        ("non-finite", "approved", [(["v2", "v1"], "act")]),
        ("spike", "rejected", [(["v2"], "ask"), (["v1"], "record")]),
        ("non-finite", "rejected", [(["v2"], "record"), (["v1"], "act")]),
    ],
)
def test_remembered_answers_where_two_norms_want_one_action(remembered, verdict, expected) -> None:
    agent = Agent("norm_aware", "balanced", "ask", norms=catalogue(), able=anything)
    agent.remember(remembered, verdict, "ann")
    spike, nan = violation_of("spike", id="v1"), violation_of("non-finite", "gradients", id="v2")
    assert [(ids(plan), plan.decision.how) for plan in agent.plans(Judged([spike, nan]))] == expected
