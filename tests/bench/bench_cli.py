"""The start of commands: --help, and ls over 200 sessions."""

import subprocess
import sys
import tempfile
from pathlib import Path

from table import Row, interleaved, markdown

from sessions.events import Metrics, RunFinished, RunStarted
from sessions.log import EventLog

SESSIONS = 200
STEPS = 1000


def rows(quick: bool) -> list[Row]:
    n = 5 if quick else 15
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        for number in range(SESSIONS):
            _session(runs / f"run-{number}")
        scripts = Path(sys.executable).parent
        seconds = interleaved(n, lambda: _call(scripts / "nora", "--help"), lambda: _call(scripts / "wandb", "--help"))
        listing, bare = interleaved(
            n, lambda: _call(scripts / "nora", "ls", "--runs-dir", folder), lambda: _call(sys.executable, "-c", "pass")
        )
    return [
        Row("nora --help", seconds[0] * 1e3, seconds[1] * 1e3, "ms", "wandb --help", n, "≤ 150 ms", "lower"),
        Row(
            f"nora ls, {SESSIONS} sessions of {STEPS} steps", listing * 1e3, 400, "ms", "limit", n, "≤ 400 ms", "lower"
        ),
        Row("of which: starting Python", bare * 1e3, 400, "ms", "limit of ls", n, "", "lower"),
    ]


def _session(root: Path) -> None:
    root.mkdir()
    (root / "config.yaml").write_text("workload: fake\n")
    log = EventLog(root / "events.jsonl")
    log.append(
        RunStarted(
            run_id=root.name,
            name=root.name,
            workload="fake",
            mode="pipeline",
            regime="balanced",
            violation="none",
            seed=1,
            config_digest="",
            attempt=1,
            host="bench",
            pid=1,
            total_steps=STEPS,
        )
    )
    for step in range(1, STEPS + 1):
        log.append(Metrics(step=step, split="train", values={"loss": 1 / step, "lr": 0.1, "accuracy": 0.5}))
    log.append(RunFinished(status="completed", reason="all steps done", exit_code=0))
    log.close()


def _call(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


if __name__ == "__main__":
    print(markdown(rows(quick="--quick" in sys.argv)))
