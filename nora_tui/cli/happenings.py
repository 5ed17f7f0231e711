"""What happened to a run since the last look: lines for whoever follows it, few and calm."""

from collections.abc import Iterator
from typing import NamedTuple

from nora_tui.cases import waiting
from nora_tui.cli.lines import action_line, resolution_line, violation_line, waiting_line
from nora_tui.cli.output import one_line
from nora_tui.format import plural
from nora_tui.wording import NOTHING
from sessions.events import Action
from sessions.state import SessionState

MOST_AT_FIRST = 8
"""Lines that somebody who comes late is shown; a longer past is told in one."""
_STYLES = {"critical": "red", "major": "yellow"}


class Line(NamedTuple):
    text: str
    style: str = ""


class Happenings:
    """Gives each violation, proposal that waits, resolution, action and outcome once.

    What was merely recorded by policy is not told: the violation is, and `nora show` has the rest.
    """

    def __init__(self) -> None:
        self._seen = SessionState()
        self._asked: set[str] = set()
        self._first = True

    def since(self, state: SessionState) -> list[Line]:
        """Return what is new in ``state``, in the order in which things follow from each other."""
        past = [*self._found(state), *self._decided(state), *self._became(state)]
        self._seen = state
        if self._first and state.updated_at is not None:
            self._first = False
            if len(past) > MOST_AT_FIRST:
                past = [_summary(state)]
        return past + list(self._asks(state))

    def _found(self, state: SessionState) -> Iterator[Line]:
        for violation in state.violations[len(self._seen.violations) :]:
            yield Line(violation_line(violation), _STYLES.get(violation.severity, "dim"))

    def _asks(self, state: SessionState) -> Iterator[Line]:
        for proposal in waiting(state):
            if proposal.id not in self._asked:
                self._asked.add(proposal.id)
                yield Line(waiting_line(proposal, state.run_id), "bold")

    def _decided(self, state: SessionState) -> Iterator[Line]:
        for resolution in state.resolutions[len(self._seen.resolutions) :]:
            if resolution.verdict != "by_policy" or resolution.action != NOTHING:
                yield Line(resolution_line(resolution))
        for action in state.actions[len(self._seen.actions) :]:
            if _is_told(action):
                yield Line(action_line(action), "yellow" if action.state == "failed" else "")

    def _became(self, state: SessionState) -> Iterator[Line]:
        norms = {violation.id: violation.norm for violation in state.violations}
        for violation, outcome in state.outcomes.items():
            # A recurrence is a violation of its own, and told as that.
            if outcome != self._seen.outcomes.get(violation) and outcome != "recurred":
                style = "green" if outcome == "cured" else "yellow"
                yield Line(one_line(f"{violation} {norms.get(violation, '')} {outcome}"), style)


def _is_told(action: Action) -> bool:
    """Whether an action says more than the resolution before it: it failed, or a person asked for it unasked."""
    return action.state == "failed" or (action.state == "done" and action.proposal is None and action.action != "stop")


def _summary(state: SessionState) -> Line:
    cured = sum(outcome == "cured" for outcome in state.outcomes.values())
    return Line(
        f"{plural(len(state.violations), 'violation')} so far, {cured} cured; `nora show {state.run_id}` has all"
    )
