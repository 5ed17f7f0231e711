"""One metric as a chart: its splits over each other in braille, the values in the title, NaN as a marked gap.

Drawn by our own raster because nothing at hand is within a millisecond: one repaint of 10,000 points in 100 x 20 cells
takes plotext 111 ms, textual-plot 49 ms, textual-hires-canvas 48 ms, and this 0.7 ms (medians of 51, on 2 cores;
``python tests/bench/run.py cockpit`` measures it again).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from rich.segment import Segment
from textual import events
from textual.geometry import Size
from textual.message import Message
from textual.strip import Strip

from nora_tui.format import short_count, value
from nora_tui.widgets import raster
from nora_tui.widgets.raster import Characters, Frame, Line
from nora_tui.widgets.toned import Piece, Toned, fit, shown, spread, width_of
from sessions.series import Column, Ints

LABEL = 6
"""Cells that labels of the y axis have at least, so that charts over each other line up."""
LEAST_PLOT = (8, 2)
"""Columns and rows of curves below which nothing could be read from them."""
_MARKED_POINTS = 4
"""A curve with fewer points than one in this many cells shows each of them."""
_POINT, _GAP, _GRID, _UPRIGHT = map(ord, "●×┈┊")
_SPLIT_TONES = {"train": "train", "val": "val", "test": "test"}


@dataclass(frozen=True)
class Trace:
    """One curve of a chart."""

    split: str
    column: Column
    best: float | None = None
    """The best value so far, where the metric is one that can be better or worse."""

    @property
    def tone(self) -> str:
        return _SPLIT_TONES.get(self.split, "other")


class Mark(NamedTuple):
    """Something that happened at a step, shown over the curves."""

    step: float
    glyph: str
    tone: Literal["bad", "warn", "accent"]


_MARK_TONES = ("bad", "warn", "accent")


@dataclass(frozen=True)
class Plot:
    """What a chart shows."""

    name: str
    traces: tuple[Trace, ...]
    x_low: float
    x_high: float
    """The steps that the x axis spans, the same for all charts of a run."""
    marks: tuple[Mark, ...] = ()
    """Where two fall together, the later one is seen."""


class Chart(Toned):
    """Draws one Plot; anything it draws is kept until the plot, the scale or the size changes."""

    class Picked(Message):
        """The person clicked on a chart."""

        def __init__(self, chart: "Chart") -> None:
            super().__init__()
            self.chart = chart

    def __init__(self) -> None:
        super().__init__()
        self._plot: Plot | None = None
        self._log = False
        self._picked = False
        self._strips: list[Strip] | None = None
        self._drawn_in = Size(0, 0)

    def show(self, plot: Plot | None, *, log: bool, picked: bool) -> None:
        """Draw ``plot``, or nothing."""
        if plot is self._plot and log == self._log and picked == self._picked:
            return
        self._plot, self._log, self._picked = plot, log, picked
        self._strips = None
        self.refresh()

    def notify_style_update(self) -> None:
        self._strips = None
        super().notify_style_update()

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(self.Picked(self))

    def render_line(self, y: int) -> Strip:
        if self._strips is None or self._drawn_in != self.size:
            self._strips, self._drawn_in = self._drawn(), self.size
        return self._strips[y] if y < len(self._strips) else self.strip([], self.size.width)

    def _drawn(self) -> list[Strip]:
        width, height = self.size
        plot = self._plot
        if plot is None or height < 1:
            return []
        title = self.strip(_title(plot, width, self._log, self._picked), width)
        columns, rows = width - LABEL - 2, height - 2
        if columns < LEAST_PLOT[0] or rows < LEAST_PLOT[1]:
            return [title]
        lines = [
            raster.line_of(trace.column.steps, trace.column.values, columns * raster.DOTS_ACROSS, log=self._log)
            for trace in plot.traces
        ]
        frame = raster.frame_of(lines, plot.x_low, plot.x_high)
        if frame is None:
            return [title, *self._empty(plot, width, rows)]
        labels = _y_labels(frame, rows, self._log)
        gutter = max(LABEL, *map(len, labels.values())) + 2 if labels else LABEL + 2
        curves = self._curves(plot, lines, frame, labels, (gutter, width - gutter, rows))
        return [title, *curves, self._x_axis(frame, gutter, width - gutter)]

    def _curves(
        self, plot: Plot, lines: list[Line], frame: Frame, labels: dict[int, str], size: tuple[int, int, int]
    ) -> list[Strip]:
        gutter, columns, rows = size
        drawn = raster.draw(lines, frame, columns, rows)
        cells, owner = raster.characters(drawn.bits), drawn.owner
        grid, gap = len(lines), len(lines) + 1
        _mark_points(cells, owner, lines, frame)
        _mark_gaps(cells, owner, lines, frame, gap)
        _mark_steps(cells, owner, plot.marks, frame, grid)
        _rule(cells, owner, list(labels), grid)
        tones = (*(trace.tone for trace in plot.traces), "faint", *_MARK_TONES, "plain")
        styles = [self.tone(tone) for tone in tones]
        muted, faint = self.tone("muted"), self.tone("faint")
        strips = []
        for row, (text, ends) in enumerate(zip(raster.texts(cells), _runs(owner), strict=True)):
            segments = [Segment(labels.get(row, "").rjust(gutter - 2), muted)]
            segments.append(Segment(" ┤" if row in labels else " │", faint))
            start = 0
            for end, who in ends:
                segments.append(Segment(text[start:end], styles[who]))
                start = end
            strips.append(Strip(segments, gutter + columns))
        return strips

    def _x_axis(self, frame: Frame, gutter: int, columns: int) -> Strip:
        places = raster.ticks(frame.x_low, frame.x_high, max(2, columns // 9))
        line = [" "] * (gutter + columns)
        free_from = 0
        for place in places:
            label = short_count(place)
            at = gutter + raster.column_of(place, frame, columns)
            start = min(max(at - len(label) // 2, gutter - 1), gutter + columns - len(label))
            if start < free_from:
                continue
            line[start : start + len(label)] = label
            free_from = start + len(label) + 2
        return self.strip([("".join(line), "muted")], gutter + columns)

    def _empty(self, plot: Plot, width: int, rows: int) -> list[Strip]:
        drawable = any(len(trace.column.values) for trace in plot.traces)
        if not drawable:
            why = "no values yet"
        elif self._log and any(bool((trace.column.values <= 0).any()) for trace in plot.traces):
            why = "no positive values to show on a log scale"
        else:
            why = "every value is nan or infinite"
        lines: list[list[Piece]] = [[] for _ in range(rows)]
        lines[rows // 2] = [(fit(why, width).rstrip().center(width), "muted")]
        return [self.strip(pieces, width) for pieces in lines]


def _title(plot: Plot, width: int, log: bool, picked: bool) -> list[Piece]:
    """Return the name and the values; where room is short the best ones go first, then those of the first splits."""
    mark: Piece = ("▸ ", "accent") if picked else ("  ", "plain")
    name: list[Piece] = [mark, (shown(plot.name), "strong"), *([(" log", "muted")] if log else [])]
    for silent, best in ((0, True), *((number, False) for number in range(len(plot.traces) + 1))):
        figures = _figures(plot.traces, silent, best=best)
        if width_of([*name, *figures]) + 2 <= width:
            break
    return spread(name, figures, width)


def _figures(traces: Sequence[Trace], silent: int, *, best: bool) -> list[Piece]:
    """Return the legend: the split of each trace, and but for the first ``silent`` ones its newest value."""
    pieces: list[Piece] = []
    for number, trace in enumerate(traces):
        if not len(trace.column.values):
            continue
        pieces += [("  " if pieces else "", "plain"), (trace.split, trace.tone)]
        if number < silent:
            continue
        last = float(trace.column.values[-1])
        pieces.append((f" {value(last)}", "plain" if np.isfinite(last) else "bad"))
        if best and trace.best is not None:
            pieces.append((f" best {value(trace.best)}", "muted"))
    return pieces


def _y_labels(frame: Frame, rows: int, log: bool) -> dict[int, str]:
    """Return the labels of the y axis by their row."""
    most = max(3, rows // 3)
    if log:
        places = raster.log_ticks(frame.y_low, frame.y_high, most)
        texts = [_power_label(place) for place in places]
    else:
        places = raster.ticks(frame.y_low, frame.y_high, most)
        step = places[1] - places[0] if len(places) > 1 else abs(places[0]) if places else 1.0
        texts = [tick_label(place, step) for place in places]
    rows_of = [raster.row_of(place, frame, rows) for place in places]
    return {row: text for row, text in zip(rows_of, texts, strict=True) if 0 <= row < rows}


def tick_label(place: float, step: float) -> str:
    """Return a tick's number with as many digits as tell it from the next one, ``step`` away."""
    if abs(place) < step / 1e6:
        return "0"
    if abs(place) >= 10_000 and step >= 100:
        return short_count(place)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    if digits <= 4:
        return f"{place:.{digits}f}"
    exponent = math.floor(math.log10(abs(place)) + 1e-9)
    return f"{place / 10.0**exponent:.{exponent + digits}f}e{exponent}"


