"""The agent: what the judge found in, plans out. It carries nothing out, and knows neither torch, clock nor files.

Modes: pipeline plans nothing. agentic acts on symptoms alone, with generic remedies and after the fact. norm_aware
takes the remedies of the norm's own entry: those for the aspect that is broken, and that this run can carry out.

Each norm, aspect and place has a ladder of remedies. One that was tried and did not help, or after which the violation
came back, is followed by the next; when none is left, ending the run is proposed. Violations of one moment go by the
hierarchy, and one plan serves all that it settles.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

from msgspec import Struct, field
from msgspec.structs import replace

from configs.errors import ConfigError
from configs.schema import Mode
from norms.actions import ACTIONS, check_params
from norms.finding import listed
from norms.judge import Judged, Violation
from norms.norm import SEVERITIES, Category, Norm, Regime, Remedy, rank
from norms.policy import DEADLINE_SECONDS, Approve, Decision, decide
from sessions.events import Alternative, Json

Able = Callable[[str, Mapping[str, Any]], str | None]
"""Says why the run cannot carry an action with these parameters out; None where it can."""
Answered = Literal["approved", "overridden", "rejected"]

GENERIC = (Remedy(action="roll_back"), Remedy(action="set_lr", params={"factor": 0.5}), Remedy(action="stop"))
"""What an agent does that knows symptoms only."""
ALWAYS_OFFERED = (Remedy(action="pause"), Remedy(action="stop"))
"""Alternatives to any recommendation."""
REWINDS = frozenset({"roll_back", "reseed_restart", "drop_column", "stop"})
"""Actions after which whatever else is broken at the moment is judged anew, or not at all."""
_UNSAFE = ("non-finite", "gradients")
"""Norm and aspect of an update that would spoil every weight."""


class Answer(Struct, frozen=True, kw_only=True):
    """What a person wants done whenever a norm is broken."""

    verdict: Answered
    action: str
    """"" for rejected, and for approved where whatever is recommended is meant."""
    params: Json
    by: str


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be done about violations, and who decides that."""

    violations: tuple[Violation, ...]
    """First in the hierarchy first; the plan is made for the first, and settles the others as well."""
    action: str | None
    """What is recommended; None where there is nothing to recommend and a person is asked all the same."""
    params: Json
    alternatives: tuple[Alternative, ...]
    """What the run could do instead, the norm's own remedies first."""
    rationale: str
    decision: Decision
    """record: nothing is done, and the plan is on record for what would have been."""
    remembered: Answer | None = None
    """The answer that decided it, where one was remembered."""


class _Case:
    """How far the remedies of a norm's aspect in one place have been tried; it outlives cures."""

    __slots__ = ("position", "tried")

    def __init__(self) -> None:
        self.position = 0  # of the next remedy
        self.tried = ""  # the last action that was carried out


class _Known:
    """A violation that the judge reported."""

    __slots__ = ("case", "followed", "rung", "violation")

    def __init__(self, violation: Violation, case: _Case) -> None:
        self.violation = violation
        self.case = case
        self.followed = False  # whether a remedy was tried of which it is not known yet what came of it
        self.rung: int | None = None  # position of the remedy that was recommended last


class _Choice(Struct, frozen=True):
    """The remedy that is recommended."""

    action: str | None = None
    params: Json = field(default_factory=dict)
    rung: int | None = None
    exhausted: bool = False


class _Draft(Struct, kw_only=True):
    """A plan that may still take in others of the same moment."""

    known: list[_Known]
    choice: _Choice
    decision: Decision
    reason: str
    remembered: Answer | None
    alike: list[str] = field(default_factory=list)
    """Norms that the same action is for."""
    settled: list[str] = field(default_factory=list)
    """Norms that are judged anew after it."""


