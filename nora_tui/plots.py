"""Which charts a run has, and in what order: a metric's splits share one chart."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from nora_tui.format import SEVERITY
from sessions.state import SessionState

if TYPE_CHECKING:
    from nora_tui.widgets.chart import Mark

_OVERLAID = ("train", "val", "test")
_FIRST = ("loss", "accuracy", "auc", "f1", "logloss")
_NUMBER = re.compile(r"(\d+)")


class Chartable(NamedTuple):
    """The metrics that one chart overlays."""

    name: str
    metrics: tuple[tuple[str, str], ...]
    """(split, metric) of each curve; the last is drawn on top."""

    def holds(self, words: str) -> bool:
        """Whether the name or a split holds each of the words, whatever their case."""
        text = " ".join([self.name, *(split for split, _ in self.metrics)]).lower()
        return all(word in text for word in words.lower().split())


def chartables(metrics: Iterable[tuple[str, str]]) -> list[Chartable]:
    """Return the charts of (split, name) metrics: results first, then what only training has, families of many last.

    Metrics of other splits than train, val and test (probes, the system) have charts of their own.
    """
    splits: dict[str, list[tuple[str, str]]] = {}
    for split, name in metrics:
        title = name if split in _OVERLAID else f"{split} {name}"
        splits.setdefault(title, []).append((split, name))
    found = [
        Chartable(title, tuple(sorted(group, key=lambda metric: _rank_of_split(metric[0]))))
        for title, group in splits.items()
    ]
    return sorted(found, key=_order)


def marks(state: SessionState) -> "tuple[Mark, ...]":
    """Return where norms were broken and where something was done about it; what matters most comes last.

    Violations that are minor at most are left out.
    """
    from nora_tui.widgets.chart import Mark

    found: list[Mark] = [
        Mark(action.step, "▼", "accent")
        for action in state.actions
        if action.state == "done" and action.action not in _UNMARKED
    ]
    for severity in ("major", "critical"):
        look = SEVERITY[severity]
        tone: Literal["bad", "warn"] = "bad" if severity == "critical" else "warn"
        found += [Mark(each.step, look.glyph, tone) for each in state.violations if each.severity == severity]
    return tuple(found)


_UNMARKED = frozenset({"pause", "resume", "checkpoint_now", "mute"})
"""Actions that change nothing of the curves."""


def _rank_of_split(split: str) -> int:
    return _OVERLAID.index(split) if split in _OVERLAID else len(_OVERLAID)


def _order(chartable: Chartable) -> tuple[object, ...]:
    name = chartable.name
    splits = [split for split, _ in chartable.metrics]
    family = "/" in name
    return (
        splits[0] not in _OVERLAID,
        family,
        _FIRST.index(name) if name in _FIRST else len(_FIRST),
        splits == ["train"],
        # Within a family by name, with numbers in their own order; else (sorted is stable) as the run recorded them.
        [int(part) if part.isdigit() else part for part in _NUMBER.split(name)] if family else [],
    )
