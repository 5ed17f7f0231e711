"""What a CatBoost run can be told to do while it fits, through the real worker."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.workloads.catboost_snapshots import SNAPSHOT
from sessions.codec import decode
from sessions.events import Action, Outcome, Phase
from sessions.paths import SessionPaths
from sessions.requests import Command, Decide, Stop, ask
from sessions.state import SessionState
from sessions.store import SessionReader, read_session
from tests.engine.runs import ended, start, wait_until
from tests.engine.tables import small_csv

SETTINGS = ("workload=catboost", "seed=1", "train.iterations=300", "train.early_stopping=0", "runtime.threads=1")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_csv(tmp_path_factory.mktemp("data"), every=5))


def of(paths: SessionPaths, kind: type[Any]) -> list[Any]:
    """Return the events of a kind that a run has recorded."""
    return [event for event in map(decode, paths.events.read_bytes().splitlines()) if isinstance(event, kind)]


def begun(tmp_path: Path, small: str, *more: str, at: int = 60) -> SessionPaths:
    paths = start(tmp_path, *SETTINGS, f"data={small}", "checkpoint.snapshot_seconds=1", *more)
    wait_until(paths, lambda state: state.step >= at)
    return paths


def told(paths: SessionPaths, action: str, **params: Any) -> None:
    ask(paths, Command(via="cli", action=action, params=params))


def done(action: str) -> Callable[[SessionState], bool]:
    return lambda state: any(each.action == action and each.state == "done" for each in state.actions)


def losses_of(reader: SessionReader) -> dict[int, float]:
    column = reader.series.column("train", "logloss")
    return dict(zip(column.steps.tolist(), column.values.tolist(), strict=True))


@pytest.fixture(scope="module")
def untouched(small: str, tmp_path_factory: pytest.TempPathFactory) -> dict[int, float]:
    reader = ended(start(tmp_path_factory.mktemp("runs"), *SETTINGS, f"data={small}"))
    return losses_of(reader)


def test_a_held_fit_stands_still_and_goes_on_bit_for_bit(
    tmp_path: Path, small: str, untouched: dict[int, float]
) -> None:
    paths = begun(tmp_path, small)
    told(paths, "pause")
    wait_until(paths, done("pause"))
    time.sleep(0.5)  # the fit is told to wait within this time
    rows = paths.checkpoints / "model" / "learn_error.tsv"
    before = rows.read_bytes()
    time.sleep(0.7)
    assert rows.read_bytes() == before, "the fit went on"
    told(paths, "resume")
    reader = ended(paths)
    assert reader.state.status == "completed", reader.state.reason
    assert losses_of(reader) == untouched
    assert any(event.phase == "hold" for event in of(paths, Phase))


def test_another_learning_rate_holds_from_the_next_iteration_on(
    tmp_path: Path, small: str, untouched: dict[int, float]
) -> None:
    paths = begun(tmp_path, small)
    told(paths, "set_lr", factor=0.1)
    reader = ended(paths)
    assert reader.state.status == "completed", reader.state.reason
    (action,) = [event for event in of(paths, Action) if event.state == "done"]
    assert action.effect == {"before": {"lr": 0.05}, "after": {"lr": pytest.approx(0.005)}}
    losses = losses_of(reader)
    assert sorted(losses) == list(range(1, 301))
    changed = next(step for step in sorted(losses) if losses[step] != untouched[step])
    assert action.step < changed < 300
    assert losses[300] > untouched[300], "a tenth of the learning rate learns less"


def test_a_run_goes_back_to_a_checkpoint_and_gives_the_same_again(
    tmp_path: Path, small: str, untouched: dict[int, float]
) -> None:
    paths = begun(tmp_path, small, "train.iterations=2000", at=20)
    wait_until(paths, lambda state: state.step > 20 and (paths.checkpoints / "model" / SNAPSHOT).exists())
    told(paths, "checkpoint_now")
    state = wait_until(paths, done("checkpoint_now")).state
    target = state.checkpoints[-1].step
    wait_until(paths, lambda state: state.step > target + 50)
    told(paths, "roll_back", steps=40)
    wait_until(paths, done("roll_back"))
    wait_until(paths, lambda state: state.step >= target + 30)
    (back,) = [event for event in of(paths, Action) if event.action == "roll_back" and event.state == "done"]
    assert back.effect["after"]["step"] == target < back.effect["before"]["step"] - 39
    told(paths, "pause")
    wait_until(paths, done("pause"))
    series = read_session(paths).series.column("train", "logloss")
    pairs = list(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    again = [value for step, value in pairs if step == target + 1]
    assert len(again) == 2 and again[0] == again[1]
    told(paths, "drop_column", columns=["age"])
    told(paths, "resume")
    wait_until(paths, done("drop_column"))
    (dropped,) = [e for e in of(paths, Action) if e.action == "drop_column" and e.state == "done"]
    assert dropped.effect["after"] == {"step": 0, "exclude": ["duration", "age"]}
    ask(paths, Stop(via="cli"))
    ended(paths)


def test_what_cannot_be_done_is_refused_with_the_reason(tmp_path: Path, small: str) -> None:
    paths = begun(tmp_path, small)
    for action, params, why in (
        ("set_lr", {"lr": 3.0}, "a shrinkage of 3 is more than 1"),
        ("roll_back", {"steps": 10_000}, "no complete checkpoint from so long ago"),
        ("roll_back", {"skip_batches": True}, "boosting has no batches"),
        ("drop_column", {"columns": ["duration"]}, "it does not learn from duration"),
        ("enable_determinism", {}, "cannot do enable_determinism"),
    ):
        told(paths, action, **params)
        wait_until(paths, lambda state, why=why: any(why in each.why for each in state.refused))  # type: ignore[misc]
    assert ended(paths).state.status == "completed"


@pytest.mark.parametrize(("by_signal", "exit_code"), [(False, 6), (True, 130)], ids=["request", "SIGTERM"])
def test_a_held_run_can_be_stopped(tmp_path: Path, small: str, by_signal: bool, exit_code: int) -> None:
    paths = begun(tmp_path, small, "train.iterations=100000")
    told(paths, "pause")
    pid = wait_until(paths, done("pause")).state.pid
    time.sleep(0.5)
    if by_signal:
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
    else:
        ask(paths, Stop(via="cli"))
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("stopped", exit_code)
    assert (paths.artifacts / "model.cbm").exists()


def test_a_leaking_column_is_dropped_by_verdict_and_the_run_begins_anew(tmp_path: Path, small: str) -> None:
    settings = ("workload=catboost", "seed=1", "train.iterations=60", "features.exclude=[]", "fail_on=critical")
    paths = start(tmp_path, *settings, f"data={small}")
    state = wait_until(paths, lambda state: bool(state.proposals)).state
    (proposal,) = state.proposals
    assert (proposal.action, proposal.params) == ("drop_column", {"columns": ["duration"]})
    assert state.step == 0, "it fits while a decision about its data is awaited"
    ask(paths, Decide(via="cli", proposal=proposal.id, verdict="approve"))
    reader = ended(paths)
    assert (reader.state.status, reader.state.exit_code) == ("completed", 0), reader.state.reason
    assert ("v1", "cured") in [(each.violation, each.state) for each in of(paths, Outcome)]
    assert "15 features" in [log.text for log in reader.state.logs if "features" in log.text][-1]
