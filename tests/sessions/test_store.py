import os
import shutil
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from configs.errors import ConfigError, StorageError
from sessions.codec import encode
from sessions.events import Metrics, RunFinished, SupervisorStarted
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.store import find, list_sessions, read_session
from tests.sessions.test_state import STARTED


def session(runs: Path, name: str, steps: int = 3, finish: bool = True) -> SessionPaths:
    paths = SessionPaths(runs / name)
    paths.root.mkdir(parents=True)
    paths.config.write_text("workload: fake\n")
    log = EventLog(paths.events)
    log.append(STARTED)
    for step in range(1, steps + 1):
        log.append(Metrics(split="train", step=step, values={"loss": 1 / step, "lr": 0.1}))
        log.append(Metrics(split="val", step=step, values={"accuracy": step / steps}))
    if finish:
        log.append(RunFinished(status="completed", reason="", exit_code=0))
    log.close()
    return paths


def test_sessions_are_listed_newest_first_and_nothing_else_is(tmp_path: Path) -> None:
    for number, name in enumerate(["old", "middle", "new"]):
        os.utime(session(tmp_path, name).config, (number, number))
    (tmp_path / "not-a-session").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / ".hidden").mkdir()
    assert [paths.run_id for paths in list_sessions(tmp_path)] == ["new", "middle", "old"]
    assert list_sessions(tmp_path / "nowhere") == []


def test_a_run_is_found_by_path_name_and_unique_prefix(tmp_path: Path) -> None:
    first = session(tmp_path, "vit-1")
    session(tmp_path, "vit-10")
    session(tmp_path, "catboost-1")
    assert find(tmp_path, "vit-1").root == first.root
    assert find(tmp_path, "cat").run_id == "catboost-1"
    assert find(Path("elsewhere"), str(first.root)).root == first.root
    with pytest.raises(ConfigError, match="fits 2 runs"):
        find(tmp_path, "vit")
    with pytest.raises(ConfigError, match="did you mean 'catboost-1'"):
        find(tmp_path, "catbost-1")


def test_a_summary_without_curves_is_the_full_state_less_the_gap_count(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", steps=500)
    assert read_session(paths, curves=False).state == read_session(paths).state


def test_a_summary_knows_metrics_that_are_recorded_apart(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", steps=0, finish=False)
    log = EventLog(paths.events)
    for step in range(1, 4000):
        log.append(Metrics(split="test", step=step, values={"auc": step / 4000} if step % 2 else {"date/auc": 0.5}))
    log.close()
    assert read_session(paths, curves=False).state.latest == read_session(paths).state.latest
    assert read_session(paths, curves=False).state.latest == {"test": {"auc": 3999 / 4000, "date/auc": 0.5}}


def test_a_session_that_is_removed_is_said(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", finish=False)
    reader = read_session(paths)
    shutil.rmtree(paths.root)
    with pytest.raises(StorageError, match="gone"):
        reader.poll()


def test_a_run_whose_worker_still_writes_is_not_lost(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", finish=False)
    EventLog(paths.supervisor).close()
    os.utime(paths.supervisor, (0, 0))
    assert read_session(paths).state.status == "running"


def test_malformed_lines_are_counted_and_skipped(tmp_path: Path) -> None:
    paths = session(tmp_path, "a")
    lines = paths.events.read_bytes().splitlines(keepends=True)
    paths.events.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    reader = read_session(paths)
    assert (reader.state.malformed, reader.state.gaps, reader.state.status) == (1, 0, "completed")
    assert len(reader.series.column("train", "loss").values) == 3


def test_a_missing_line_is_a_gap(tmp_path: Path) -> None:
    paths = session(tmp_path, "a")
    lines = paths.events.read_bytes().splitlines(keepends=True)
    paths.events.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert read_session(paths).state.gaps == 1


def test_a_reader_goes_on_as_the_file_grows_and_starts_anew_when_it_is_replaced(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", finish=False)
    reader = read_session(paths)
    version = reader.version
    with paths.events.open("ab") as file:
        file.write(encode(Metrics(seq=7, split="train", step=4, values={"loss": 0.0, "lr": 0.1})))
    reader.poll()
    assert reader.version != version
    assert reader.state.step == 4
    paths.events.write_bytes(encode(replace(STARTED, seq=0)))
    reader.poll()
    assert reader.state.step == 0
    assert list(reader.series.metrics()) == []


def test_a_run_whose_processes_are_gone_is_shown_as_crashed(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", finish=False)
    log = EventLog(paths.supervisor)
    log.append(SupervisorStarted(host=socket.gethostname(), pid=2**22 + 1))
    events = paths.events.read_bytes().replace(b'"host":"h"', b'"host":"%s"' % socket.gethostname().encode())
    paths.events.write_bytes(events)
    assert read_session(paths).state.status == "crashed"


def test_a_run_on_another_host_is_lost_when_its_heartbeat_stops(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", finish=False)
    EventLog(paths.supervisor).close()
    assert read_session(paths).state.status == "running"
    for path in (paths.supervisor, paths.events):
        os.utime(path, (1, 1))
    state = read_session(paths).state
    assert state.status == "lost"
    assert "no sign of life from h" in state.reason


def test_a_file_truncated_at_any_byte_is_a_prefix_of_the_run(tmp_path: Path) -> None:
    paths = session(tmp_path, "a", steps=2)
    whole = paths.events.read_bytes()
    for cut in range(len(whole)):
        paths.events.write_bytes(whole[:cut])
        state = read_session(paths).state
        assert (state.malformed, state.gaps) == (0, 0)
        assert state.status == ("starting" if whole[:cut].count(b"\n") == 0 else "running")
