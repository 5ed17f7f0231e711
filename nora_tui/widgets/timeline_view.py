"""What happened about norms, in order: violations, proposals, verdicts, actions and notes, a short line each."""

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from nora_tui.cases import asks, resolution_of, violations_of
from nora_tui.format import SEVERITY, count, duration
from nora_tui.widgets.detailed_list import Entry
from nora_tui.widgets.proposal_view import Lines, explained, labelled, proposal_text, violation_lines
from nora_tui.widgets.toned import Piece, fit, spread, width_of, wrapped
from nora_tui.wording import (
    NOTHING,
    action_words,
    call,
    change_words,
    deadline_words,
    evidence_rows,
    hold_words,
    resolution_words,
    verdict_words,
)
from sessions import events
from sessions.state import SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

_TIME, _STEP, _KIND = 8, 9, 13
_OUTCOMES = {"cured": ("↺ cured", "good"), "persists": ("✗ persists", "bad"), "recurred": ("✗ recurred", "bad")}
_VERDICT_LOOKS = {
    "approved": ("✓ approved", "good"),
    "overridden": ("↷ overridden", "accent"),
    "rejected": ("✗ rejected", "plain"),
    "timed_out": ("◷ timed out", "warn"),
    "by_policy": ("∙ by rule", "muted"),
}
_ACTION_LOOKS = {"started": ("▷ started", "busy"), "done": ("▶ done", "good"), "failed": ("✗ failed", "bad")}


class Happening(NamedTuple):
    """One line of the timeline."""

    event: events.Event
    step: int | None
    kind: tuple[str, str]
    """Shape and word, and their tone."""
    words: str
    right: tuple[str, str]
    details: "Callable[[int], Lines]"


def timeline_entries(state: SessionState) -> list[Entry]:
    """Return all that happened, the oldest first. What a rule decides is one line, not a proposal and a verdict."""
    happenings = sorted(_happenings(state), key=lambda each: each.event.seq)
    heading = Entry("", lambda _: [(f"{'time':>{_TIME}}{'step':>{_STEP}}", "muted")])
    return [heading, *(_entry(happening, state.started_at) for happening in happenings)]


def _happenings(state: SessionState) -> Iterable[Happening]:
    for violation in state.violations:
        yield _of_violation(state, violation)
    by_rule = {found.proposal for found in state.resolutions if found.verdict == "by_policy"}
    for proposal in state.proposals:
        if proposal.id not in by_rule:
            yield _of_proposal(state, proposal)
    proposals = {proposal.id: proposal for proposal in state.proposals}
    for resolution in state.resolutions:
        yield _of_resolution(state, resolution, proposals.get(resolution.proposal))
    ended = {action.id for action in state.actions if action.state != "started"}
    for action in state.actions:
        if action.state != "started" or action.id not in ended:
            yield _of_action(action)
    for policy in state.policies:
        yield _of_policy(policy)
    for note in state.notes:
        yield Happening(note, note.step, ("✎ note", "accent"), note.text, (note.by, "muted"), _plain(note.text))
    for refused in state.refused:
        yield Happening(refused, None, ("⊘ refused", "warn"), refused.why, ("", "plain"), _plain(refused.why))


def _plain(words: str) -> "Callable[[int], Lines]":
    return lambda width: [[(line, "plain")] for line in wrapped(words, width)]


def _of_violation(state: SessionState, violation: events.ViolationFound) -> Happening:
    look = SEVERITY[violation.severity]
    outcome = state.outcomes.get(violation.id, "")

    def details(width: int) -> Lines:
        lines = violation_lines(violation, width)
        lines += labelled([("came of it", outcome)], width) if outcome else []
        return [*lines, *_why(violation.norm, width)]

    return Happening(
        violation,
        violation.step,
        (f"{look.glyph} {look.word}", look.tone),
        f"{violation.norm}: {violation.message}",
        _OUTCOMES.get(outcome, (outcome or "open", "muted")),
        details,
    )


def _why(norm_id: str, width: int) -> Lines:
    from norms.norm import catalogue

    norm = catalogue().get(norm_id)
    return explained(norm, width) if norm else []


