"""Sessions made by hand, so that tests, pictures of tests and benchmarks of the cockpit know what they should show."""

import json
import math
import os
import random
import socket
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from sessions import events
from sessions.codec import encode
from sessions.events import AnyEvent
from sessions.paths import SessionPaths

BEGAN = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
"""When the made runs begin."""
CONFIG = """\
workload: vit
data: digits
mode: pipeline
regime: balanced
violation: none
seed: 42
tags: []
train:
  epochs: 30
  batch_size: 128
optimizer:
  name: muon
  lr: 0.002
  weight_decay: 0.05
amp:
  enabled: true
  dtype: auto
"""
ENV = {
    "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
    "python": {"version": "3.11.9"},
    "packages": {"torch": "2.15.0", "numpy": "2.4.6"},
    "hardware": {"cpu": "Test CPU", "threads": 2, "memory_bytes": 16_000_000_000, "gpus": []},
}
Timed = tuple[float, AnyEvent]
"""Seconds after the beginning, and what happens then."""


def write(
    folder: Path,
    happenings: Iterable[Timed],
    *,
    began: datetime = BEGAN,
    config: str = CONFIG,
    console: bytes = b"",
) -> SessionPaths:
    """Write a session folder; all its times are ``began`` and later, the times of its files too."""
    paths = SessionPaths(folder)
    folder.mkdir(parents=True)
    paths.config.write_text(config)
    paths.env.write_text(json.dumps(ENV))
    paths.console.write_bytes(console)
    with paths.events.open("wb") as file:
        for seq, (seconds, event) in enumerate(happenings):
            file.write(encode(replace(event, seq=seq, ts=began + timedelta(seconds=seconds))))
    os.utime(paths.config, (began.timestamp(), began.timestamp()))
    return paths


def started(name: str, total_steps: int | None = 400, **changes: object) -> events.RunStarted:
    """Return the first event of a run on another machine, so that nobody looks for its processes on this one."""
    begun = events.RunStarted(
        run_id=name,
        name=name,
        workload="vit",
        mode="pipeline",
        regime="balanced",
        violation="none",
        seed=42,
        config_digest="c0ffee" * 10,
        attempt=1,
        host="node-7",
        pid=4242,
        total_steps=total_steps,
        total_epochs=10,
    )
    return replace(begun, **changes)


