"""What the tests of the agent share: runs that are judged and obey, and violations made by hand."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from configs.schema import Mode
from norms.agent import Able, Agent, Plan
from norms.judge import Judge, Judged, Violation
from norms.norm import Regime, catalogue
from norms.policy import Approve
from norms.signals import Preflight, Step
from norms.user import UserNorm
from sessions.events import Outcome

NAN = math.nan


def anything(action: str, params: Mapping[str, Any]) -> None:
    """A run that can do all there is."""


def all_but(*actions: str) -> Able:
    return lambda action, params: f"the run cannot do {action}" if action in actions else None


def only(*actions: str) -> Able:
    return lambda action, params: None if action in actions else f"the run cannot do {action}"


class Run:
    """A judge and its agent, with a person or a policy that has every plan carried out."""

    def __init__(
        self,
        mode: Mode = "norm_aware",
        regime: Regime = "balanced",
        approve: Approve = "ask",
        able: Able = anything,
        user_norms: Sequence[UserNorm] = (),
    ) -> None:
        self.judge = Judge(regime, user_norms=user_norms)
        self.agent = Agent(mode, regime, approve, norms=self.judge.norms, able=able, deadline_seconds=30)

    def feed(self, *signals: Any) -> list[Plan]:
        return list(chain.from_iterable(self.agent.plans(self.judge.feed(signal)) for signal in signals))

    def one(self, *signals: Any) -> Plan:
        (plan,) = self.feed(*signals)
        return plan

    def obey(self, plan: Plan, action: str | None = None) -> None:
        taken = action or plan.action
        assert taken is not None
        self.agent.tried(ids(plan), taken)
        for violation in ids(plan):
            self.judge.follow(violation)


def ids(plan: Plan) -> list[str]:
    return [violation.id for violation in plan.violations]


def does(plan: Plan) -> tuple[str | None, str]:
    return plan.action, plan.decision.how


def persists(*violations: str) -> Judged:
    return Judged(outcomes=[Outcome(violation=each, state="persists", step=9) for each in violations])


def nan_steps(first: int, count: int = 1) -> list[Step]:
    return [Step(step=first + i, loss=NAN) for i in range(count)]


def fine_steps(first: int, count: int = 10) -> list[Step]:
    return [Step(step=first + i, loss=1.0, stale_gradients=()) for i in range(count)]


def calm(first: int = 1, count: int = 100) -> list[Step]:
    return [Step(step=i, loss=1 + 0.1 * math.sin(i)) for i in range(first, first + count)]


SPIKE = Step(step=101, loss=50.0)
STALE = Step(step=1, stale_gradients=("w",))
IN_EVAL = Step(step=1, root_in_eval=True, in_eval=("drop",))
UNCOVERED = Preflight(step=0, uncovered=("head.weight", "head.bias"))


def violation_of(norm: str, aspect: str = "", severity: Any = None, **more: Any) -> Violation:
    entry = catalogue()[norm]
    return Violation(
        id=more.pop("id", "v1"),
        norm=norm,
        category=entry.category,
        severity=severity or entry.severity,
        step=1,
        epoch=None,
        message="it is broken at step 1",
        evidence=more.pop("evidence", {}),
        aspect=aspect,
        **more,
    )


def climbed(agent: Agent, violation: Violation, most: int = 9) -> list[str | None]:
    """Return what is recommended one after the other as nothing helps, until nothing new comes."""
    plans = agent.plans(Judged([violation]))
    actions = [plan.action for plan in plans]
    while plans and plans[0].action is not None and len(actions) < most:
        agent.tried(ids(plans[0]), plans[0].action)
        plans = agent.plans(persists(violation.id))
        actions += [plan.action for plan in plans]
    return actions
