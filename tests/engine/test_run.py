"""Supervisor and worker, as real processes, with the scripted workload."""

import json
import math
import os
import signal
import stat
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import engine.launch as launching
from configs.errors import ConfigError, StorageError
from configs.schema import FakeConfig
from engine.launch import create_session
from sessions.codec import decode
from sessions.events import RequestRefused, SupervisorStarted, WorkerExited
from sessions.requests import Stop, ask
from tests.engine.runs import ended, finish, sequence, start, wait_until

SLOW = ("workload=fake", "script.step_seconds=0.02", "train.steps=500")


def test_a_run_is_recorded_from_start_to_end(tmp_path: Path) -> None:
    reader = finish(tmp_path, "workload=fake", "seed=5", "tags=[x]")
    state, paths = reader.state, reader.paths
    assert (state.status, state.exit_code, state.step, state.total_steps) == ("completed", 0, 100, 100)
    assert (state.seed, state.tags, state.workload) == (5, ("x",), "fake")
    assert state.samples_per_second
    assert state.phase_seconds.keys() == {"train", "validate"}
    assert reader.series.column("train", "loss").values.tolist() == [1 / n for n in range(1, 101)]
    assert sequence(paths.events) == list(range(len(sequence(paths.events))))
    assert sequence(paths.supervisor) == [0, 1, 2]


def test_the_folder_holds_what_the_design_says_and_is_private(tmp_path: Path) -> None:
    paths = finish(tmp_path, "workload=fake").paths
    assert {entry.name for entry in paths.root.iterdir()} == {
        "config.yaml",
        "env.json",
        "events.jsonl",
        "supervisor.jsonl",
        "console.log",
        "artifacts",
    }
    assert [entry.name for entry in (paths.root / "artifacts").iterdir()] == ["result.json"]
    assert stat.S_IMODE(paths.root.stat().st_mode) == 0o700
    assert all(not entry.stat().st_mode & 0o077 for entry in paths.root.iterdir())
    env = json.loads(paths.env.read_text())
    assert env["hardware"]["host"]
    assert env["packages"]["msgspec"]
    assert env["seeds"] == {"seed": 42}


def test_a_nan_is_recorded_as_nan(tmp_path: Path) -> None:
    reader = finish(tmp_path, "workload=fake", "script.nan_at=3", "mode=pipeline")
    values = reader.series.column("train", "loss").values
    assert math.isnan(values[2])
    assert math.isfinite(values[3])
    assert reader.state.status == "completed"


def test_an_exception_fails_the_run_and_leaves_its_traceback(tmp_path: Path) -> None:
    reader = finish(tmp_path, "workload=fake", "script.crash_at=10")
    assert (reader.state.status, reader.state.exit_code, reader.state.step) == ("failed", 1, 10)
    assert reader.state.reason == "RuntimeError: scripted crash at step 10"
    console = reader.paths.console.read_text()
    assert "about to crash" in console
    assert "Traceback" in console


def test_a_killed_worker_is_shown_as_crashed_by_its_signal(tmp_path: Path) -> None:
    reader = finish(tmp_path, "workload=fake", "script.kill_at=10")
    assert (reader.state.status, reader.state.exit_code) == ("crashed", 1)
    assert "SIGKILL" in reader.state.reason
    last = decode(reader.paths.supervisor.read_bytes().splitlines()[-1])
    assert isinstance(last, WorkerExited)
    assert (last.signal, last.exit_code, last.clean) == ("SIGKILL", None, False)


def test_a_log_storm_neither_blocks_the_run_nor_loses_a_line(tmp_path: Path) -> None:
    reader = finish(tmp_path, "workload=fake", "script.log_storm_at=5", "script.log_storm_lines=50000")
    assert reader.state.status == "completed"
    assert reader.paths.console.read_text().count("log storm") == 50_000


def test_a_request_stops_the_run_between_two_steps(tmp_path: Path) -> None:
    paths = start(tmp_path, *SLOW)
    wait_until(paths, lambda state: state.step > 2)
    request = Stop(via="cli", reason="seen enough")
    ask(paths, request)
    state = ended(paths).state
    assert (state.status, state.exit_code) == ("stopped", 6)
    assert "seen enough" in state.reason
    assert [(action.id, action.state) for action in state.actions] == [(request.id, "started"), (request.id, "done")]


def test_a_second_stop_and_a_malformed_request_are_refused_visibly(tmp_path: Path) -> None:
    paths = start(tmp_path, *SLOW)
    wait_until(paths, lambda state: state.step > 2)
    paths.requests.write_bytes(b'{"type":"dance"}\n')
    paths.requests.chmod(0o600)
    second = Stop(via="cli")
    state = wait_until(paths, lambda state: bool(state.refused)).state
    assert "not a request" in state.refused[0].why
    line = paths.requests.read_bytes()
    both = line + b"".join(_line(request) for request in (Stop(via="cli"), second))
    paths.requests.write_bytes(both)
    refused = [event for event in ended(paths).state.refused if event.request]
    assert refused == [refused[0]]
    assert isinstance(refused[0], RequestRefused)
    assert refused[0].request == second.id


