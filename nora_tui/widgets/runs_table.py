"""The list of runs, one line each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from rich.segment import Segment
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from nora_tui.cases import open_by_severity, paused
from nora_tui.format import PAUSED, SEVERITY, STATUS, age, count, duration, value
from nora_tui.headline import headline
from nora_tui.widgets.lines_view import Go
from nora_tui.widgets.progress import bar
from nora_tui.widgets.toned import Piece, Toned, fit, fit_middle, shown, width_of
from sessions.state import SessionState


class Row(Protocol):
    """What the table needs to know of a run."""

    @property
    def state(self) -> SessionState: ...
    @property
    def data(self) -> str: ...
    @property
    def problem(self) -> str: ...
    @property
    def waiting(self) -> int: ...


@dataclass(frozen=True)
class Column:
    heading: str
    least: int
    most: int
    """Cells: a column is shown if ``least`` of them are left for it, and grows to ``most`` while there are any."""
    cell: Callable[[Row, int], list[Piece]]
    align: Literal["left", "right"] = "left"


_GAP = 2
_MARK = "▌"


class RunsTable(Toned, ScrollView, can_focus=True, inherit_bindings=False):
    """Shows rows under their headings, one of them selected; where the window is narrow, columns go from the right."""

    class Opened(Message):
        """The person chose a run."""

    class Selected(Message):
        """Another run is selected."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = []
        self._at = 0
        self._with_violations = False

    @property
    def selected(self) -> Row | None:
        return self._rows[self._at] if self._rows else None

    @property
    def selected_at(self) -> int:
        return self._at

    def show(self, rows: Sequence[Row]) -> None:
        """Show rows; the selection stays on its run."""
        chosen = self.selected.state.run_id if self.selected else None
        self._rows = rows
        self._with_violations = any(row.state.violations for row in rows)
        at = next((number for number, row in enumerate(rows) if row.state.run_id == chosen), None)
        self._at = max(0, min(self._at, len(rows) - 1)) if at is None else at
        self.virtual_size = Size(self.size.width, len(rows) + 1)
        self._into_view()
        self.refresh()

    def go(self, move: Go) -> None:
        page = max(1, self.size.height - 2)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "first": -len(self._rows)}
        self._select(self._at + steps.get(move, len(self._rows) if move == "last" else 0))

    def _select(self, at: int) -> None:
        self._at = max(0, min(at, len(self._rows) - 1))
        self._into_view()
        self.refresh()
        self.post_message(self.Selected())

    def _into_view(self) -> None:
        height = max(1, self.size.height - 1)  # the headings stay
        top = self.scroll_offset.y
        wanted = min(max(top, self._at - height + 1), self._at)
        if wanted != top:
            self.scroll_to(y=wanted, animate=False, force=True)

    def on_resize(self) -> None:
        self._into_view()

    def on_click(self, event: events.Click) -> None:
        number = event.y - 1 + self.scroll_offset.y
        if event.y < 1 or number >= len(self._rows):
            return
        again = number == self._at and event.chain > 1
        self._select(number)
        if again:
            self.post_message(self.Opened())

    def render_line(self, y: int) -> Strip:
        columns = laid_out(self.scrollable_content_region.width - 1, with_violations=self._with_violations)
        if y == 0:
            return self._headings(columns)
        number = y - 1 + self.scroll_offset.y
        if number >= len(self._rows):
            return self.strip([], self.size.width)
        return self._row(self._rows[number], columns, selected=number == self._at)

    def _headings(self, columns: list[tuple[Column, int]]) -> Strip:
        pieces: list[Piece] = [(" ", "plain")]
        for column, width in columns:
            heading = column.heading.rjust(width) if column.align == "right" else column.heading.ljust(width)
            pieces.append((heading + " " * _GAP, "muted"))
        return self.strip(pieces, self.size.width)

    def _row(self, row: Row, columns: list[tuple[Column, int]], selected: bool) -> Strip:
        segments = [Segment(_MARK if selected else " ", self.tone("accent", selected=selected))]
        plain = self.tone("plain", selected=selected)
        for column, width in columns:
            pieces = column.cell(row, width)
            room = Segment(" " * max(0, width - width_of(pieces)), plain)
            cell = [Segment(shown(text), self.tone(tone, selected=selected)) for text, tone in pieces]
            segments += [room, *cell] if column.align == "right" else [*cell, room]
            segments.append(Segment(" " * _GAP, plain))
        return Strip(segments).adjust_cell_length(self.size.width, plain)


