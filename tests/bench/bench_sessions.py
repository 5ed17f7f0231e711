"""Writing and reading sessions: a step recorded, a session opened, an append seen."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

from table import Row, interleaved, markdown

from sessions.events import Metrics
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.store import read_session
from sessions.tail import LineTail, wakes

VALUES = {f"metric{i}": 1.2345 * (i + 1) for i in range(20)}


def rows(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        return [
            recording(Path(folder), 2_000 if quick else 10_000),
            opening(Path(folder), 100_000, 20, 3 if quick else 7, "≤ 1.2 s"),
            opening(Path(folder), 1_000_000, 1, 3 if quick else 7, "≤ 1.5 s"),
            *following(Path(folder), 40 if quick else 200),
        ]


def recording(folder: Path, steps: int) -> Row:
    """A step of 20 metrics, in the calling thread, ours beside wandb's offline mode in a process of its own."""
    log = EventLog(folder / "recording.jsonl")
    taken = []
    for step in range(1, steps + 1):
        started = time.perf_counter()
        log.append(Metrics(step=step, epoch=1.0, split="train", values=VALUES))
        taken.append(time.perf_counter() - started)
    log.close()
    peer = _wandb_recording(folder, steps)
    return Row(
        "recording a step of 20 metrics",
        statistics.median(taken) * 1e6,
        peer * 1e6,
        "µs",
        "wandb offline",
        steps,
        "≤ 15 µs",
        "lower",
    )


def _wandb_recording(folder: Path, steps: int) -> float:
    script = f"""
        import statistics, time, wandb
        values = {{f"metric{{i}}": 1.2345 * (i + 1) for i in range(20)}}
        run = wandb.init(mode="offline", dir={str(folder)!r}, settings=wandb.Settings(silent=True))
        taken = []
        for step in range({steps}):
            started = time.perf_counter()
            run.log(values)
            taken.append(time.perf_counter() - started)
        run.finish()
        print(statistics.median(taken))
    """
    environment = os.environ | {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, env=environment
    )
    return float(done.stdout.splitlines()[-1])


def opening(folder: Path, steps: int, metrics: int, n: int, goal: str) -> Row:
    """A session of ``steps`` x ``metrics`` opened for the first time, beside the standard library's json alone."""
    paths = SessionPaths(folder / f"opening-{steps}")
    paths.root.mkdir()
    log = EventLog(paths.events)
    values = {name: VALUES[name] for name in list(VALUES)[:metrics]}
    for step in range(1, steps + 1):
        log.append(Metrics(step=step, epoch=1.0, split="train", values=values))
    log.close()

    def by_json() -> None:
        columns: dict[str, list[float]] = {name: [] for name in values}
        with paths.events.open() as file:
            for line in file:
                for name, number in json.loads(line)["values"].items():
                    columns[name].append(number)

    ours, peer = interleaved(n, lambda: read_session(paths), by_json)
    return Row(f"opening {steps:,} steps x {metrics}", ours, peer, "s", "json, lists", n, goal, "lower")


def following(folder: Path, n: int) -> list[Row]:
    """From an append to a reader that has it, by notice and by polling."""
    return [_following(folder, n, poll, 100) for poll in (False, True)]


def _following(folder: Path, n: int, poll: bool, limit_ms: float) -> Row:
    os.environ["NORA_POLL"] = "1" if poll else "0"
    path = folder / f"following-{poll}.jsonl"
    path.touch()
    seen: list[float] = []
    stop, got = threading.Event(), threading.Event()

    def follow() -> None:
        tail = LineTail(path)
        for _ in wakes([folder], stop):
            for line in tail.read().lines:
                seen.append(time.monotonic() - float(line))
                got.set()

    thread = threading.Thread(target=follow)
    thread.start()
    time.sleep(0.5)
    for number in range(n):
        time.sleep(0.01 + 0.03 * (number % 7) / 7)
        got.clear()
        with path.open("ab") as file:
            file.write(f"{time.monotonic()}\n".encode())
        got.wait(5)
    stop.set()
    thread.join()
    p99 = statistics.quantiles(seen, n=100)[98] * 1e3
    how, goal = ("polling", "≤ 1 s") if poll else ("notice", "≤ 100 ms")
    limit = 1000.0 if poll else limit_ms
    return Row(f"append → seen by {how}, p99", p99, limit, "ms", "limit", len(seen), goal, "lower")


if __name__ == "__main__":
    print(markdown(rows(quick="--quick" in sys.argv)))
