import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from textual.message import Message

from nora_tui.bridge import (
    ConsoleChanged,
    ConsoleFollower,
    Follower,
    RunChanged,
    RunFollower,
    RunsChanged,
    RunsFollower,
    RunView,
    TextsChanged,
    Unreadable,
    data_in,
)
from sessions.paths import SessionPaths
from sessions.state import SessionState
from tests.nora_tui import made

M = TypeVar("M", bound=Message)


class Target:
    """Takes what a follower posts, as a screen would."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def post_message(self, message: Message) -> bool:
        self.messages.append(message)
        return True

    def of(self, kind: type[M]) -> list[M]:
        return [message for message in self.messages if isinstance(message, kind)]


def wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@pytest.fixture
def target() -> Any:
    return Target()


def running(follower: Follower) -> Follower:
    follower.start()
    return follower


def test_a_newer_message_of_its_kind_replaces_an_older_one() -> None:
    old, new = RunChanged(RunView(SessionState())), RunChanged(RunView(SessionState()))
    assert old.can_replace(new)
    assert not old.can_replace(RunsChanged((), loading=False))


def test_a_long_session_is_shown_at_once_and_then_in_slices(target: Any, tmp_path: Path) -> None:
    paths = made.big(tmp_path / "big", steps=30_000, metrics=20)
    follower = running(RunFollower(target, paths))
    wait_for(lambda: any(not message.view.loading for message in target.of(RunChanged)))
    follower.stop()
    views = [message.view for message in target.of(RunChanged)]
    assert views[0].loading and views[0].state.run_id == "big"
    assert len(views) >= 2
    steps = [view.state.step for view in views]
    assert steps == sorted(steps) and steps[-1] == 30_000
    column = views[-1].columns["train", "loss"]
    assert len(column.values) == 30_000 and column.steps[-1] == 30_000


def test_what_was_posted_does_not_change_while_the_thread_reads_on(target: Any, tmp_path: Path) -> None:
    paths = made.big(tmp_path / "big", steps=30_000, metrics=4)
    follower = running(RunFollower(target, paths))
    wait_for(lambda: bool(target.of(RunChanged)))
    column = target.of(RunChanged)[0].view.columns["train", "loss"]
    before = column.values.copy()
    wait_for(lambda: any(not message.view.loading for message in target.of(RunChanged)))
    follower.stop()
    assert (column.values == before).all() and len(column.steps) == len(before)


def test_whole_files_are_read_again_when_they_are_replaced(target: Any, runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-completed")
    follower = running(RunFollower(target, paths))
    wait_for(lambda: bool(target.of(TextsChanged)))
    assert target.of(TextsChanged)[0].texts.data == "digits"
    paths.config.write_text("data: /some/where/else.npz\n")
    paths.env.write_text("[]")
    wait_for(lambda: target.of(TextsChanged)[-1].texts.data == "else")
    wait_for(lambda: target.of(TextsChanged)[-1].texts.environment == {})
    follower.stop()


def test_what_cannot_be_read_is_said_and_tried_again(target: Any, tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path / "odd")
    paths.events.mkdir(parents=True)
    follower = running(RunFollower(target, paths))
    wait_for(lambda: bool(target.of(Unreadable)))
    assert "cannot be read" in target.of(Unreadable)[0].why
    paths.root.rename(tmp_path / "elsewhere")
    made.write(paths.root, made.completed("odd"))
    wait_for(lambda: bool(target.of(RunChanged)) and target.of(RunChanged)[-1].view.state.status == "completed")
    follower.stop()


def test_a_run_that_cannot_be_read_leaves_the_others_in_the_list(target: Any, runs: Path) -> None:
    (runs / "odd" / "events.jsonl").mkdir(parents=True)
    follower = running(RunsFollower(target, runs))
    wait_for(lambda: bool(target.of(RunsChanged)) and len(target.of(RunsChanged)[-1].runs) == 6)
    follower.stop()
    found = {run.paths.run_id: run for run in target.of(RunsChanged)[-1].runs}
    assert "cannot be read" in found["odd"].problem
    assert found["vit-digits-completed"].state.status == "completed"


def test_a_runs_folder_that_is_a_file_is_said(target: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    follower = running(RunsFollower(target, tmp_path / "runs"))
    wait_for(lambda: bool(target.of(Unreadable)))
    (tmp_path / "runs").unlink()
    wait_for(lambda: bool(target.of(RunsChanged)))
    follower.stop()


def test_nothing_is_posted_where_nothing_changes(target: Any, runs: Path) -> None:
    follower = running(RunsFollower(target, runs))
    wait_for(lambda: bool(target.of(RunsChanged)) and not target.of(RunsChanged)[-1].loading)
    posted = len(target.messages)
    time.sleep(1.5)
    follower.stop()
    assert len(target.messages) == posted


def test_a_follower_that_nobody_looks_at_rests(target: Any, runs: Path) -> None:
    follower = RunsFollower(target, runs)
    follower.start()
    wait_for(lambda: bool(target.of(RunsChanged)) and not target.of(RunsChanged)[-1].loading)
    follower.wanted.clear()
    time.sleep(0.3)
    posted = len(target.messages)
    (runs / "vit-digits-nan").rename(runs.parent / "elsewhere")
    time.sleep(1.5)
    assert len(target.messages) == posted
    follower.wanted.set()
    wait_for(lambda: len(target.of(RunsChanged)[-1].runs) == 4)
    follower.stop()
    follower.join(5)
    assert not follower.is_alive()


def test_the_console_answers_what_it_is_asked(target: Any, tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))
    follower = ConsoleFollower(target, log)
    follower.start()
    wait_for(lambda: bool(target.of(ConsoleChanged)))
    assert target.of(ConsoleChanged)[-1].lines[-1].text == "line 99999"
    follower.ask("start")
    wait_for(lambda: target.of(ConsoleChanged)[-1].at_start)
    assert target.of(ConsoleChanged)[-1].lines[0].text == "line 0"
    follower.stop()
    follower.join(5)
    assert not follower.is_alive()


def test_followers_end_when_they_are_stopped(target: Any, runs: Path) -> None:
    before = threading.active_count()
    followers = [RunFollower(target, SessionPaths(runs / "vit-digits-live")), RunsFollower(target, runs)]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.stop()
        follower.join(5)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("config", "data"),
    [
        ("data: digits\n", "digits"),
        ("workload: vit\ndata: '/a b/c.npz'\n", "c"),
        ("model:\n  data: no\n", ""),
        ("", ""),
    ],
)
def test_what_a_run_learns_from_is_found_in_its_configuration(config: str, data: str) -> None:
    assert data_in(config) == data