def _of_proposal(state: SessionState, proposal: events.Proposal) -> Happening:
    about = violations_of(state, proposal)
    waits = asks(proposal) and not state.ended and resolution_of(state, proposal.id) is None
    kind = ("◆ waits", "warn") if waits else ("◇ proposed", "plain")

    def details(width: int) -> Lines:
        text = proposal_text(state, proposal, width)
        standing = f"{hold_words(proposal)} · {deadline_words(proposal)}" if waits else hold_words(proposal)
        return [
            spread([(f"proposal {proposal.id}", "strong")], [(standing, "warn" if waits else "muted")], width),
            [],
            *text.evidence,
            [],
            *text.proposed,
            *text.alternatives,
        ]

    named = ", ".join(dict.fromkeys(violation.norm for violation in about))
    words = f"{call(proposal.action, proposal.params)} for {named}" if named else call(proposal.action, proposal.params)
    return Happening(proposal, about[0].step if about else None, kind, words, (proposal.id, "muted"), details)


def _of_resolution(state: SessionState, resolution: events.Resolution, proposal: events.Proposal | None) -> Happening:
    by_rule = resolution.via == "policy"
    about = violations_of(state, proposal) if proposal else []
    done = "recorded only" if resolution.action == NOTHING else call(resolution.action, resolution.params)
    words = {"rejected": resolution.reason or "goes on as it is"}.get(resolution.verdict, done)
    if by_rule:
        words += f" ({resolution.by})"

    def details(width: int) -> Lines:
        rows = [
            ("proposal", resolution.proposal),
            ("verdict", verdict_words(resolution)),
            ("rule", resolution.by if by_rule else ""),
            ("action", call(resolution.action, resolution.params)),
            ("reason", resolution.reason or ""),
            ("came by", "" if by_rule else {"tui": "cockpit", "cli": "command line"}[resolution.via]),
            ("took", "" if resolution.waited_seconds is None else duration(resolution.waited_seconds)),
        ]
        lines: Lines = [[(line, "strong")] for line in wrapped(resolution_words(resolution), width)]
        lines += labelled([(label, told) for label, told in rows if told], width)
        if proposal is not None:
            text = proposal_text(state, proposal, width)
            lines += [[], *text.evidence, [], *text.proposed, *text.alternatives]
        return lines

    step = about[0].step if by_rule and about else None
    who = "" if by_rule else resolution.by
    return Happening(resolution, step, _VERDICT_LOOKS[resolution.verdict], words, (who, "muted"), details)


def _of_action(action: events.Action) -> Happening:
    said = action.error if action.state == "failed" else change_words(action.effect)
    words = call(action.action, action.params) + (f"  {said}" if said else "")

    def details(width: int) -> Lines:
        lines: Lines = [[(line, "strong")] for line in wrapped(action_words(action), width)]
        rows = [("action", action.id), ("proposal", action.proposal or "none: a person asked for it")]
        lines += labelled(rows, width)
        for side in ("before", "after"):
            found = (action.effect or {}).get(side)
            if isinstance(found, dict) and found:
                lines += [[], [(side.capitalize(), "strong")], *labelled(evidence_rows(found), width)]
        return lines

    return Happening(action, action.step, _ACTION_LOOKS[action.state], words, ("", "plain"), details)


def _of_policy(policy: events.Policy) -> Happening:
    what = call(policy.action, policy.params) if policy.action else "what is recommended"
    words = f"{policy.norm}: always {'left alone' if policy.verdict == 'rejected' else what} in this {policy.scope}"
    return Happening(policy, None, ("∞ always", "accent"), words, (policy.by, "muted"), _plain(words))


def _entry(happening: Happening, began: datetime | None) -> Entry:
    def row(width: int) -> list[Piece]:
        event = happening.event
        at = duration((event.ts - began).total_seconds()) if began else ""
        step = "" if happening.step is None else count(happening.step)
        kind, tone = happening.kind
        left: list[Piece] = [(f"{at:>{_TIME}}", "muted"), (f"{step:>{_STEP}}  ", "muted"), (f"{kind:<{_KIND}}", tone)]
        right = happening.right
        room = width - _TIME - _STEP - 2 - _KIND - width_of([right]) - 2
        return [*left, (fit(happening.words, room), "plain"), ("  ", "plain"), right]

    return Entry(str(happening.event.seq), row, happening.details)