def laid_out(width: int, *, with_violations: bool = True) -> list[tuple[Column, int]]:
    """Return the columns that have room in ``width`` cells, with the width of each."""
    chosen: list[Column] = []
    left = width + _GAP
    for column in COLUMNS:
        if column.cell is _violations and not with_violations:
            continue
        if column.least + _GAP > left:
            break
        chosen.append(column)
        left -= column.least + _GAP
    widths = []
    for column in chosen:
        more = min(left, column.most - column.least)
        widths.append(column.least + more)
        left -= more
    return list(zip(chosen, widths, strict=True))


def _status(row: Row, width: int) -> list[Piece]:
    if row.waiting:
        return [(f"◆ {row.waiting} waiting", "warn")]
    look = PAUSED if not row.state.ended and paused(row.state) else STATUS[row.state.status]
    return [(f"{look.glyph} {look.word}", look.tone)]


def _name(row: Row, width: int) -> list[Piece]:
    return [(fit_middle(row.state.run_id, width), "plain" if row.state.ended else "strong")]


def _progress(row: Row, width: int) -> list[Piece]:
    fraction = row.state.fraction
    if fraction is None:
        return []
    tone = "muted" if row.state.ended else "accent"
    return [*bar(fraction, width - 5, tone), (f"{fraction:5.0%}", "muted" if row.state.ended else "plain")]


def _time(row: Row, width: int) -> list[Piece]:
    state = row.state
    if state.ended:
        ended = state.finished_at or state.updated_at
        return [(f"{age(ended)} ago", "muted")] if ended else []
    if state.eta_seconds is None:
        return []
    left = duration(state.eta_seconds)
    return [(left, "plain"), (" left" if len(left) + 5 <= width else "", "muted")]


def _violations(row: Row, width: int) -> list[Piece]:
    """Return how many violations are open, the gravest first; where there is no room, the lightest go."""
    found = open_by_severity(row.state)
    pieces: list[Piece] = []
    for severity, look in SEVERITY.items():
        if severity == "info" or not found[severity]:
            continue
        piece: Piece = (f"{look.glyph}{found[severity]}", "muted" if row.state.ended else look.tone)
        more: list[Piece] = [(" ", "plain"), piece] if pieces else [piece]
        if width_of([*pieces, *more]) > width:
            break
        pieces += more
    return pieces


def _metrics(row: Row, width: int) -> list[Piece]:
    """Return as many of the chief metrics as fit; where not even one does with its split, the split goes."""
    if row.problem:
        return [(fit(row.problem, width).rstrip(), "bad")]
    found = headline(row.state, most=3)
    for most in range(len(found), 0, -1):
        pieces = _named_values(found[:most])
        if width_of(pieces) <= width:
            return pieces
    pieces = _named_values([(label.partition(" ")[2], number) for label, number in found[:1]])
    return pieces if width_of(pieces) <= width else pieces[-1:]


def _named_values(values: list[tuple[str, float]]) -> list[Piece]:
    pieces: list[Piece] = []
    for label, number in values:
        finite = number - number == 0
        pieces += [
            ("  " if pieces else "", "plain"),
            (f"{label} ", "muted"),
            (value(number), "plain" if finite else "bad"),
        ]
    return pieces


def _steps(row: Row, width: int) -> list[Piece]:
    state = row.state
    total = f"/{count(state.total_steps)}" if state.total_steps else ""
    return [(count(state.step), "plain"), (total, "muted")]


def _text(text: Callable[[Row], str]) -> Callable[[Row, int], list[Piece]]:
    return lambda row, width: [(fit(text(row), width).rstrip(), "muted")]


def _begun(row: Row) -> str:
    return age(row.state.started_at) if row.state.started_at else ""


COLUMNS: tuple[Column, ...] = (
    Column("state", 11, 11, _status),
    Column("run", 20, 40, _name),
    Column("progress", 11, 17, _progress),
    Column("viol", 4, 8, _violations),
    Column("metrics", 15, 60, _metrics),
    Column("time", 7, 12, _time, "right"),
    Column("step", 15, 19, _steps, "right"),
    Column("learns from", 16, 24, _text(lambda row: " · ".join(filter(None, (row.state.workload, row.data))))),
    Column("held to", 20, 26, _text(lambda row: " · ".join(filter(None, (row.state.mode, row.state.regime))))),
    Column("begun", 5, 5, _text(_begun), "right"),
)
"""In the order in which they go from the right."""
