from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sessions import events
from sessions.state import KEPT_LOGS, SessionState, apply, fold, fold_grouped, grouped
from tests.sessions.strategies import RUN_EVENTS
from tests.sessions.test_codec import same

STARTED = events.RunStarted(
    run_id="r",
    name="r",
    workload="fake",
    mode="pipeline",
    regime="balanced",
    violation="none",
    seed=1,
    config_digest="",
    attempt=1,
    host="h",
    pid=7,
    ts=datetime(2026, 1, 1, tzinfo=UTC),
)


def numbered(batch: list[Any]) -> list[Any]:
    return [replace(event, seq=number) for number, event in enumerate(batch)]


METRICS = st.builds(
    events.Metrics,
    step=st.integers(0, 9),
    epoch=st.none() | st.floats(0, 9),
    split=st.sampled_from(["train", "val"]),
    values=st.dictionaries(st.sampled_from("abc"), st.floats(), max_size=3),
)


@settings(max_examples=200)
@given(st.lists(METRICS | RUN_EVENTS, max_size=20), st.integers(1, 7))
def test_folding_in_chunks_and_groups_equals_one_by_one(batch: list[Any], size: int) -> None:
    batch = numbered(batch)
    state = SessionState()
    for start in range(0, len(batch), size):
        state = fold_grouped(state, *grouped(batch[start : start + size]))
    assert same(state, fold(SessionState(), batch))


def test_a_run_from_start_to_end() -> None:
    state = apply(SessionState(), STARTED)
    assert (state.status, state.ended, state.started_at) == ("running", False, STARTED.ts)
    state = apply(state, events.Metrics(split="train", step=3, values={"loss": 1.0}))
    state = apply(state, events.Metrics(split="val", step=1, values={"loss": 2.0}))
    assert (state.step, state.latest) == (3, {"train": {"loss": 1.0}, "val": {"loss": 2.0}})
    state = apply(state, events.RunFinished(status="completed", reason="done", exit_code=0))
    assert (state.status, state.ended, state.fraction) == ("completed", True, 1.0)


def test_a_worker_that_left_without_a_word_crashed() -> None:
    left = events.WorkerExited(pid=7, attempt=1, exit_code=None, signal="SIGKILL", clean=False)
    state = apply(apply(SessionState(), STARTED), left)
    assert state.status == "crashed"
    assert "SIGKILL" in state.reason


def test_a_worker_that_said_how_it_ended_is_believed() -> None:
    ended = events.RunFinished(status="failed", reason="no data", exit_code=3)
    left = events.WorkerExited(pid=7, attempt=1, exit_code=3, clean=True)
    for order in ([ended, left], [left, ended]):  # two files, read in any order
        state = fold(apply(SessionState(), STARTED), order)
        assert (state.status, state.reason, state.exit_code) == ("failed", "no data", 3)


def test_a_stop_that_was_taken_up_shows() -> None:
    stop = events.Action(id="1", action="stop", state="started", step=3)
    assert apply(apply(SessionState(), STARTED), stop).status == "stopping"


@pytest.mark.parametrize("count", [3, KEPT_LOGS + 3])
def test_only_the_newest_logs_are_kept(count: int) -> None:
    state = fold(SessionState(), [events.Log(level="info", source="", text=str(n)) for n in range(count)])
    assert [log.text for log in state.logs] == [str(n) for n in range(count)][-KEPT_LOGS:]


def test_unknown_types_are_counted() -> None:
    odd = events.Unknown(type="odd", seq=1, ts=STARTED.ts, fields={})
    assert fold(SessionState(), [odd, odd]).unknown == {"odd": 2}
