"""Violations, proposals, verdicts and actions in one line each, harmless for terminals: for follow, show and decide."""

from nora_tui.cli.output import one_line
from nora_tui.wording import NOTHING, action_words, call, deadline_words, resolution_words, verdict_words
from sessions.events import Action, Proposal, Resolution, ViolationFound


def violation_line(violation: ViolationFound, outcome: str | None = None) -> str:
    """Return what was broken, and what became of it where that is known."""
    at = f" at step {violation.step}" if violation.step else " before the first step"
    end = f" ({outcome})" if outcome else ""
    return one_line(f"{violation.id} {violation.severity} {violation.norm}{at}: {violation.message}{end}")


def waiting_line(proposal: Proposal, run_id: str) -> str:
    """Return what waits for a person, for how long, and the command that answers it."""
    within = f" ({deadline_words(proposal)})" if proposal.deadline else ""
    verdicts = "override|reject" if proposal.action == NOTHING else "approve|override|reject"
    return one_line(
        f"{proposal.id} waits for you{within}: nora decide {run_id} {proposal.id} {verdicts} — {proposed(proposal)}"
    )


def proposed(proposal: Proposal) -> str:
    """Return what a proposal recommends."""
    return "no remedy to recommend" if proposal.action == NOTHING else one_line(call(proposal.action, proposal.params))


def resolution_line(resolution: Resolution) -> str:
    """Return how a proposal was decided, by whom or by which rule, and what follows."""
    reason = f" ({resolution.reason})" if resolution.reason else ""
    return one_line(f"{resolution_words(resolution)}{reason}{_rule(resolution)}")


def decided(resolution: Resolution) -> str:
    """Return the verdict and whose it is."""
    return one_line(f"{verdict_words(resolution)}{_rule(resolution)}")


def _rule(resolution: Resolution) -> str:
    return f" ({resolution.by})" if resolution.via == "policy" else ""


def action_line(action: Action) -> str:
    """Return how an action ended."""
    return one_line(f"{action_words(action)} (step {action.step})")
