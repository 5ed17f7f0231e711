"""Start real runs through the real process boundary, and wait for them."""

import time
from collections.abc import Callable
from pathlib import Path

from configs.load import compose
from engine.launch import launch
from sessions.codec import decode
from sessions.paths import SessionPaths
from sessions.state import SessionState
from sessions.store import SessionReader, read_session

DEADLINE = 120.0


def start(runs: Path, *overrides: str, name: str | None = None) -> SessionPaths:
    return launch(compose(overrides), runs, name)


def wait_until(paths: SessionPaths, true: Callable[[SessionState], bool], seconds: float = DEADLINE) -> SessionReader:
    until = time.monotonic() + seconds
    reader = SessionReader(paths)
    while time.monotonic() < until:
        if paths.root.exists():
            reader.poll()
        if true(reader.state):
            return reader
        time.sleep(0.02)
    console = paths.console.read_text() if paths.console.exists() else ""
    raise AssertionError(f"not true after {seconds} s: {reader.state}\n{console}")


def finish(runs: Path, *overrides: str) -> SessionReader:
    """Run to the end, and until the supervisor has left as well."""
    return ended(start(runs, *overrides))


def ended(paths: SessionPaths) -> SessionReader:
    wait_until(paths, lambda state: state.ended)
    until = time.monotonic() + DEADLINE
    while b'"worker_exited"' not in paths.supervisor.read_bytes():
        assert time.monotonic() < until, "the supervisor did not see the worker leave"
        time.sleep(0.02)
    return read_session(paths)


def sequence(path: Path) -> list[int]:
    return [decode(line).seq for line in path.read_bytes().splitlines()]
