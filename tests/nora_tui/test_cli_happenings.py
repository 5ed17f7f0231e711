"""What whoever follows a run is told: each thing once, and no more than concerns a person."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from nora_tui import clock
from nora_tui.cli.happenings import MOST_AT_FIRST, Happenings
from nora_tui.cli.lines import waiting_line
from sessions import events
from sessions.events import AnyEvent
from sessions.state import SessionState, fold
from tests.nora_tui.made import BEGAN, started
from tests.nora_tui.test_cli_steer import proposal, resolution, violation


def told(happenings: Happenings, state: SessionState, *new: AnyEvent) -> tuple[SessionState, list[str]]:
    """Return the state after ``new``, and what is said of it."""
    state = fold(state, [replace(event, ts=BEGAN) for event in new])
    return state, [line.text for line in happenings.since(state)]


def test_each_thing_is_told_once_and_in_order() -> None:
    happenings = Happenings()
    state, lines = told(happenings, SessionState(), started("one"))
    assert lines == []
    state, lines = told(happenings, state, violation(1), proposal(1))
    assert lines[0] == "v1 critical non-finite at step 5: the loss is nan"
    assert lines[1].startswith("p1 waits for you (")
    assert len(lines) == 2
    state, lines = told(happenings, state, events.Progress(step=5))
    assert lines == []
    state, lines = told(happenings, state, resolution(1, reason="sure"))
    assert lines == ["p1 approved by ann: skip_step (sure)"]
    state, lines = told(
        happenings,
        state,
        events.Action(id="a1", proposal="p1", action="skip_step", state="done", step=5),
        events.Outcome(violation="v1", state="cured", step=9),
    )
    assert lines == ["v1 non-finite cured"]


def test_a_proposal_that_was_decided_before_anybody_looked_waits_for_nobody() -> None:
    _, lines = told(Happenings(), SessionState(), started("one"), violation(1), proposal(1), resolution(1))
    assert lines == ["v1 critical non-finite at step 5: the loss is nan", "p1 approved by ann: skip_step"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        pytest.param(
            resolution(1, verdict="by_policy", action="none", by="regime=balanced: minor is recorded", via="policy"),
            [],
            id="recorded",
        ),
        pytest.param(
            resolution(1, verdict="by_policy", by="approve=auto", via="policy"),
            ["p1 by rule: skip_step (approve=auto)"],
            id="by-policy",
        ),
        pytest.param(resolution(1, verdict="rejected", action="none"), ["p1 rejected by ann"], id="rejected"),
        pytest.param(
            events.Action(id="a1", proposal="p1", action="skip_step", state="failed", error="no optimizer", step=5),
            ["skip_step failed: no optimizer (step 5)"],
            id="failed",
        ),
        pytest.param(
            events.Action(id="r1", action="set_lr", params={"factor": 0.5}, state="done", step=6),
            ["set_lr factor=0.5 done (step 6)"],
            id="unasked",
        ),
        pytest.param(events.Action(id="r1", action="pause", state="started", step=6), [], id="begun"),
        pytest.param(events.Action(id="r1", action="stop", state="done", step=6), [], id="stop"),
        pytest.param(
            events.Outcome(violation="v1", state="persists", step=9), ["v1 non-finite persists"], id="persists"
        ),
        pytest.param(events.Outcome(violation="v1", state="recurred", step=9), [], id="recurred"),
    ],
)
def test_what_is_told_of_one_event(event: AnyEvent, expected: list[str]) -> None:
    happenings = Happenings()
    state, _ = told(happenings, SessionState(), started("one"), violation(1), proposal(1))
    _, lines = told(happenings, state, event)
    assert lines == expected


def test_who_comes_late_is_told_a_long_past_in_one_line_and_what_waits_in_full() -> None:
    past = [violation(number) for number in range(1, MOST_AT_FIRST + 3)]
    cured = events.Outcome(violation="v1", state="cured", step=9)
    happenings = Happenings()
    state, lines = told(happenings, SessionState(), started("one"), *past, cured, proposal(1))
    assert lines[0] == f"{len(past)} violations so far, 1 cured; `nora show one` has all"
    assert [line[:12] for line in lines[1:]] == ["p1 waits for"]
    _, lines = told(happenings, state, violation(99))
    assert lines == ["v99 critical non-finite at step 5: the loss is nan"]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({}, "p1 waits for you: nora decide one p1 approve|override|reject — skip_step", id="no-deadline"),
        pytest.param(
            {"action": "none"},
            "p1 waits for you: nora decide one p1 override|reject — no remedy to recommend",
            id="nothing-to-approve",
        ),
        pytest.param(
            {"action": "set_lr", "params": {"factor": 0.5}},
            "p1 waits for you: nora decide one p1 approve|override|reject — set_lr factor=0.5",
            id="parameters",
        ),
    ],
)
def test_what_waits_names_the_command_that_answers_it(changes: dict[str, object], line: str) -> None:
    assert waiting_line(replace(proposal(1), deadline=None, **changes), "one") == line


def test_what_waits_says_how_long_and_what_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: BEGAN)
    waits = replace(proposal(1), deadline=BEGAN + timedelta(minutes=9, seconds=58))
    assert "p1 waits for you (9m 58s left, then the run stops): " in waiting_line(waits, "one")


def test_text_from_a_session_is_harmless() -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\np2 approved by ann"
    _, lines = told(
        Happenings(),
        SessionState(),
        started("one"),
        violation(1, norm=hostile),
        events.Outcome(violation="v1", state="cured", step=9),
        proposal(1, action=hostile, name=hostile),
        resolution(1, action=hostile, by=hostile, reason=hostile),
        events.Action(id="a1", action=hostile, state="failed", error=hostile, step=5),
    )
    assert len(lines) == 4
    assert not {"\x1b", "\x07", "\n"} & set("".join(lines))
