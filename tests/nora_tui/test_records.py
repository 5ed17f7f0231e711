"""The norms and the timeline of a run, and what its screen can tell it unasked."""

import math
from pathlib import Path

import pytest

from nora_tui.app import NoraApp
from nora_tui.cases import open_by_severity, open_violations, paused, waiting
from nora_tui.screens.command import CommandScreen, NoteScreen
from nora_tui.screens.run import RunScreen
from nora_tui.widgets.detailed_list import DetailedList
from nora_tui.widgets.fields import allowed, param_text, param_value
from nora_tui.widgets.norms_view import norm_entries, norms_summary
from nora_tui.widgets.timeline_view import timeline_entries
from nora_tui.widgets.toned import width_of
from nora_tui.wording import action_words, call, change_words, evidence_rows, json_text
from norms.actions import ACTIONS
from norms.norm import catalogue
from sessions import events
from sessions.paths import SessionPaths
from sessions.requests import Command, Stop, WriteNote
from sessions.state import SessionState, fold
from tests.nora_tui import made
from tests.nora_tui.pilots import screen_text, until, until_shown
from tests.nora_tui.test_decide_screen import append, requests


@pytest.fixture
def waits(runs: Path) -> SessionPaths:
    return made.write_waiting(runs)


@pytest.fixture
def state() -> SessionState:
    return fold(SessionState(), [event for _, event in made.deciding("waits")])


# --- how things stand -------------------------------------------------------------------------------------------------


def test_what_is_open_and_waits(state: SessionState) -> None:
    assert [violation.id for violation in open_violations(state)] == ["v3", "v2"]
    assert open_by_severity(state) == {"minor": 1, "critical": 1}
    assert [proposal.id for proposal in waiting(state)] == ["p2"]
    muted = events.Norms(step=251, standings=[events.Standing(norm="non-finite", state="muted")])
    recurred = events.Outcome(violation="v3", state="recurred", step=251)
    assert open_violations(fold(state, [muted, recurred])) == []
    assert waiting(fold(state, [made.finished("stopped")])) == ()


def test_a_run_is_paused_until_it_is_told_to_go_on(state: SessionState) -> None:
    def done(action: str, how: str = "done") -> events.Action:
        return events.Action(id=action, action=action, state=how, step=9)  # type: ignore[arg-type]

    assert not paused(state)
    assert paused(fold(state, [done("pause"), done("set_lr")]))
    assert paused(fold(state, [done("pause"), done("resume", "failed")]))
    assert not paused(fold(state, [done("pause"), done("resume")]))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "–"),
        (True, "yes"),
        (0.00017, "1.7e-4"),
        ("nan", "nan"),
        (math.inf, "inf"),
        (123456, "123,456"),
        ([33871, 2], "33871, 2"),
        ([], "none"),
        (list(range(30)), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, and 18 more"),
        ({"a": 1, "b": [0.5]}, "a 1, b 0.5000"),
    ],
)
def test_evidence_in_words(found: object, words: str) -> None:
    assert json_text(found) == words


def test_a_group_in_the_evidence_has_rows_of_its_own() -> None:
    rows = evidence_rows(
        {
            "parameters": [],
            "loss_scale": None,
            "series": {"loss": {"sigmas": 7.2}},
            "free_bytes": 2e9,
            "small_gradients": 0.7,
        }
    )
    assert rows == [("series loss", "sigmas 7.200"), ("free bytes", "2.0 GB"), ("small gradients", "0.7000")]


def test_actions_in_words() -> None:
    assert call("set_lr", {"factor": 0.5}) == "set_lr factor=0.5"
    assert call("add_parameters", {"names": ["a", "b"]}) == "add_parameters names=a,b"
    assert call("none", {}) == "nothing"
    effect = {"before": {"lr": 0.002, "step": 143, "scale": None}, "after": {"lr": 0.001, "checkpoint": "step-100"}}
    assert change_words(effect) == "lr 0.0020 → 0.0010, step 143, checkpoint step-100"
    failed = events.Action(id="a1", action="pause", state="failed", step=1, error="it is held already")
    assert action_words(failed) == "pause failed: it is held already"


@pytest.mark.parametrize(
    ("action", "param", "text", "value"),
    [
        ("set_lr", "factor", "0.5", 0.5),
        ("set_lr", "factor", "half", "half"),
        ("roll_back", "steps", "1,200", 1200),
        ("roll_back", "steps", "1.5", "1.5"),
        ("roll_back", "skip_batches", "True", True),
        ("roll_back", "skip_batches", "maybe", "maybe"),
        ("drop_column", "columns", "age, job", ["age", "job"]),
        ("set_mode", "mode", "eval", "eval"),
    ],
)
def test_what_is_typed_becomes_a_value_or_stays_a_text(action: str, param: str, text: str, value: object) -> None:
    spec = ACTIONS[action].params[param]
    assert param_value(spec, text) == value
    assert param_value(spec, param_text(value)) == value
    assert allowed(spec)


