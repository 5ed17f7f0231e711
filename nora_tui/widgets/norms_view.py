"""The norms that a run is held to: how each stands, by category, and each explained with what became of it here."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from nora_tui.cases import open_violations
from nora_tui.format import SEVERITY, STANDING, NormStanding, count, plural, value
from nora_tui.widgets.detailed_list import Entry
from nora_tui.widgets.proposal_view import Lines, explained, labelled, violation_lines
from nora_tui.widgets.toned import Piece, fit, spread, wrapped
from nora_tui.wording import call, effect_of
from sessions.events import Standing
from sessions.state import SessionState

if TYPE_CHECKING:
    from norms.norm import Norm

_STATE, _NUMBER = 14, 9
_LEAST_TITLE = 30
_GROUP_OF_OWN = "of your own"


def norm_entries(state: SessionState) -> list[Entry]:
    """Return the norms under their categories, with those of users, which the catalogue does not hold, last."""
    from norms.norm import CATEGORIES, catalogue

    norms = catalogue()
    wide = 2 + max(map(len, [*norms, *_others(state, norms)]))
    blank = " " * (_STATE + wide)
    entries = [Entry("", lambda _: [(f"{blank}{'value':>{_NUMBER}}{'limit':>{_NUMBER}}", "muted")])]
    broken = Counter(violation.norm for violation in open_violations(state))
    for category in CATEGORIES:
        entries.append(_heading(category.capitalize()))
        for norm in norms.values():
            if norm.category == category:
                entries.append(_entry(state, norm.id, norm, wide, broken[norm.id]))
    others = _others(state, norms)
    if others:
        entries.append(_heading(_GROUP_OF_OWN.capitalize()))
        entries += [_entry(state, norm, None, wide, broken[norm]) for norm in others]
    return entries


def first_broken(state: SessionState) -> str:
    """Return the norm that a person wants to see first, or ""."""
    gravest = sorted(open_violations(state), key=lambda violation: list(SEVERITY).index(violation.severity))
    return gravest[0].norm if gravest else ""


def standing_counts(state: SessionState) -> Counter[NormStanding]:
    """Return how many norms stand how; those not judged are not counted."""
    norms = {*state.standings, *(violation.norm for violation in state.violations)}
    broken = Counter(violation.norm for violation in open_violations(state))
    return Counter(_standing(state, norm, broken[norm]) for norm in norms)


def norms_summary(state: SessionState) -> list[list[Piece]]:
    """Return what stands beside the tabs: ✗ 1 broken  ✓ 14 kept."""
    counts = standing_counts(state)
    order: tuple[NormStanding, ...] = ("muted", "kept", "cured", "broken")
    looks = [(STANDING[word], counts[word]) for word in order if counts[word]]
    return [[(f"{look.glyph} {number} {look.word}", look.tone)] for look, number in looks]


def _others(state: SessionState, norms: Iterable[str]) -> list[str]:
    seen = dict.fromkeys([*state.standings, *(violation.norm for violation in state.violations)])
    return [norm for norm in seen if norm not in norms]


def _standing(state: SessionState, norm: str, broken: int) -> NormStanding:
    found = state.standings.get(norm)
    if found is not None:
        return found.state
    if broken:
        return "broken"
    return "cured" if any(violation.norm == norm for violation in state.violations) else "not judged"


def _heading(words: str) -> Entry:
    return Entry("", lambda _: [(words, "strong")])


def _entry(state: SessionState, norm_id: str, norm: "Norm | None", wide: int, broken: int) -> Entry:
    standing = state.standings.get(norm_id)
    word = _standing(state, norm_id, broken)

    def row(width: int) -> list[Piece]:
        look = STANDING[word]
        quiet = word in ("not judged", "muted")
        name = "faint" if word == "not judged" else "strong" if word == "broken" else "plain"
        title = norm.title if norm else ""
        room = width - _STATE - wide - 2 * _NUMBER - 2
        return [
            (f"{look.glyph} {look.word:<{_STATE - 2}}", look.tone),
            (f"{norm_id:<{wide}}", name),
            (f"{_number(standing, 'value'):>{_NUMBER}}", "bad" if word == "broken" else "muted" if quiet else "plain"),
            (f"{_number(standing, 'limit'):>{_NUMBER}}", "muted"),
            ("  ", "plain"),
            (fit(title, room) if room >= _LEAST_TITLE else "", "faint" if word == "not judged" else "muted"),
        ]

    return Entry(norm_id, row, lambda width: _explained(state, norm_id, norm, word, width))


def _number(standing: Standing | None, which: str) -> str:
    found = getattr(standing, which, None)
    return "" if found is None else str(int(found)) if float(found).is_integer() and abs(found) < 1e5 else value(found)


def _explained(state: SessionState, norm_id: str, norm: "Norm | None", word: NormStanding, width: int) -> Lines:
    look = STANDING[word]
    lines: Lines = [spread([(norm_id, "strong")], [(f"{look.glyph} {look.word}", look.tone)], width)]
    if norm is not None:
        lines += [[(line, "plain")] for line in wrapped(norm.title, width)]
    standing = state.standings.get(norm_id)
    lines += [[], *_live(standing, norm, width)] if standing else []
    found = [violation for violation in state.violations if violation.norm == norm_id]
    for violation in reversed(found[-3:]):
        outcome = state.outcomes.get(violation.id)
        lines += [[], *violation_lines(violation, width)]
        lines += labelled([("came of it", outcome)], width) if outcome else []
    if len(found) > 3:
        lines += [[], [(f"and {plural(len(found) - 3, 'violation')} before", "muted")]]
    if norm is not None:
        lines += explained(norm, width)
        lines += _remedies(norm, width)
    return lines


def _live(standing: Standing, norm: "Norm | None", width: int) -> Lines:
    rows = [("value", _number(standing, "value")), ("limit", _number(standing, "limit"))]
    rows = [(label, words) for label, words in rows if words]
    if norm is not None and rows:
        rows.append(("measures", norm.measures))
    if norm is not None:
        rows.append(("severity", f"{SEVERITY[norm.severity].glyph} {norm.severity}"))
    if standing.repeats:
        rows.append(("found broken", f"{count(standing.repeats)} times" if standing.repeats > 1 else "once"))
    return labelled(rows, width)


def _remedies(norm: "Norm", width: int) -> Lines:
    if not norm.remedies:
        return []
    rows = [(call(remedy.action, remedy.params), effect_of(remedy.action)) for remedy in norm.remedies]
    lines: Lines = [[], [("Remedies, best first", "strong")]]
    for name, effect in rows:
        lines += [
            [("  ", "plain"), (name, "plain")],
            *([("    ", "plain"), (t, "muted")] for t in wrapped(effect, width - 4)),
        ]
    return lines
