"""What of a run's state concerns people: proposals that wait for one, and violations that are open."""

from collections import Counter

from sessions.events import Proposal, Resolution, Severity, ViolationFound
from sessions.state import SessionState


def asks(proposal: Proposal) -> bool:
    """Whether a proposal asks a person; one without hold and deadline is resolved by a rule as soon as it is made."""
    return proposal.hold == "pause" or proposal.deadline is not None


def waiting(state: SessionState) -> tuple[Proposal, ...]:
    """Return the proposals that wait for a person, the one that came first first."""
    if state.ended or len(state.proposals) == len(state.resolutions):
        return ()
    resolved = {resolution.proposal for resolution in state.resolutions}
    return tuple(proposal for proposal in state.proposals if asks(proposal) and proposal.id not in resolved)


def resolution_of(state: SessionState, proposal: str) -> Resolution | None:
    return next((found for found in reversed(state.resolutions) if found.proposal == proposal), None)


def violations_of(state: SessionState, proposal: Proposal) -> list[ViolationFound]:
    """Return what a proposal is about, in its own order."""
    by_id = {violation.id: violation for violation in state.violations}
    return [by_id[each] for each in proposal.violations if each in by_id]


def open_violations(state: SessionState) -> list[ViolationFound]:
    """Return the violations that are neither cured, nor taken over by a later one, nor of a norm that was muted."""
    return [
        violation
        for violation in state.violations
        if state.outcomes.get(violation.id) not in ("cured", "recurred")
        and not ((standing := state.standings.get(violation.norm)) and standing.state == "muted")
    ]


def open_by_severity(state: SessionState) -> Counter[Severity]:
    return Counter(violation.severity for violation in open_violations(state))


def paused(state: SessionState) -> bool:
    """Whether a person told the run to pause, and nobody yet to go on."""
    done = (each.action for each in reversed(state.actions) if each.state != "failed")
    return next((action == "pause" for action in done if action in ("pause", "resume")), False)