# --- norms and timeline -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [30, 78, 118, 200])
def test_lines_of_norms_and_timeline_fit(state: SessionState, width: int) -> None:
    for entry in [*norm_entries(state), *timeline_entries(state)]:
        if width >= 78:
            assert width_of(entry.row(width)) <= width
        entry.details(width)


def test_every_norm_is_listed_and_says_how_it_stands(state: SessionState) -> None:
    own = events.Standing(norm="my-norm", state="kept", value=1.0)
    entries = norm_entries(fold(state, [events.Norms(step=251, standings=[own])]))
    assert {entry.key for entry in entries} == {"", "my-norm", *catalogue()}
    text = {entry.key: "".join(piece for piece, _ in entry.row(110)) for entry in entries}
    assert "✗ broken" in text["non-finite"] and text["non-finite"].split()[2:5] == ["non-finite", "3", "2"][0:3]
    assert "↺ cured" in text["spike"] and "· not judged" in text["sla"] and "✓ kept" in text["my-norm"]
    assert [piece for group in norms_summary(state) for piece, _ in group] == ["✓ 5 kept", "↺ 1 cured", "✗ 2 broken"]


def rows_of(state: SessionState) -> str:
    return "\n".join("".join(piece for piece, _ in entry.row(110)) for entry in norm_entries(state))


def test_violations_stand_for_norms_that_no_event_tells_of() -> None:
    events_ = [made.started("x"), made.NON_FINITE]
    text = "\n".join(
        "".join(piece for piece, _ in entry.row(110)) for entry in norm_entries(fold(SessionState(), events_))
    )
    assert "✗ broken      non-finite" in text
    events_.append(events.Outcome(violation="v2", state="cured", step=300))
    text = "\n".join(
        "".join(piece for piece, _ in entry.row(110)) for entry in norm_entries(fold(SessionState(), events_))
    )
    assert "↺ cured       non-finite" in text


async def test_the_norms_open_at_the_gravest_break_and_explain_it(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "waits for you")
        await pilot.press("2")
        await until_shown(pilot, "✗ 2 broken", "non-finite")
        await pilot.press("enter")
        await until_shown(pilot, "Loss, gradients and weights are finite", "limit")
        await pilot.press("end")
        await until_shown(pilot, "end after this step, with a checkpoint")
        await pilot.press("escape")
        view = app.screen.query_one("#norms", DetailedList)
        assert not view.alone and view.selected is not None and view.selected.key == "non-finite"
        await pilot.press("home")
        await until_shown(pilot, "optimizer-coverage", "Validity")
        await pilot.press("end", "up", "pagedown", "pageup", "down")
        assert isinstance(app.screen, RunScreen)


async def test_where_nothing_is_broken_the_first_norm_is_selected(runs: Path) -> None:
    app = NoraApp(runs, SessionPaths(runs / "vit-digits-completed"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "✓ completed", "grad_norm")
        await pilot.press("2")
        await until_shown(pilot, "▌ · not judged  optimizer-coverage")


async def test_the_timeline_follows_what_happens_and_keeps_a_selection(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press("3")
        await until_shown(pilot, "◆ waits", "skip_step (regime=balanced: major, reversible)", "loss 3.100 → 0.4200")
        await until_shown(pilot, "proposal p2")
        append(waits, events.Note(text="later [b]x[/b]", by="ada", step=251))
        await until_shown(pilot, "✎ note", "later [b]x[/b]")
        view = app.screen.query_one("#timeline", DetailedList)
        assert view.selected is not None and "later" in str(view.selected.details(50))
        await pilot.press("home")
        await until_shown(pilot, "What breaks it")
        before = view.selected
        append(waits, events.RequestRefused(request="x", why="nobody knows p9"))
        await until_shown(pilot, "⊘ refused", "nobody knows p9")
        assert view.selected is not None and before is not None and view.selected.key == before.key
        assert "spike" in str(view.selected.details(50))


async def test_a_click_selects_and_a_second_one_opens(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 40)) as pilot:
        await pilot.press("3")
        await until_shown(pilot, "◆ waits")
        view = app.screen.query_one("#timeline", DetailedList)
        await pilot.click(view, offset=(20, 1))
        assert view.selected is not None and view.selected.key == timeline_entries(app.screen.state)[1].key  # type: ignore[attr-defined]
        assert not view.alone
        await pilot.click(view, offset=(20, 1))
        await until_shown(pilot, "The loss is 7.2 sigmas above the last 128 steps.")
        assert view.alone


async def test_panels_that_did_not_change_are_not_made_again(
    runs: Path, waits: SessionPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = NoraApp(runs, waits)
    shown: list[str] = []
    original = DetailedList.show
    monkeypatch.setattr(DetailedList, "show", lambda view, *a, **k: (shown.append(view.id), original(view, *a, **k)))
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("3")
        await until_shown(pilot, "◆ waits")
        shown.clear()
        append(waits, events.Metrics(step=251, split="train", epoch=6.3, values={"loss": 0.2}))
        await until_shown(pilot, "step 251/400")
        assert shown == []
        append(waits, events.Note(text="now", by="ada", step=251))
        await until_shown(pilot, "✎ note")
        await until(pilot, lambda: shown == ["timeline"])


def told(app: NoraApp) -> list[str]:
    """Return what the cockpit notified a person of; toasts break lines."""
    return [notification.message for notification in app._notifications]


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "action", "params"),
    [
        (("p",), "pause", {}),
        (("c",), "checkpoint_now", {}),
        (("s", *"0.5", "ctrl+s"), "set_lr", {"factor": 0.5}),
        (("b", *"100", "enter", *"true", "ctrl+s"), "roll_back", {"steps": 100, "skip_batches": True}),
        (("m", *"spike", "tab", *"a test", "ctrl+s"), "mute", {"norm": "spike", "reason": "a test"}),
    ],
    ids=["pause", "checkpoint", "set_lr", "roll_back", "mute"],
)
async def test_a_run_is_told(runs: Path, keys: tuple[str, ...], action: str, params: dict[str, object]) -> None:
    paths = SessionPaths(runs / "vit-digits-live")
    app = NoraApp(runs, paths)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "62%")
        await pilot.press(*keys)
        await until(pilot, lambda: bool(requests(paths)))
        (found,) = requests(paths)
        assert isinstance(found, Command) and (found.action, found.params, found.via) == (action, params, "tui")
        await until(pilot, lambda: f"{call(action, params)} is asked of the run" in told(app))
        append(paths, events.Action(id=found.id, action=action, params=params, state="done", step=251))
        await until(pilot, lambda: f"{call(action, params)} done" in told(app))


