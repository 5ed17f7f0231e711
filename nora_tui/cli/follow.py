"""Follow one run in a terminal or a log: a progress line, the end in words, the run's own exit code."""

import contextlib
import math
import os
import signal
import socket
import sys
import threading
import time
from typing import Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from rich.text import Text

from nora_tui import clock
from nora_tui.cases import waiting
from nora_tui.cli.happenings import Happenings, Line
from nora_tui.cli.output import harmless, print_json
from nora_tui.cli.show import as_object
from nora_tui.format import duration, value
from nora_tui.headline import headline
from sessions.paths import SessionPaths
from sessions.requests import Stop, ask
from sessions.state import SessionState
from sessions.store import SessionReader, runs
from sessions.tail import LineTail, wakes

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
PLAIN_INTERVAL = 5.0
"""Seconds between two progress lines where there is no terminal."""

PLAIN_BAR = 20
"""Characters in its bar."""


class Display(Protocol):
    def show(self, state: SessionState) -> None: ...

    def say(self, line: Line) -> None: ...

    def close(self) -> None: ...


def follow(paths: SessionPaths, *, on_interrupt: Literal["stop", "leave"], as_json: bool = False) -> int:
    """Show the run until it ends, and return its exit code.

    Ctrl+C ends the run after its current step, or with "leave" only this view of it; a second Ctrl+C leaves at once.
    """
    console = Console(stderr=True, highlight=False)
    display: Display = BarDisplay(console) if console.is_terminal and not as_json else PlainDisplay(console, as_json)
    reader = SessionReader(paths, curves=as_json)
    happenings = Happenings()
    interrupted = False
    while True:
        try:
            _until_ended(reader, display, happenings)
            break
        except KeyboardInterrupt:
            if on_interrupt == "leave" or interrupted:
                display.close()
                console.print(f"left; {paths.run_id} goes on, `nora watch {paths.run_id}` comes back to it")
                return EXIT_INTERRUPTED
            interrupted = True
            _interrupt(reader)
            console.print("stopping after the current step; Ctrl+C again leaves it to itself")
    display.close()
    if as_json:
        print_json(as_object(reader))
    else:
        console.print(_ending(reader.state), soft_wrap=True)
    if interrupted and reader.state.status == "stopped":
        return EXIT_INTERRUPTED
    return _exit_code(reader.state)


def _until_ended(reader: SessionReader, display: Display, happenings: Happenings) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # held by `nora train` until somebody listens
    for _ in wakes([reader.paths.root], threading.Event()):
        while reader.poll(seconds=0.2):
            display.show(reader.state)
        display.show(reader.state)
        for line in happenings.since(reader.state):
            display.say(line)
        if reader.state.ended:
            return


def _interrupt(reader: SessionReader) -> None:
    """Interrupt the run as Ctrl+C would have; ask it to stop where none of its processes is to be seen from here."""
    reader.poll()
    state = reader.state
    if state.supervisor_host == socket.gethostname():
        for pid in (state.supervisor_pid, state.pid):
            if pid is not None and runs(pid, reader.paths.run_id):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
                return
    ask(reader.paths, Stop(via="cli", reason="Ctrl+C"))


def _exit_code(state: SessionState) -> int:
    return EXIT_FAILED if state.exit_code is None else state.exit_code


def _ending(state: SessionState) -> Text:
    took = ""
    if state.started_at and state.finished_at:
        took = " in " + duration((state.finished_at - state.started_at).total_seconds())
    parts = [f"{state.run_id} {state.status}{took}"]
    well = state.status == "completed" and not state.exit_code
    if not well:
        parts.append(harmless(state.reason))
    parts += [f"{label} {value(number)}" for label, number in headline(state, most=3)]
    return Text(" · ".join(parts), style="green" if well else "yellow")


class BarDisplay:
    """A progress bar that is drawn over itself, under a line that names the run."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._named = False
        self._progress = Progress(
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            expand=True,
            refresh_per_second=8,
        )
        self._task = self._progress.add_task("", total=None, figures="starting")
        self._progress.start()

    def show(self, state: SessionState) -> None:
        if not self._named and state.workload:
            self._named = True
            self._console.print(Text(f"{state.run_id} · {state.workload}, seed {state.seed}", style="bold"))
        fraction = state.fraction
        total = None if fraction is None else 1.0
        figures = " · ".join([*_waits(state), _figures(state)])
        self._progress.update(self._task, completed=fraction or 0.0, total=total, figures=figures)

    def say(self, line: Line) -> None:
        self._console.print(Text(line.text, style=line.style), soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


class PlainDisplay:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console, silent: bool) -> None:
        self._console = console
        self._silent = silent
        self._shown_at = -PLAIN_INTERVAL
        self._last = ""

    def show(self, state: SessionState) -> None:
        now = time.monotonic()
        line = _figures(state)
        if self._silent or now - self._shown_at < PLAIN_INTERVAL or line == self._last:
            return
        self._shown_at, self._last = now, line
        self._console.print(Text(f"{_plain_bar(state.fraction)}{state.run_id} · {line}"), soft_wrap=True)

    def say(self, line: Line) -> None:
        if not self._silent:
            self._console.print(Text(line.text, style=line.style), soft_wrap=True)

    def close(self) -> None:
        pass


def _plain_bar(fraction: float | None) -> str:
    """Return the progress in characters that any log can hold; nothing where it is unknown."""
    if fraction is None:
        return ""
    done = int(fraction * PLAIN_BAR)
    return f"[{'#' * done}{'.' * (PLAIN_BAR - done)}] {fraction:4.0%} "


def _figures(state: SessionState) -> str:
    """Return what there is to say in one line, the most wanted first: a narrow terminal cuts the rest."""
    parts = [state.phase.name] if state.phase and state.phase.name != "train" else []
    if state.epoch is not None and state.total_epochs:
        parts.append(f"epoch {math.ceil(state.epoch)}/{state.total_epochs}")
    else:
        parts.append(f"step {state.step}/{state.total_steps}" if state.total_steps else f"step {state.step}")
    if state.eta_seconds is not None:
        parts.append(f"{duration(state.eta_seconds)} left")
    parts += [f"{label} {value(number)}" for label, number in headline(state)]
    if state.samples_per_second:
        parts.append(f"{state.samples_per_second:,.0f}/s")
    return harmless(" · ".join(parts))


def _waits(state: SessionState) -> list[str]:
    """Return which proposals wait, and how long the first still does."""
    found = waiting(state)
    if not found:
        return []
    ids = ", ".join(proposal.id for proposal in found)
    first = found[0].deadline
    left = "" if first is None else f", {duration((first - clock.now()).total_seconds())} left"
    return [harmless(f"{ids} waits for you{left}")]


def stream(paths: SessionPaths) -> int:
    """Print every event as a JSON line, from the first, until the run ends; return its exit code."""
    reader = SessionReader(paths, curves=False)
    tail = LineTail(paths.events)
    out = sys.stdout.buffer
    try:
        for _ in wakes([paths.root], threading.Event()):
            reader.poll()
            ended = reader.state.ended  # before the lines are read, so that the last ones are not missed
            more = True
            while more:
                chunk = tail.read()
                out.writelines(line + b"\n" for line in chunk.lines)
                more = chunk.more
            out.flush()
            if ended:
                break
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return _exit_code(reader.state)
