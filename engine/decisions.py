"""From what the Judge found to what the run does: proposals, verdicts, deadlines, and actions carried out.

Everything decided stands in events: a proposal, who resolved it and why, the action with its effect, what came of it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from engine.controls import ActionFailed, Controls
from norms.actions import ACTIONS
from norms.agent import REWINDS, Agent, Plan
from norms.judge import Judge, Judged
from sessions import events
from sessions.events import Json
from sessions.log import EventLog
from sessions.requests import Decide

NOTHING_DONE = "none"
"""The action of a resolution after which the run goes on as it is."""


@dataclass
class Pending:
    """A proposal that waits for its verdict."""

    proposal: events.Proposal
    plan: Plan
    asked_at: float
    deadline: float | None
    """Both by the monotonic clock."""


@dataclass
class Begun:
    """An action that has been recorded as started, and is not done yet."""

    event: events.Action
    violations: tuple[str, ...]
    effect: Json | None = None
    """Where it has been carried out, but not shown to hold yet."""


class Decisions:
    """Asks, obeys and records. For one thread at a time.

    Args:
        log: Where it is recorded.
        controls: What the run can do.
        judge: Told which violations to follow up.
        agent: Plans what to do.
        hold: Called with a test of whether the proposal still waits; returns when it does not, or the run is to end.
        acted: Called after every action, to have judged anew what it may have changed.
    """

    def __init__(
        self,
        log: EventLog,
        controls: Controls,
        judge: Judge,
        agent: Agent,
        hold: Callable[[Callable[[], bool]], None],
        acted: Callable[[], None],
    ) -> None:
        self._log = log
        self._controls = controls
        self._judge = judge
        self._agent = agent
        self._hold = hold
        self._acted = acted
        self._pending: dict[str, Pending] = {}
        self._decided: dict[str, str] = {}  # proposal → how, and by whom
        self._cured: set[str] = set()  # of what is still asked about
        self._acted_on: list[events.Action] = []  # in the latest step in which the agent did anything
        self._boundary: list[Begun] = []
        self._evaluation: list[Begun] = []
        self._proposals = 0
        self._actions = 0
        self.last_word = ""
        """Who decided last, in words."""
        self.evaluating = False
        """Whether an evaluation is being judged, which can be made again."""
        self.overridden: set[str] = set()
        """Norms whose remedy a person rejected."""

    @property
    def waiting(self) -> list[str]:
        """Ids of the proposals that wait for an answer."""
        return list(self._pending)

    @property
    def rewinding(self) -> bool:
        """Whether the step that is under way will be undone, or is the last one."""
        return any(begun.event.action in REWINDS for begun in self._boundary)

    def consider(self, judged: Judged, step: int) -> None:
        """Have done what the agent plans about what was found; may hold until somebody has answered."""
        cured = {outcome.violation for outcome in judged.outcomes if outcome.state == "cured"}
        if cured:
            self._withdraw(cured, step)
        for plan in self._agent.plans(judged):
            self._take(plan, step)

    def _withdraw(self, cured: set[str], step: int) -> None:
        """Ask no more about what has been cured meanwhile."""
        for pending in list(self._pending.values()):
            self._cured |= cured & set(pending.proposal.violations)
            if self._cured.issuperset(pending.proposal.violations):
                self._resolve(pending, "by_policy", NOTHING_DONE, {}, "cured without it", "policy", step)

    def _take(self, plan: Plan, step: int) -> None:
        decision = plan.decision
        now = time.monotonic()
        seconds = decision.deadline_seconds if decision.how == "ask" else None
        self._proposals += 1
        proposal = self._log.append(
            events.Proposal(
                id=f"p{self._proposals}",
                violations=[violation.id for violation in plan.violations],
                action=plan.action or NOTHING_DONE,
                params=plan.params,
                alternatives=list(plan.alternatives),
                rationale=plan.rationale,
                hold=decision.hold if decision.how == "ask" else "continue",
                deadline=None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds),
                on_timeout=decision.on_timeout,
            )
        )
        pending = Pending(proposal, plan, now, None if seconds is None else now + seconds)
        self._pending[proposal.id] = pending
        if decision.how == "ask":
            if decision.hold == "pause":
                self._hold(lambda: proposal.id in self._pending)
            return
        action = plan.action if decision.how == "act" and plan.action else NOTHING_DONE
        policy = decision.policy
        if (twin := self._done_in_step(action, plan.params, step)) is not None:
            policy += f"; {twin} did it in this step"
        self._resolve(pending, "by_policy", action, plan.params, policy, "policy", step, twin=twin)

    def _done_in_step(self, action: str, params: Json, step: int) -> str | None:
        """Return which action of this step was the same: one update can break several norms that want one remedy."""
        same = (
            event.id for event in self._acted_on if (event.action, event.params, event.step) == (action, params, step)
        )
        return next(same, None)

    def answer(self, request: Decide, step: int) -> str | None:
        """Obey a verdict, or return why it is refused."""
        if (how := self._decided.get(request.proposal)) is not None:
            return f"{request.proposal} is decided already: {how}"
        if (pending := self._pending.get(request.proposal)) is None:
            waiting = ", ".join(self._pending)
            return f"unknown proposal {request.proposal}; " + (f"{waiting} waits" if waiting else "none waits")
        chosen = self._chosen(request, pending.proposal)
        if isinstance(chosen, str):
            return chosen
        action, params = chosen
        verdicts: dict[str, Literal["approved", "overridden", "rejected"]]
        verdicts = {"approve": "approved", "override": "overridden", "reject": "rejected"}
        verdict = verdicts[request.verdict]
        if request.always:
            self._remember(request, pending.plan, verdict, action, params)
        self._resolve(pending, verdict, action, params, request.by, request.via, step, request.reason)
        return None

    def _chosen(self, request: Decide, proposal: events.Proposal) -> tuple[str, Json] | str:
        """Return the action and parameters that a verdict means, or why it cannot be."""
        if request.verdict == "reject":
            return NOTHING_DONE, {}
        if request.verdict == "approve":
            if proposal.action == NOTHING_DONE:
                return f"{proposal.id} recommends nothing that could be approved; override it or reject it"
            if request.action not in (None, proposal.action) or request.params:
                return f"{proposal.id}: approve takes {proposal.action} as proposed; use override to change it"
            return proposal.action, proposal.params
        if request.action is None and not request.params:
            return f"{proposal.id}: override needs another action, or other parameters"
        action = request.action or proposal.action
        params = request.params if action != proposal.action else _merged(action, proposal.params, request.params)
        if (why := self._controls.refusal(action, params)) is not None:
            return why
        return action, params

    def _remember(
        self,
        request: Decide,
        plan: Plan,
        verdict: Literal["approved", "overridden", "rejected"],
        action: str,
        params: Json,
    ) -> None:
        if verdict != "overridden":
            action, params = "", {}  # whatever is recommended then, or nothing
        norm = plan.violations[0].norm
        self._log.append(events.Policy(norm=norm, verdict=verdict, action=action, params=params, by=request.by))
        self._agent.remember(norm, verdict, request.by, action, params)

    def expire(self, step: int) -> None:
        """Decide what nobody has answered in time."""
        now = time.monotonic()
        for pending in [each for each in self._pending.values() if each.deadline is not None and now >= each.deadline]:
            proposal = pending.proposal
            action, params = {
                "stop": ("stop", {}),
                "recommended": (proposal.action, proposal.params),
            }.get(proposal.on_timeout or "", (NOTHING_DONE, {}))
            self._resolve(pending, "timed_out", action, params, pending.plan.decision.policy, "policy", step)

    def drop(self, norm: str, by: str, via: Literal["tui", "cli"], step: int) -> None:
        """A person muted a norm: what was proposed about it alone is settled with that."""
        for pending in list(self._pending.values()):
            if all(violation.norm == norm for violation in pending.plan.violations):
                self._resolve(pending, "rejected", NOTHING_DONE, {}, by, via, step, f"{norm} was muted")

    def _resolve(
        self,
        pending: Pending,
        verdict: Literal["approved", "overridden", "rejected", "timed_out", "by_policy"],
        action: str,
        params: Json,
        by: str,
        via: Literal["tui", "cli", "policy"],
        step: int,
        reason: str | None = None,
        twin: str | None = None,
    ) -> None:
        proposal = pending.proposal
        del self._pending[proposal.id]
        self._decided[proposal.id] = self.last_word = _told(verdict, by, reason)
        self._log.append(
            events.Resolution(
                proposal=proposal.id,
                verdict=verdict,
                action=action,
                params=params,
                by=by,
                via=via,
                reason=reason,
                waited_seconds=time.monotonic() - pending.asked_at,
            )
        )
        if action == NOTHING_DONE:
            self._agent.rejected(proposal.violations)
            remembered = pending.plan.remembered
            if verdict == "rejected" or (remembered is not None and remembered.verdict == "rejected"):
                self.overridden.update(violation.norm for violation in pending.plan.violations)
            return
        if twin is not None:
            self._follow(proposal.violations, action)
            return
        self._actions += 1
        self._begin(f"a{self._actions}", action, params, step, proposal)

    def command(self, request: str, action: str, params: Json, step: int) -> str | None:
        """Carry out what a person asked for unasked, or return why it is refused."""
        if (why := self._controls.refusal(action, params)) is not None:
            return why
        self._begin(request, action, params, step)
        return None

    def _begin(
        self, action_id: str, action: str, params: Json, step: int, proposal: events.Proposal | None = None
    ) -> None:
        started = events.Action(
            id=action_id,
            proposal=proposal.id if proposal else None,
            action=action,
            params=params,
            state="started",
            step=step,
        )
        self._acted_on = [event for event in self._acted_on if event.step == step]
        begun = Begun(self._log.append(started), tuple(proposal.violations) if proposal else ())
        if proposal is not None:
            self._acted_on.append(begun.event)
        when = self._controls.when(action)
        if when == "boundary":
            self._boundary.append(begun)
        elif self._run(begun):
            if when == "evaluation" and self.evaluating:
                self._evaluation.append(begun)
            else:
                self._done(begun)

    def _run(self, begun: Begun) -> bool:
        """Carry an action out; return whether that worked. A failure is recorded, and the next remedy planned."""
        event = begun.event
        self._agent.tried(begun.violations, event.action)
        try:
            begun.effect = self._controls.carry_out(event.action, event.params)
        except ActionFailed as error:
            self._log.append(replace(event, state="failed", error=str(error)))
            persist = [events.Outcome(violation=each, state="persists", step=event.step) for each in begun.violations]
            for outcome in persist:
                self._log.append(outcome)
            self.consider(Judged(outcomes=persist), event.step)
            return False
        for violation in begun.violations:
            self._judge.follow(violation)
        return True

    def _follow(self, violations: Sequence[str], action: str) -> None:
        """Note that what was done is meant for these violations too."""
        self._agent.tried(violations, action)
        for violation in violations:
            self._judge.follow(violation)

    def _done(self, begun: Begun) -> None:
        self._log.append(replace(begun.event, state="done", effect=begun.effect))
        if begun.violations:
            self._acted()

    def settle(self) -> None:
        """Do what had to wait for the end of the step."""
        while self._boundary:
            begun = self._boundary.pop(0)
            if self._run(begun):
                self._done(begun)

    def settle_evaluation(self) -> list[Begun]:
        """Return what waits for another evaluation; `evaluated` ends it."""
        waiting, self._evaluation = self._evaluation, []
        return waiting

    def evaluated(self, begun: Sequence[Begun], before: Json, after: Json) -> None:
        """Note that the evaluation was made again, with the figures of both."""
        for each in begun:
            effect = each.effect or {}
            each.effect = {
                "before": effect.get("before", {}) | before,
                "after": effect.get("after", {}) | after,
            }
            self._done(each)


def _merged(action: str, proposed: Json, given: Json) -> Json:
    """Return the proposed parameters with the given ones in their place, also where one stands for another."""
    spec = ACTIONS[action]
    replaced = set(spec.one_of) if set(spec.one_of) & set(given) else set()
    return {name: value for name, value in proposed.items() if name not in replaced} | given


def _told(verdict: str, by: str, reason: str | None) -> str:
    how = {"by_policy": f"policy ({by})", "timed_out": f"a time-out ({by})"}
    return how.get(verdict, f"{verdict} by {by}") + (f": {reason}" if reason else "")