async def test_pause_is_one_key_and_says_so(runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-live")
    app = NoraApp(runs, paths)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "62%")
        append(paths, events.Action(id="r1", action="pause", state="done", step=251))
        await until_shown(pilot, "‖ paused")
        await pilot.press("p")
        await until(pilot, lambda: bool(requests(paths)))
        assert [found.action for found in requests(paths) if isinstance(found, Command)] == ["resume"]
        append(paths, events.Action(id="r2", action="resume", state="done", step=251))
        await until_shown(pilot, "● running")


async def test_a_refused_command_is_said(runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-live")
    app = NoraApp(runs, paths)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "62%")
        await pilot.press("c")
        await until(pilot, lambda: bool(requests(paths)))
        append(paths, events.RequestRefused(request=requests(paths)[0].id, why="this run cannot do checkpoint_now"))
        await until(pilot, lambda: "checkpoint_now was refused: this run cannot do checkpoint_now" in told(app))
        append(paths, events.RequestRefused(request="of somebody else", why="silence"))
        await pilot.pause(0.3)
        assert not any("silence" in words for words in told(app))


async def test_the_selected_norm_is_the_one_to_mute_and_a_reason_is_needed(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 40)) as pilot:
        await until_shown(pilot, "waits for you")
        await pilot.press("2")
        await until_shown(pilot, "✗ 2 broken")
        await pilot.press("m")
        await until(pilot, lambda: isinstance(app.screen, CommandScreen))
        await pilot.press("ctrl+s")
        await until_shown(pilot, "non-finite", "Action mute needs reason (why, for the record).")
        await pilot.press("tab", *"ok")
        await until(pilot, lambda: "needs reason" not in screen_text(app))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert not requests(waits)


async def test_a_note_is_written(runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-live")
    app = NoraApp(runs, paths)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "62%")
        await pilot.press("n", "ctrl+s")
        await until_shown(pilot, "There is nothing to write yet.")
        await pilot.press(*"looks [good]", "enter")
        assert isinstance(app.screen, NoteScreen)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: bool(requests(paths)))
        (found,) = requests(paths)
        assert isinstance(found, WriteNote) and found.text == "looks [good]"


async def test_a_request_that_cannot_be_written_is_said_where_it_was_made(runs: Path, waits: SessionPaths) -> None:
    from tests.nora_tui.pilots import open_proposal

    waits.requests.mkdir()
    app = NoraApp(runs, waits)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await open_proposal(pilot)
        await pilot.press("y")
        await until_shown(pilot, "cannot be written", "y approve")


async def test_an_ended_run_is_told_nothing(runs: Path) -> None:
    app = NoraApp(runs, SessionPaths(runs / "vit-digits-completed"))
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "✓ completed")
        await pilot.press("p", "c", "s", "b", "m", "n", "x", "a")
        assert isinstance(app.screen, RunScreen)
        assert not (runs / "vit-digits-completed" / "requests.jsonl").exists()


def test_requests_have_words() -> None:
    from nora_tui.asking import asked_words, request_words

    assert request_words(Stop(via="tui")) == "The stop"
    assert asked_words(WriteNote(via="tui", text="x"), "run") == "The note goes into the record"