def _power_label(exponent: float) -> str:
    whole = math.floor(exponent + 1e-9)
    factor = round(10 ** (exponent - whole))
    return f"{factor * 10**whole:g}" if -4 < whole < 4 else f"{factor}e{whole}"


def _mark_points(cells: Characters, owner: Ints, lines: Sequence[Line], frame: Frame) -> None:
    """Show each point of a curve that has few: one value an epoch is then told from one a step by shape too."""
    rows, columns = cells.shape
    for number, line in enumerate(lines):
        if line.total * _MARKED_POINTS > columns and line.total > 1:
            continue
        for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True):
            column, row = raster.column_of(x, frame, columns), raster.row_of(y, frame, rows)
            if 0 <= column < columns and 0 <= row < rows:
                cells[row, column] = _POINT
                owner[row, column] = number


def _mark_gaps(cells: Characters, owner: Ints, lines: Sequence[Line], frame: Frame, gap: int) -> None:
    """Mark on the lowest row where a value was not finite."""
    columns = cells.shape[1]
    for line in lines:
        if not len(line.gaps):
            continue
        dots = np.rint((line.gaps - frame.x_low) / (frame.x_high - frame.x_low) * (2 * columns - 1))
        at = np.unique(dots.astype(np.int64) // 2)
        at = at[(at >= 0) & (at < columns)]
        cells[-1, at] = _GAP
        owner[-1, at] = gap


def _mark_steps(cells: Characters, owner: Ints, marks: Sequence[Mark], frame: Frame, grid: int) -> None:
    """Mark steps on the highest row, each over a faint line through the empty cells under it."""
    columns = cells.shape[1]
    for mark in marks:
        column = raster.column_of(mark.step, frame, columns)
        if 0 <= column < columns:
            below = owner[1:, column] < 0
            cells[1:, column][below] = _UPRIGHT
            owner[1:, column][below] = grid
            cells[0, column] = ord(mark.glyph)
            owner[0, column] = grid + 1 + _MARK_TONES.index(mark.tone)


def _rule(cells: Characters, owner: Ints, rows: list[int], grid: int) -> None:
    """Draw a faint line through the empty cells of some rows."""
    empty = np.zeros_like(owner, dtype=np.bool_)
    empty[rows] = owner[rows] < 0
    cells[empty] = _GRID
    owner[empty] = grid


def _runs(owner: Ints) -> list[list[tuple[int, int]]]:
    """Return for each row where each stretch of cells of one owner ends, and whose it is."""
    last = np.ones_like(owner, dtype=np.bool_)
    last[:, :-1] = owner[:, 1:] != owner[:, :-1]
    rows, columns = np.nonzero(last)
    runs: list[list[tuple[int, int]]] = [[] for _ in owner]
    for row, column, who in zip(rows.tolist(), columns.tolist(), owner[rows, columns].tolist(), strict=True):
        runs[row].append((column + 1, who))
    return runs
