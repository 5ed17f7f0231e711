"""The cockpit: one repaint of a chart, and opening a long session in a real terminal, beside ``wandb leet``.

The terminal is tmux, which says what stands on the screen; both cockpits are timed the same way, from the start of
their process, and their memory is that of their whole process tree.
"""

import asyncio
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import plotext
import psutil
from table import Row, interleaved, markdown
from textual.app import App, ComposeResult
from textual.widget import Widget
from textual_hires_canvas import Canvas, HiResMode
from textual_plot import PlotWidget

from nora_tui.theme import DARK
from nora_tui.widgets.chart import Chart, Plot, Trace
from sessions.series import Column
from tests.nora_tui import made

POINTS, COLUMNS, LINES = 10_000, 100, 20
CHARTS = 9
"""Charts on a page: they are repainted together, and the time of one is the mean of these."""
METRICS = 20
WINDOW = "200", "50"
LOOK_SECONDS = 0.02
"""Between two looks at the terminal, which are to disturb little: how exact the times are."""


def rows(quick: bool) -> list[Row]:
    return [*_repaint(5 if quick else 51), *_opening(20_000 if quick else 100_000, 1 if quick else 5)]


# --- one repaint ------------------------------------------------------------------------------------------------------


class Stage(App[None]):
    """Holds the three widgets, each in 100 x 20 cells."""

    CSS = f"Chart, PlotWidget, Canvas {{ width: {COLUMNS}; height: {LINES}; }}"

    def __init__(self) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DARK.variables

    def compose(self) -> ComposeResult:
        yield Chart()
        yield PlotWidget()
        yield Canvas(COLUMNS, LINES, id="bare")


def _repaint(n: int) -> list[Row]:
    noise = np.random.default_rng(0)
    steps = np.arange(1.0, POINTS + 1)
    values = np.exp(-3 * steps / POINTS) + noise.normal(0, 0.05, POINTS)
    chart, plot, canvas, text = asyncio.run(_timed(n, steps, values))
    name = f"one repaint of {POINTS:,} points in {COLUMNS}x{LINES} cells"
    chart /= CHARTS
    limits = [("limit", 1e-3), ("plotext", text), ("textual-plot", plot), ("textual-hires-canvas", canvas)]
    return [Row(name, chart * 1e3, peer * 1e3, "ms", who, n, "≤ 1 ms", "lower") for who, peer in limits]


async def _timed(n: int, steps: np.ndarray, values: np.ndarray) -> list[float]:
    app = Stage()
    async with app.run_test(size=(120, 80)) as pilot:
        await pilot.pause()
        chart, plot, canvas = app.query_one(Chart), app.query_one(PlotWidget), app.query_one("#bare", Canvas)
        column = Column(steps, steps, steps, values)
        shown = Plot("loss", (Trace("train", column, 0.1),), 0, POINTS)
        plot.plot(steps, values, hires_mode=HiResMode.BRAILLE)
        await pilot.pause()

        def ours() -> None:
            for _ in range(CHARTS):
                chart.show(None, log=False, picked=False)
                chart.show(shown, log=False, picked=False)
                _lines(chart)

        def textual_plot() -> None:
            plot._render_plot()
            for part in plot.query(Canvas):
                _lines(part)

        x = (steps - 1) / (POINTS - 1) * (COLUMNS - 1)
        y = (values.max() - values) / np.ptp(values) * (LINES - 1)

        def hires_canvas() -> None:
            canvas.reset()
            canvas.draw_hires_lines(zip(x[:-1], y[:-1], x[1:], y[1:], strict=True), HiResMode.BRAILLE)
            _lines(canvas)

        def text() -> None:
            figure = plotext.figure.clear()
            figure.plot_size(COLUMNS, LINES)
            signal = figure.signal(xs, ys, marker="braille")
            signal.lines()
            figure.draw(signal)
            str(figure.build())

        plotext.terminal.limit(False, False)
        xs, ys = steps.tolist(), values.tolist()
        return interleaved(n, ours, textual_plot, hires_canvas, text)


def _lines(widget: Widget) -> None:
    for y in range(widget.size.height):
        widget.render_line(y)