class Agent:
    """Plans what to do about violations. For one thread at a time; give it every answer of the judge, in order.

    Args:
        mode: pipeline, agentic or norm_aware.
        regime: The run's, which decides who decides.
        approve: The run's ``--approve``.
        norms: Every norm of the run by id (`Judge.norms`).
        able: Why the run cannot carry an action out; asked anew each time, as a checkpoint to go back to comes later.
        deadline_seconds: How long a person has to answer.
    """

    def __init__(
        self,
        mode: Mode,
        regime: Regime,
        approve: Approve,
        *,
        norms: Mapping[str, Norm],
        able: Able,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self.mode: Mode = mode
        self.regime: Regime = regime
        self.approve: Approve = approve
        self._norms = norms
        self._able = able
        self._deadline_seconds = deadline_seconds
        self._known: dict[str, _Known] = {}
        self._cases: dict[tuple[str, str, str], _Case] = {}
        self._answers: dict[str, Answer] = {}

    def plans(self, judged: Judged) -> list[Plan]:
        """Return what to do about a signal's new violations, and about those that persist after a remedy.

        There is no plan for what the regime merely records, nor where none is possible and nobody is to be asked. What
        the regime would have done or asked, but ``--approve`` or a remembered answer leaves, has one, for the record.
        A violation is not planned for again until `tried` or `rejected` has said what became of its plan.
        """
        if self.mode == "pipeline" or not (judged.violations or judged.outcomes):
            return []
        due = [self._note(violation) for violation in judged.violations if self._concerns(violation)]
        for outcome in judged.outcomes:
            known = self._known.get(outcome.violation)
            if known is None:
                continue
            if outcome.state != "persists":
                known.followed = False
            elif known.followed:
                due.append(known)
        due.sort(key=_rank)
        drafts = [draft for draft in map(self._draft, due) if draft is not None]
        return [self._plan(draft) for draft in self._merged(drafts)]

    def withhold(self, judged: Judged) -> bool:
        """Return whether the update that a Step signal announces is left out, whatever is decided about it.

        A non-finite update spoils every weight, so that norm_aware never lets one through, at any severity and for as
        long as it lasts; only where the norm is muted, or nothing may be changed (``approve=record``), it is applied.
        """
        if self.mode != "norm_aware" or self.approve == "record":
            return False
        repeated = (self._known[each].violation for each in judged.repeats if each in self._known)
        return any((each.norm, each.aspect) == _UNSAFE for each in (*judged.violations, *repeated))

    def tried(self, violations: Iterable[str], action: str) -> None:
        """Note that ``action`` was carried out, or could not be, for violations of these ids.

        If the judge says that they persist, the next remedy is planned. A person who took another action than the
        recommended one has passed that one over.
        """
        for known in self._those(violations):
            case, ladder = known.case, self._ladder(known.violation)
            if known.rung is not None:
                later = range(known.rung, len(ladder))
                taken = next((at for at in later if ladder[at].action == action), known.rung)
                case.position = max(case.position, taken + 1)
            case.tried = action
            known.followed = True

    def rejected(self, violations: Iterable[str]) -> None:
        """Note that nothing is done about violations of these ids: they are left alone; a recurrence is a new one."""
        for known in self._those(violations):
            known.followed = False

    def remember(
        self, norm: str, verdict: Answered, by: str, action: str = "", params: Mapping[str, Any] | None = None
    ) -> None:
        """Decide on this norm without a question from now on; a later answer takes the place of an earlier one.

        It does not hold where its own action has just failed to help, nor for ending the run once all else has.

        Args:
            norm: Id of the norm.
            verdict: What the person said.
            by: Who it was.
            action: For overridden, and for approved if one action alone is meant; "" is whatever is recommended.
            params: The action's.
        """
        named = "" if verdict == "rejected" else action
        self._answers[norm] = Answer(verdict=verdict, action=named, params=dict(params or {}), by=by)

    def _those(self, violations: Iterable[str]) -> list[_Known]:
        return [self._known[each] for each in violations if each in self._known]

    def _concerns(self, violation: Violation) -> bool:
        return self.mode == "norm_aware" or self._norms[violation.norm].symptom

    def _note(self, violation: Violation) -> _Known:
        key = (violation.norm, violation.aspect, violation.place)
        known = self._known[violation.id] = _Known(violation, self._cases.setdefault(key, _Case()))
        return known

    def _ladder(self, violation: Violation) -> Sequence[Remedy]:
        if self.mode == "agentic":
            return GENERIC
        remedies = self._norms[violation.norm].remedies
        return [remedy for remedy in remedies if not remedy.aspects or violation.aspect in remedy.aspects]

    def _possible(self, action: str, params: Json) -> bool:
        """Nobody would ever end a pause in a run that no person attends."""
        if action == "pause" and self.approve == "auto":
            return False
        try:
            check_params(action, params)
        except ConfigError:  # the evidence did not hold what the remedy needs
            return False
        return self._able(action, params) is None

    def _choose(self, known: _Known) -> _Choice:
        ladder = self._ladder(known.violation)
        for rung in range(known.case.position, len(ladder)):
            params = ladder[rung].params_for(known.violation.evidence)
            if self._possible(ladder[rung].action, params):
                return _Choice(ladder[rung].action, params, rung)
        if known.case.tried in ("", "stop"):
            return _Choice()
        return _Choice("stop" if self._possible("stop", {}) else None, exhausted=True)

    def _draft(self, known: _Known) -> _Draft | None:
        """Return what to do about one violation; None where there is nothing to be done or said."""
        violation = known.violation
        choice = self._choose(known)
        usual = self._decide(violation, choice, "ask")
        answer, taken = self._remembered(known, choice)
        persists, known.followed = known.followed, False
        if answer is not None and taken is None:
            if usual.how == "record":
                return None
            decision = Decision(how="record", policy=_always(answer, violation.norm))
            reason = f"{answer.by} wants it left alone whenever it is broken"
        elif answer is not None and taken is not None:
            choice = taken
            decision = Decision(how="act", policy=_always(answer, violation.norm))
            reason = f"{_told(taken.action or '', taken.params)} is what {answer.by} wants done whenever it is broken"
        else:
            decision = self._decide(violation, choice, self.approve)
            if usual.how == "record" or (choice.action is None and decision.how == "record"):
                return None
            reason = self._reason(known, choice, persists=persists)
        known.rung = choice.rung
        return _Draft(known=[known], choice=choice, decision=decision, reason=reason, remembered=answer)

    def _decide(self, violation: Violation, choice: _Choice, approve: Approve) -> Decision:
        return decide(
            self.regime,
            violation.severity,
            approve,
            reversible=None if choice.action is None else ACTIONS[choice.action].reversible,
            exhausted=choice.exhausted,
            deadline_seconds=self._deadline_seconds,
        )

    def _remembered(self, known: _Known, choice: _Choice) -> tuple[Answer | None, _Choice | None]:
        """Return the answer that decides, and what it has done: None where it wants nothing done."""
        answer = self._answers.get(known.violation.norm)
        if answer is None or self.approve == "record":
            return None, None
        if answer.verdict == "rejected":
            return answer, None
        if answer.verdict == "approved" and choice.rung is not None and answer.action in ("", choice.action):
            return answer, choice  # with the parameters of this violation's evidence
        failed = known.followed and known.case.tried == answer.action
        if answer.action and not failed and self._possible(answer.action, answer.params):
            return answer, _Choice(answer.action, answer.params)
        return None, None

    def _reason(self, known: _Known, choice: _Choice, *, persists: bool) -> str:
        tried, action = known.case.tried, _told(choice.action or "", choice.params)
        before = f"{tried} did not help" if persists else f"it came back after {tried}"
        if choice.exhausted or (tried and choice.action is None):
            what = f"{action} is what is left" if action else "nothing is left that this run can carry out"
            return f"{before}, and {what}"
        if not choice.action:
            return "there is no remedy that this run can carry out"
        if tried:
            return f"{before}, and the next remedy is {action}"
        generic = "generic " if self.mode == "agentic" else ""
        able = " that this run can carry out" if choice.rung else ""
        return f"the first {generic}remedy{able} is {action}"

    def _merged(self, drafts: Iterable[_Draft]) -> list[_Draft]:
        plans: list[_Draft] = []
        for draft in drafts:
            for earlier in plans:
                if _same(earlier, draft):
                    self._join(earlier, draft)
                    break
                if _settles(earlier, draft):
                    earlier.settled.append(draft.known[0].violation.norm)
                    earlier.known += draft.known
                    draft.known[0].rung = None  # its own remedy stays untried
                    break
            else:
                plans.append(draft)
        return plans

    def _join(self, earlier: _Draft, draft: _Draft) -> None:
        """Let one plan be for both: a remembered answer decides, else the gravest violation does."""
        earlier.alike.append(draft.known[0].violation.norm)
        earlier.known += draft.known
        earlier.choice = replace(earlier.choice, exhausted=earlier.choice.exhausted and draft.choice.exhausted)
        if draft.remembered is not None and earlier.remembered is None:
            earlier.remembered, earlier.decision = draft.remembered, draft.decision
        elif earlier.remembered is None:
            gravest = max((known.violation for known in earlier.known), key=lambda v: SEVERITIES.index(v.severity))
            earlier.decision = self._decide(gravest, earlier.choice, self.approve)

    def _plan(self, draft: _Draft) -> Plan:
        violation = draft.known[0].violation
        text = f"{violation.norm}: {violation.message}; {draft.reason}. {self._norms[violation.norm].why}"
        if draft.alike:
            text += f" The same action is for {listed(draft.alike)}."
        if draft.settled:
            text += f" {listed(draft.settled)} would be judged anew after it."
        return Plan(
            violations=tuple(known.violation for known in draft.known),
            action=draft.choice.action,
            params=draft.choice.params,
            alternatives=tuple(self._alternatives(draft)),
            rationale=text,
            decision=draft.decision,
            remembered=draft.remembered,
        )

    def _alternatives(self, draft: _Draft) -> Iterable[Alternative]:
        offered = [(draft.choice.action, draft.choice.params)]
        for known in draft.known:
            for remedy in (*self._ladder(known.violation), *ALWAYS_OFFERED):
                params = remedy.params_for(known.violation.evidence)
                if (remedy.action, params) not in offered and self._possible(remedy.action, params):
                    offered.append((remedy.action, params))
                    spec = ACTIONS[remedy.action]
                    yield Alternative(action=spec.name, params=params, effect=spec.effect, reversible=spec.reversible)


def _rank(known: _Known) -> tuple[int, int]:
    return rank(cast(Category, known.violation.category), known.violation.severity)


def _always(answer: Answer, norm: str) -> str:
    return f"always, said by {answer.by} of {norm}"


def _same(earlier: _Draft, later: _Draft) -> bool:
    """Whether both would do the same thing; what is left alone is left alone by itself."""
    if any(draft.remembered is not None and draft.decision.how == "record" for draft in (earlier, later)):
        return False
    first, second = earlier.choice, later.choice
    return first.action is not None and (first.action, first.params) == (second.action, second.params)


def _settles(earlier: _Draft, later: _Draft) -> bool:
    """Whether the earlier plan rewinds or ends the run before it goes on, so that the later one can wait for that."""
    decision = earlier.decision
    at_once = decision.how == "act" or decision.hold == "pause"
    return at_once and earlier.choice.action in REWINDS and later.decision.how != "record"


def _told(action: str, params: Mapping[str, Any]) -> str:
    """Return an action with its parameters for a sentence: ``set_lr (factor 0.5)``."""
    words = [f"{name} {listed(value) if isinstance(value, list | tuple) else value}" for name, value in params.items()]
    return f"{action} ({'; '.join(words)})" if words else action