def _line(request: Stop) -> bytes:
    import msgspec

    return msgspec.json.encode(request) + b"\n"


def test_requests_that_others_could_have_written_are_not_obeyed(tmp_path: Path) -> None:
    paths = start(tmp_path, "workload=fake", "script.step_seconds=0.02", "train.steps=50")
    wait_until(paths, lambda state: state.step > 2)
    paths.requests.touch(0o666)
    paths.requests.chmod(0o666)
    ask(paths, Stop(via="cli"))
    state = ended(paths).state
    assert state.status == "completed"
    assert "written by others" in state.refused[0].why


def test_requests_of_another_user_are_refused_and_the_run_goes_on(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    paths = start(tmp_path, "workload=fake", "script.step_seconds=0.02", "train.steps=50")
    wait_until(paths, lambda state: state.step > 2)
    ask(paths, Stop(via="cli"))
    os.chown(paths.requests, 65534, 65534)
    state = ended(paths).state
    assert state.status in ("completed", "stopped")  # stopped: the request was seen while the file was still ours
    if state.status == "completed":
        assert ["belongs to uid 65534" in refused.why for refused in state.refused] == [True]


@pytest.mark.parametrize("seconds", [0.0, 0.03, 0.06])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_before_the_run_has_begun_interrupts_it_all_the_same(
    tmp_path: Path, name: str, seconds: float
) -> None:
    paths = start(tmp_path, *SLOW)
    first = decode(paths.supervisor.read_bytes().splitlines()[0])
    assert isinstance(first, SupervisorStarted)
    time.sleep(seconds)
    os.kill(first.pid, getattr(signal, name))
    state = ended(paths).state
    assert (state.status, state.exit_code) == ("stopped", 130)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_as_interrupted(tmp_path: Path, name: str) -> None:
    paths = start(tmp_path, *SLOW)
    state = wait_until(paths, lambda state: state.step > 2).state
    assert state.supervisor_pid is not None
    os.kill(state.supervisor_pid, getattr(signal, name))
    state = ended(paths).state
    assert (state.status, state.exit_code, state.reason) == ("stopped", 130, f"stopped by {name}")


def test_the_run_goes_on_when_its_supervisor_is_killed(tmp_path: Path) -> None:
    paths = start(tmp_path, "workload=fake", "script.step_seconds=0.02", "train.steps=50")
    state = wait_until(paths, lambda state: state.step > 2).state
    assert state.supervisor_pid is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)
    state = wait_until(paths, lambda state: state.ended).state
    assert (state.status, state.step) == ("completed", 100)


def test_a_run_without_any_process_left_is_shown_as_crashed(tmp_path: Path) -> None:
    paths = start(tmp_path, "workload=fake", "script.hang_at=5")
    state = wait_until(paths, lambda state: state.step >= 4 and bool(state.pid)).state
    assert state.supervisor_pid is not None
    assert state.pid is not None
    os.kill(state.supervisor_pid, signal.SIGKILL)
    os.kill(state.pid, signal.SIGKILL)
    state = wait_until(paths, lambda state: state.ended, 10).state
    assert state.status == "crashed"
    assert "gone" in state.reason


def test_a_name_that_exists_is_refused_and_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists"):
        create_session(FakeConfig(), tmp_path, "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert [entry.name for entry in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a/b", "..", "a\nb", "x" * 300])
def test_a_name_that_names_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a run"):
        create_session(FakeConfig(), tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_runs_begun_in_the_same_second_do_not_collide(tmp_path: Path) -> None:
    names = {create_session(FakeConfig(), tmp_path).run_id for _ in range(5)}
    assert len(names) == 5


def test_a_runs_folder_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(StorageError, match="--runs-dir"):
        create_session(FakeConfig(), tmp_path / "runs")


def test_a_disk_without_space_is_said_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The one thing that cannot be had here without mounting: a nearly full disk, reported at the outermost edge.
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(StorageError, match="1 MB left"):
        create_session(FakeConfig(), tmp_path / "runs")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_folder_that_its_processes_cannot_write_is_a_storage_error_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = launching.write_atomic

    def write_and_block(path: Path, data: bytes) -> None:
        write(path, data)
        (path.parent / "supervisor.jsonl").mkdir()  # what a lack of inodes does: the file cannot be made

    monkeypatch.setattr(launching, "write_atomic", write_and_block)
    with pytest.raises(StorageError, match="processes"):
        start(tmp_path / "runs", "workload=fake")
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_heartbeat_moves_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = start(tmp_path, "workload=fake", "script.hang_at=5")
    state = wait_until(paths, lambda state: state.step >= 4).state
    os.utime(paths.supervisor, (0, 0))
    until = time.monotonic() + 15
    while paths.supervisor.stat().st_mtime == 0 and time.monotonic() < until:
        time.sleep(0.1)
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    assert paths.supervisor.stat().st_mtime > 0
    ended(paths)
