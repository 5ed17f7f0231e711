"""What every workload keeps, whatever it trains: one suite, run over each through the real processes."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from configs.load import compose, digest, read_config
from sessions import events
from sessions.codec import decode
from sessions.requests import Stop, ask
from sessions.store import SessionReader
from tests.engine.runs import ended, finish, sequence, start, wait_until

SHORT = {
    "fake": ("script.step_seconds=0.001",),
    "vit": ("train.epochs=2", "model.depth=1"),
    "catboost": ("train.iterations=40",),
}
LONG = {
    "fake": ("script.step_seconds=0.02", "train.steps=5000"),
    "vit": ("train.epochs=1000",),
    "catboost": ("train.iterations=5000", "optimizer.lr=0.001"),
}
WORKLOADS = pytest.mark.parametrize("workload", SHORT)


def all_events(reader: SessionReader) -> list[events.AnyEvent | events.Unknown]:
    return [decode(line) for line in reader.paths.events.read_bytes().splitlines()]


@pytest.fixture(scope="module", params=SHORT)
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SessionReader:
    """A short run of each workload, made once for the tests that only look at it."""
    return finish(tmp_path_factory.mktemp("runs"), f"workload={request.param}", "seed=7", *SHORT[request.param])


def test_it_completes_and_every_event_is_there_in_order(finished: SessionReader) -> None:
    assert (finished.state.status, finished.state.exit_code) == ("completed", 0)
    assert (finished.state.gaps, finished.state.malformed, finished.state.unknown) == (0, 0, {})
    assert sequence(finished.paths.events) == list(range(len(sequence(finished.paths.events))))
    first, *_, last = all_events(finished)
    assert isinstance(first, events.RunStarted)
    assert isinstance(last, events.RunFinished)
    assert last.summary["seconds"] > 0


def test_it_says_what_was_asked_for(finished: SessionReader) -> None:
    config = read_config(finished.paths.config)
    assert config == compose([f"workload={config.workload}", "seed=7", *SHORT[config.workload]])
    first = all_events(finished)[0]
    assert isinstance(first, events.RunStarted)
    assert (first.workload, first.seed, first.config_digest) == (config.workload, 7, digest(config))
    assert json.loads(finished.paths.env.read_text())["packages"]


def test_steps_rise_one_by_one_and_reach_their_number(finished: SessionReader) -> None:
    name = "loss" if ("train", "loss") in list(finished.series.metrics()) else "logloss"
    steps = finished.series.column("train", name).steps.tolist()
    assert steps[0] == 1
    assert steps == sorted(set(steps))
    assert finished.state.total_steps is not None
    assert steps[-1] <= finished.state.step <= finished.state.total_steps
    assert finished.state.latest.keys() >= {"train", "val"}
    assert finished.state.samples_per_second


def test_every_phase_that_starts_ends(finished: SessionReader) -> None:
    count = Counter((event.phase, event.state) for event in all_events(finished) if isinstance(event, events.Phase))
    phases = {phase for phase, _ in count}
    assert phases
    assert all(count[phase, "start"] == count[phase, "end"] for phase in phases)


def test_what_it_says_is_on_disk_is_there_whole(finished: SessionReader) -> None:
    import hashlib

    for artifact in finished.state.artifacts:
        data = (finished.paths.root / artifact.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == artifact.sha256
    newest = {checkpoint.path: checkpoint for checkpoint in finished.state.checkpoints}
    kept = [checkpoint for path, checkpoint in newest.items() if (finished.paths.root / path).exists()]
    assert bool(kept) == bool(newest)
    assert all(checkpoint.complete for checkpoint in kept)


@pytest.mark.parametrize("workload", ["vit", "catboost"])
def test_the_same_seed_gives_the_same_run(tmp_path: Path, workload: str) -> None:
    ask_for = (f"workload={workload}", "seed=3", *SHORT[workload])
    deterministic = ("runtime.deterministic=true",) if workload == "vit" else ()
    one, two = (finish(tmp_path, *ask_for, *deterministic) for _ in range(2))
    metrics, others = ([each for each in run.series.metrics() if each[0] != "system"] for run in (one, two))
    assert metrics == others
    for split, name in metrics:
        assert one.series.column(split, name).values.tolist() == two.series.column(split, name).values.tolist(), name


@WORKLOADS
def test_it_stops_when_asked_and_says_who_asked(tmp_path: Path, workload: str) -> None:
    paths = start(tmp_path, f"workload={workload}", *LONG[workload])
    wait_until(paths, lambda state: state.step > 3)
    request = Stop(via="cli", reason="enough")
    ask(paths, request)
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("stopped", 6)
    assert [(action.id, action.state) for action in reader.state.actions] == [
        (request.id, "started"),
        (request.id, "done"),
    ]
    assert "enough" in reader.state.reason
    assert reader.state.gaps == 0


@WORKLOADS
def test_a_signal_interrupts_it_cleanly(tmp_path: Path, workload: str) -> None:
    paths = start(tmp_path, f"workload={workload}", *LONG[workload])
    state = wait_until(paths, lambda state: state.step > 3).state
    assert state.supervisor_pid is not None
    os.kill(state.supervisor_pid, signal.SIGINT)
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("stopped", 130)
    assert reader.state.reason == "stopped by SIGINT"


@WORKLOADS
def test_a_worker_killed_hard_leaves_only_whole_events(tmp_path: Path, workload: str) -> None:
    paths = start(tmp_path, f"workload={workload}", *LONG[workload])
    state = wait_until(paths, lambda state: state.step > 3).state
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("crashed", 1)
    assert (reader.state.gaps, reader.state.malformed) == (0, 0)
    assert reader.state.step >= state.step
