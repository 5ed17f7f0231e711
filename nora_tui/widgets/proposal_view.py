"""A proposal as toned lines: the evidence first, then what is proposed, then what else could be done."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nora_tui.cases import violations_of
from nora_tui.format import SEVERITY, count, plural
from nora_tui.widgets.toned import Piece, fit, spread, width_of, wrapped
from nora_tui.wording import NOTHING, call, effect_of, evidence_rows, undo_words
from sessions.events import Json, Proposal, ViolationFound
from sessions.state import SessionState

if TYPE_CHECKING:
    from norms.norm import Norm

Lines = list[list[Piece]]
LABEL = 16
_NOT_FINITE = frozenset({"nan", "inf", "-inf"})


class ProposalText(NamedTuple):
    evidence: Lines
    """What was found; the first line says which norm is broken."""
    proposed: Lines
    """The recommended action: what it does, whether it can be undone, why."""
    alternatives: Lines


def proposal_text(state: SessionState, proposal: Proposal, width: int) -> ProposalText:
    """Return a proposal in lines of ``width`` cells."""
    evidence: Lines = []
    for number, violation in enumerate(violations_of(state, proposal)):
        evidence += [[], *violation_lines(violation, width)] if number else violation_lines(violation, width)
    return ProposalText(evidence, _proposed(proposal, width), _alternatives(proposal, width))


def brief_evidence(state: SessionState, proposal: Proposal, width: int) -> Lines:
    """Return the evidence in few lines: its rows follow each other, and further violations are counted."""
    found = violations_of(state, proposal)
    if not found:
        return []
    first = found[0]
    lines: Lines = [violation_head(first, width)]
    lines += [[("  ", "plain"), (line, "plain")] for line in wrapped(first.message, width - 2)[:2]]
    line: list[Piece] = []
    for label, words in evidence_rows(first.evidence):
        room = width - 2
        row: list[Piece] = [(f"{label} ", "muted"), (words, "bad" if words in _NOT_FINITE else "plain")]
        if line and width_of([*line, *row]) + 3 > room:
            lines.append(line)
            line = []
        line = [*line, ("   ", "plain"), *row] if line else [("  ", "plain"), *row]
    lines += [line] if line else []
    if len(found) > 1:
        lines.append([(f"  and {plural(len(found) - 1, 'more violation')}", "muted")])
    return lines


def brief_proposal(proposal: Proposal, width: int) -> Lines:
    """Return the recommended action in two lines: what it is, and what it does."""
    if proposal.action == NOTHING:
        return _proposed(proposal, width)[:1]
    head: list[Piece] = [
        (f"  {'proposed':<{LABEL}}", "muted"),
        (call(proposal.action, proposal.params), "strong"),
        (f"  {undo_words(proposal.action)}", "muted"),
    ]
    effect = effect_of(proposal.action)
    return [head, [(" " * (LABEL + 2), "plain"), (fit(effect, width - LABEL - 2), "plain")]] if effect else [head]


def violation_lines(violation: ViolationFound, width: int) -> Lines:
    """Return which norm is broken, where, and what shows it."""
    rows = [*evidence_rows(violation.evidence), *(("picture", path) for path in violation.pictures)]
    return [
        violation_head(violation, width),
        *([("  ", "plain"), (line, "plain")] for line in wrapped(violation.message, width - 2)),
        *labelled(rows, width),
    ]


def violation_head(violation: ViolationFound, width: int) -> list[Piece]:
    look = SEVERITY[violation.severity]
    head: list[Piece] = [
        (f"{look.glyph} {look.word}", look.tone),
        (f"  {violation.norm}", "strong"),
        (f"  {title_of(violation.norm)}", "muted"),
    ]
    return spread(head, [(f"step {count(violation.step)}", "muted")], width)


def title_of(norm: str) -> str:
    """Return the rule of a norm in a few words; "" for one that is not in NORA's catalogue."""
    from norms.norm import catalogue  # its YAML takes 15 ms, which nobody who sees no norm has to wait for

    found = catalogue().get(norm)
    return found.title if found else ""


def explained(norm: "Norm", width: int) -> Lines:
    """Return what breaks a norm, why that matters, and what to do."""
    lines: Lines = []
    for heading, words in (("What breaks it", norm.what), ("Why it matters", norm.why), ("What to do", norm.advice)):
        lines += [[], [(heading, "strong")]]
        lines += [[("  ", "plain"), (line, "plain")] for line in wrapped(words, width - 2)]
    return lines


def labelled(rows: Iterable[tuple[str, str]], width: int, tone: str = "plain") -> Lines:
    """Return rows of (label, words) with the words in one column, wrapped; a long label pushes its own words on."""
    lines: Lines = []
    for label, words in rows:
        wide = max(LABEL, len(label) + 2)
        shade = "bad" if words in _NOT_FINITE else tone
        for number, line in enumerate(wrapped(words, width - wide - 2)):
            lines.append([(f"  {label if not number else '':<{wide}}", "muted"), (line, shade)])
    return lines


def action_lines(label: str, action: str, params: Json, more: Sequence[str], width: int, tone: str) -> Lines:
    """Return an action, and under it what it does."""
    what = "; ".join(filter(None, more))
    head: list[Piece] = [(f"  {label:<{LABEL}}", "muted"), (call(action, params), tone)]
    below = wrapped(what, width - LABEL - 2) if what else []
    return [head, *([(" " * (LABEL + 2), "plain"), (line, "plain")] for line in below)]


def _proposed(proposal: Proposal, width: int) -> Lines:
    if proposal.action == NOTHING:
        lines: Lines = [[(f"  {'proposed':<{LABEL}}", "muted"), ("nothing that this run can do", "strong")]]
    else:
        more = effect_of(proposal.action), undo_words(proposal.action)
        lines = action_lines("proposed", proposal.action, proposal.params, more, width, "strong")
    if proposal.rationale:
        lines += labelled([("because", proposal.rationale)], width)
    return lines


def _alternatives(proposal: Proposal, width: int) -> Lines:
    lines: Lines = []
    for number, each in enumerate(proposal.alternatives, 1):
        label = "or" if number == 1 else ""
        more = each.effect or effect_of(each.action), "can be undone" if each.reversible else "cannot be undone"
        found = action_lines(label, each.action, each.params, more, width, "plain")
        found[0].insert(1, (f"{number} ", "accent"))
        lines += found
    return lines