# --- opening a long session -------------------------------------------------------------------------------------------


class Opened(NamedTuple):
    """How one opening went: seconds to the first paint and until all is loaded, bytes resident then."""

    paint: float
    loaded: float
    resident: float


def _opening(steps: int, n: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as name, _terminals() as terminals:
        folder = Path(name)
        made.big(folder / "runs" / "long", steps, METRICS)
        recording = _recorded_by_wandb(folder / "wandb", steps)
        scripts = Path(sys.executable).parent
        nora = [sys.executable, "-m", "nora_tui", "cockpit", "long", "--runs-dir", str(folder / "runs")]
        leet = ["env", f"HOME={folder}", str(scripts / "wandb"), "leet", str(recording)]
        ours, theirs = [], []
        for _ in range(n):
            ours.append(_open(terminals, nora, r"nora › long", rf"step {steps:,}/{steps:,} · epoch"))
            theirs.append(_open(terminals, leet, r"Run Overview", rf"_step\s+{steps - 1}\b"))
    what = f"{steps:,} steps x {METRICS} metrics"
    goals = (
        ("first paint", "s", "≤ 0.5 s", 1),
        ("all loaded", "s", "≤ 1.2 s", 1),
        ("resident", "MB", "≤ 200 MB", 1e-6),
    )
    medians = [[statistics.median(taken) for taken in zip(*opened, strict=True)] for opened in (ours, theirs)]
    return [
        Row(f"cockpit, {what}: {label}", mine * scale, peer * scale, unit, "wandb leet", n, goal, "lower")
        for (label, unit, goal, scale), mine, peer in zip(goals, *medians, strict=True)
    ]


def _recorded_by_wandb(folder: Path, steps: int) -> Path:
    """Return the file that wandb writes, offline, of a run with as many steps and metrics."""
    folder.mkdir()
    script = f"""
import math, random, wandb
settings = wandb.Settings(mode="offline", silent=True, console="off", x_disable_stats=True, disable_git=True)
run = wandb.init(project="bench", dir={str(folder)!r}, settings=settings)
noise = random.Random(1)
for step in range({steps}):
    level = math.exp(-3 * step / {steps})
    run.log({{f"metric{{number}}": level + noise.gauss(0, 0.05) for number in range({METRICS})}})
run.finish()
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    (recording,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return recording


Tmux = Callable[..., str]


@contextmanager
def _terminals() -> Iterator[Tmux]:
    """Yield a way to call a tmux server of our own that is already running."""
    socket = f"nora-bench-{uuid.uuid4().hex[:8]}"

    def tmux(*arguments: str) -> str:
        command = ["tmux", "-u", "-L", socket, "-f", "/dev/null", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    tmux("new-session", "-d", "-s", "idle", "sleep 3600")
    try:
        yield tmux
    finally:
        tmux("kill-server")


def _open(tmux: Tmux, command: list[str], painted: str, loaded: str) -> Opened:
    """Start a cockpit, and time until each of two patterns stands on its screen."""
    started = time.perf_counter()
    tmux("new-session", "-d", "-s", "cockpit", "-x", WINDOW[0], "-y", WINDOW[1], f"exec {shlex.join(command)}")
    process = psutil.Process(int(tmux("display-message", "-p", "-t", "cockpit", "#{pane_pid}")))
    found: dict[str, float] = {}
    while loaded not in found:
        screen = tmux("capture-pane", "-p", "-t", "cockpit")
        now = time.perf_counter() - started
        if now > 120:
            raise TimeoutError(f"{command} does not show {loaded!r} but\n{screen}")
        for pattern in (painted, loaded):
            if pattern not in found and re.search(pattern, screen):
                found[pattern] = now
        time.sleep(LOOK_SECONDS)
    resident = _resident(process)
    tmux("kill-session", "-t", "cockpit")
    process.wait(10)
    return Opened(found[painted], found[loaded], resident)


def _resident(process: psutil.Process) -> float:
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # a helper of the start that is gone already
    return total


if __name__ == "__main__":
    print(markdown(rows(quick="--quick" in sys.argv)))