def learning(steps: int = 400, until: int | None = None, nan_from: int | None = None, seed: int = 7) -> Iterator[Timed]:
    """Yield metrics and progress of a run that learns, ``until`` a step; with NaN for 40 steps from ``nan_from`` on."""
    noise = random.Random(seed)
    epoch_steps = max(1, steps // 10)
    for step in range(1, (until or steps) + 1):
        done = step / steps
        at = step * 0.05
        loss = 2.3 * math.exp(-4 * done) + 0.1 + noise.gauss(0, 0.05)
        if nan_from is not None and nan_from <= step < nan_from + 40:
            loss = math.nan
        values = {
            "loss": loss,
            "accuracy": 1 - math.exp(-5 * done) + noise.gauss(0, 0.01),
            "lr": 2e-3 * min(1, done * 20) * (0.505 + 0.495 * math.cos(math.pi * done)),
            "grad_norm": 0.3 + math.exp(-2 * done) + abs(noise.gauss(0, 0.2)),
        }
        epoch = done * 10
        yield at, events.Metrics(step=step, epoch=epoch, split="train", values=values)
        if step % 10 == 0:
            left = (steps - step) * 0.05
            yield at, events.Progress(step=step, epoch=epoch, samples_per_second=2543.2, eta_seconds=left)
        if step % epoch_steps == 0:
            scores = {"loss": 2.4 * math.exp(-3.4 * done) + 0.2, "accuracy": 0.98 - 0.98 * math.exp(-4 * done)}
            scores |= {f"accuracy/{digit}": 0.9 + 0.01 * digit for digit in range(10)}
            yield at, events.Metrics(step=step, epoch=epoch, split="val", values=scores)


def completed(name: str, steps: int = 400) -> list[Timed]:
    """Return all of a run that completed."""
    checkpoint = events.Checkpoint(
        path=f"checkpoints/step-{steps:08}",
        step=steps,
        sha256="ab" * 32,
        bytes=1_234_567,
        kinds=["best", "last"],
        complete=True,
    )
    end = steps * 0.05
    return [
        (0, started(name, steps)),
        (0.1, events.Phase(phase="data", state="start")),
        (0.5, events.Phase(phase="data", state="end", seconds=0.4)),
        *learning(steps),
        (end, checkpoint),
        (end, events.Log(level="warning", source="worker", text="the [red]learning rate[/red] is high")),
        (end + 0.5, finished("completed", summary={"test": {"accuracy": 0.9611, "loss": 0.1402}})),
    ]


def running(name: str, steps: int = 400, until: int = 250, **changes: object) -> list[Timed]:
    """Return a run that is under way (see ``alive``)."""
    return [
        (0, started(name, steps, **changes)),
        (0.1, events.Phase(phase="train", state="start", epoch=1)),
        *learning(steps, until),
    ]


def ended(name: str, status: str, reason: str, *, steps: int = 400, until: int = 120) -> list[Timed]:
    """Return a run that did not complete."""
    return [(0, started(name, steps)), *learning(steps, until), (until * 0.05, finished(status, reason))]


def finished(status: str, reason: str = "", **fields: object) -> events.RunFinished:
    code = 0 if status == "completed" else 1
    return events.RunFinished(status=status, reason=reason, exit_code=code, **fields)  # type: ignore[arg-type]


def alive(paths: SessionPaths) -> SessionPaths:
    """Make a run on another host show signs of life, as its supervisor does."""
    paths.supervisor.touch()
    return paths


def big(folder: Path, steps: int, metrics: int) -> SessionPaths:
    """Write a completed session of ``steps`` steps of ``metrics`` metrics each."""
    noise = random.Random(1)
    names = ["loss", "lr", "grad_norm", *(f"layer{number}/norm" for number in range(metrics - 3))]

    def happenings() -> Iterator[Timed]:
        yield 0, started(folder.name, steps, host=socket.gethostname())
        for step in range(1, steps + 1):
            level = math.exp(-3 * step / steps)
            values = {name: level * (1 + number / 10) + noise.gauss(0, 0.05) for number, name in enumerate(names)}
            yield step * 0.03, events.Metrics(step=step, epoch=10 * step / steps, split="train", values=values)
        yield steps * 0.03, finished("completed")

    return write(folder, happenings())


def write_demo(runs_dir: Path, now: datetime) -> None:
    """Write a folder with a run of every kind, begun in the hours before ``now``."""

    def before(**span: float) -> datetime:
        return now - timedelta(**span)

    write(runs_dir / "vit-digits-completed", completed("vit-digits-completed"), began=before(hours=3))
    write(
        runs_dir / "vit-digits-stopped",
        ended("vit-digits-stopped", "stopped", "stopped by ada: the learning rate is too high"),
        began=before(hours=5),
    )
    crash = "the worker ended by signal SIGKILL; console.log says more"
    write(runs_dir / "vit-digits-crashed", ended("vit-digits-crashed", "crashed", crash), began=before(hours=8))
    alive(write(runs_dir / "vit-digits-live", running("vit-digits-live"), began=before(seconds=13)))
    broken = [(0.0, started("vit-digits-nan")), *learning(nan_from=180), (20.0, finished("failed", "the loss is nan"))]
    write(runs_dir / "vit-digits-nan", broken, began=before(days=2))


NON_FINITE = events.ViolationFound(
    id="v2",
    norm="non-finite",
    category="stability",
    severity="critical",
    step=250,
    epoch=6.25,
    message="The loss is not finite: nan. The gradients of 2 parameters are not finite either.",
    evidence={
        "loss": "nan",
        "grad_norm": "inf",
        "lr": 0.0017,
        "parameters": ["blocks.0.attention.qkv.weight", "blocks.3.mlp.1.bias"],
        "samples": [17, 1042, 33871],
        "losses_before": [0.2951, 0.3127, 0.4418],
    },
    pictures=["artifacts/v2-samples.png"],
)
ROLL_BACK = events.Proposal(
    id="p2",
    violations=["v2"],
    action="roll_back",
    params={"steps": 100, "skip_batches": True},
    alternatives=[
        events.Alternative(action="set_lr", params={"factor": 0.5}, effect="", reversible=True),
        events.Alternative(action="stop", effect="end after this step, with a checkpoint", reversible=False),
    ],
    rationale="skip_step was tried at step 201 and the loss is not finite again; the newest checkpoint is 50 steps old",
    hold="pause",
    deadline=BEGAN + timedelta(hours=4, minutes=9, seconds=42),
    on_timeout="stop",
)


def judged() -> Iterator[Timed]:
    """Yield what norms and people did in the first 250 steps, until a proposal waits: ROLL_BACK, for NON_FINITE."""
    spike = events.ViolationFound(
        id="v1",
        norm="spike",
        category="stability",
        severity="major",
        step=201,
        message="The loss is 7.2 sigmas above the last 128 steps.",
        evidence={"series": {"loss": {"sigmas": 7.2, "highest": 3.1}}, "lr": 0.0018},
    )
    skip = events.Proposal(id="p1", violations=["v1"], action="skip_step", rationale="one step", hold="continue")
    leave_out = events.Action(id="a1", proposal="p1", action="skip_step", state="started", step=201)
    dropout = events.ViolationFound(
        id="v3",
        norm="dead-units",
        category="stability",
        severity="minor",
        step=240,
        message="Half of the units of blocks.2.mlp were active for none of 512 samples.",
        evidence={"layers": {"blocks.2.mlp": 0.51}, "count": 1},
    )
    yield 0.2, _standings(0, kept=("optimizer-coverage", "split-overlap", "seeding", "provenance"))
    yield 10.1, spike
    yield 10.1, skip
    yield (
        10.1,
        events.Resolution(
            proposal="p1",
            verdict="by_policy",
            action="skip_step",
            by="regime=balanced: major, reversible",
            via="policy",
            waited_seconds=0.0,
        ),
    )
    yield 10.1, leave_out
    yield 10.1, replace(leave_out, state="done", effect={"before": {"loss": 3.1}, "after": {"loss": 0.42}})
    yield 10.9, events.Outcome(violation="v1", state="cured", step=217)
    yield 11.0, events.Note(text="the learning rate may be too high for this batch", by="ada", step=220)
    yield 11.5, events.Action(id="c0ffee", action="set_lr", params={"factor": 0}, state="failed", step=230, error="no")
    yield 12.0, dropout
    yield 12.5, NON_FINITE
    yield 12.5, ROLL_BACK
    yield 12.5, _standings(250, kept=("update-ratio",), broken=("non-finite", "dead-units"), cured=("spike",))


def _standings(step: int, **norms: tuple[str, ...]) -> events.Norms:
    figures = {"kept": (0.0, 0.0), "broken": (3.0, 2.0), "cured": (1.31, 6.0), "muted": (None, None)}
    return events.Norms(
        step=step,
        standings=[
            events.Standing(norm=norm, state=state, value=figures[state][0], limit=figures[state][1], repeats=1)  # type: ignore[arg-type]
            for state, found in norms.items()
            for norm in found
        ],
    )


def deciding(name: str, **changes: object) -> list[Timed]:
    """Return a run that was judged, and in which a proposal waits (see ``alive``)."""
    changes = {"mode": "norm_aware"} | changes
    return sorted([*running(name, **changes), *judged()], key=lambda timed: timed[0])


def write_waiting(runs_dir: Path) -> SessionPaths:
    """Write a live run in which a proposal waits, begun 13 seconds before the clock of the tests (conftest.runs)."""
    began = BEGAN + timedelta(hours=4, seconds=-13)
    return alive(write(runs_dir / "vit-digits-waits", deciding("vit-digits-waits"), began=began))


if __name__ == "__main__":
    import sys

    write_demo(Path(sys.argv[1]), datetime.now(UTC))
