"""All metrics of a run as a page of charts."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual.message import Message
from textual.widget import Widget

from nora_tui.widgets.lines_view import Go

if TYPE_CHECKING:  # numpy comes with the first values: the first paint does not wait the 40 ms that it takes
    from nora_tui.plots import Chartable
    from nora_tui.widgets.chart import Chart, Mark, Plot
    from sessions.series import Column

MOST = 4
"""Charts across, and down."""
LEAST_WIDTH, LEAST_HEIGHT = 38, 8
"""Cells of the smallest chart."""
GOOD_WIDTH, GOOD_HEIGHT = 60, 11
"""Cells of a chart that is good to read: with room for these, more charts are not squeezed in."""
GUTTER = 2, 1


class MetricGrid(Widget, can_focus=True):
    """Shows the charts of one page and no others; one of them is selected, and can be shown alone."""

    class Moved(Message):
        """The page, the selection or what is shown changed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._columns: Mapping[tuple[str, str], Column] = {}
        self._all: list[Chartable] = []
        self._found: list[Chartable] = []
        self._words = ""
        self._picked = 0
        self._alone = False
        self._marks: tuple[Mark, ...] = ()
        self._log: set[str] = set()
        self._log_all = False
        self._shape = (1, 1)
        self._plots: dict[str, tuple[object, Plot]] = {}
        self._charts: list[Chart] = []

    # --- what the screen says ---

    def show(self, columns: "Mapping[tuple[str, str], Column]", marks: "tuple[Mark, ...]" = ()) -> None:
        """Show these metrics from now on, and over them where something happened."""
        self._marks = marks
        known = self._columns.keys()
        self._columns = columns
        if columns.keys() != known:
            from nora_tui.plots import chartables

            self._all = chartables(columns)
            self._search()
        self._redraw()

    def filter(self, words: str) -> None:
        """Show only charts whose name or split holds each of the words."""
        self._words = words
        self._search()
        self._redraw()
        self.post_message(self.Moved())

    def toggle_log(self) -> None:
        if self._found:
            self._log ^= {self._found[self._picked].name}
            self._redraw()

    def toggle_log_all(self) -> None:
        self._log_all = not self._log_all
        self._log.clear()
        self._redraw()

    def toggle_alone(self) -> None:
        """Show the selected chart alone, or all again."""
        self._alone = bool(self._found) and not self._alone
        self._redraw()
        self.post_message(self.Moved())

    def go(self, move: Go) -> None:
        across, down = self._shape
        page = across * down
        steps = {"left": -1, "right": 1, "up": -across, "down": across, "page_up": -page, "page_down": page}
        steps |= {"first": -len(self._found), "last": len(self._found)}
        self._picked = max(0, min(self._picked + steps[move], len(self._found) - 1))
        self._redraw()
        self.post_message(self.Moved())

    # --- what the screen may ask ---

    @property
    def alone(self) -> bool:
        return self._alone

    @property
    def page(self) -> int:
        """The page in view, from 0."""
        return self._picked // (self._shape[0] * self._shape[1])

    @property
    def pages(self) -> int:
        return max(1, -(-len(self._found) // (self._shape[0] * self._shape[1])))

    @property
    def found(self) -> int:
        return len(self._found)

    @property
    def total(self) -> int:
        return len(self._all)

    @property
    def words(self) -> str:
        return self._words

    @property
    def picked(self) -> str | None:
        """The name of the selected chart."""
        return self._found[self._picked].name if self._found else None

    # --- how it is done ---

    def _search(self) -> None:
        name = self.picked
        self._found = [chartable for chartable in self._all if chartable.holds(self._words)]
        names = [chartable.name for chartable in self._found]
        self._picked = names.index(name) if name in names else 0

    def on_resize(self) -> None:
        self._redraw()

    def on_chart_picked(self, message: "Chart.Picked") -> None:
        message.stop()
        across, down = self._shape
        self._picked = min(self.page * across * down + self._charts.index(message.chart), len(self._found) - 1)
        self.focus()
        self._redraw()
        self.post_message(self.Moved())

    def _redraw(self) -> None:
        if not self.is_mounted or not self.size:
            return
        before = self._shape
        self._shape = (1, 1) if self._alone else shape_for(len(self._found), self.size.width, self.size.height)
        across, down = self._shape
        if self._shape != before:
            self.post_message(self.Moved())
        self.styles.grid_size_columns = across
        self.styles.grid_size_rows = down
        self._mount_charts(min(across * down, len(self._found)))
        first = self.page * across * down
        kept, self._plots = self._plots, {}
        x_low, x_high = _span(self._columns)
        for number, chart in enumerate(self._charts):
            at = first + number
            chart.display = number < across * down
            if not chart.display or at >= len(self._found):
                chart.show(None, log=False, picked=False)
                continue
            chartable = self._found[at]
            log = self._log_all != (chartable.name in self._log)
            chart.show(
                self._plot(chartable, x_low, x_high, kept.get(chartable.name)),
                log=log,
                picked=at == self._picked and len(self._found) > 1,
            )

    def _mount_charts(self, number: int) -> None:
        if len(self._charts) < number:
            from nora_tui.widgets.chart import Chart

            more = [Chart() for _ in range(number - len(self._charts))]
            self._charts += more
            self.mount(*more)

    def _plot(self, chartable: "Chartable", x_low: float, x_high: float, kept: "tuple[object, Plot] | None") -> "Plot":
        """Return what to draw; the same object as before where nothing of it changed, so that it is not drawn again."""
        columns = tuple(self._columns[metric] for metric in chartable.metrics)
        from nora_tui.widgets.chart import Plot, Trace

        drawn_from = (
            x_low,
            x_high,
            self._marks,
            [(len(column.times), *column.times[-1:].tolist()) for column in columns],
        )
        if kept and kept[0] == drawn_from:
            self._plots[chartable.name] = kept
            return kept[1]
        only = len(columns) == 1  # a best training value says little beside a validation's
        traces = tuple(
            Trace(split, column, best_of(name, column) if only or split != "train" else None)
            for (split, name), column in zip(chartable.metrics, columns, strict=True)
        )
        plot = Plot(chartable.name, traces, x_low, x_high, self._marks)
        self._plots[chartable.name] = drawn_from, plot
        return plot


def shape_for(charts: int, width: int, height: int) -> tuple[int, int]:
    """Return how many charts stand across and down: as few as hold them all, and no more than can be read."""
    most_across = max(1, min(MOST, width // LEAST_WIDTH if width < 2 * GOOD_WIDTH else width // GOOD_WIDTH))
    most_down = max(1, min(MOST, height // LEAST_HEIGHT if height < 2 * GOOD_HEIGHT else height // GOOD_HEIGHT))
    shapes = [(across, down) for across in range(1, most_across + 1) for down in range(1, most_down + 1)]
    enough = [shape for shape in shapes if shape[0] * shape[1] >= charts]
    if not enough:
        return most_across, most_down
    # The fewest places, and among equals charts about five times as wide as high (in cells).
    return min(enough, key=lambda shape: (shape[0] * shape[1], abs(width / shape[0] - 5 * height / shape[1])))


def best_of(name: str, column: "Column") -> float | None:
    """Return the best finite value of a metric; None where there is no choice, or better has no meaning."""
    import numpy as np

    from sessions.series import better

    direction = better(name)
    finite = column.values[np.isfinite(column.values)]
    if direction is None or len(finite) < 2:
        return None
    return float(finite.min() if direction == "lower" else finite.max())


def _span(columns: "Mapping[tuple[str, str], Column]") -> tuple[float, float]:
    """Return the steps that all curves span; from 0 where they begin near it."""
    filled = [column.steps for column in columns.values() if len(column.steps)]
    if not filled:
        return 0.0, 1.0
    low = min(float(steps[0]) for steps in filled)
    high = max(float(steps[-1]) for steps in filled)
    return (0.0 if low < 0.05 * high else low), high
