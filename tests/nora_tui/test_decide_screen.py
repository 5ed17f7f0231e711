"""A proposal that waits for a person: shown, answered with deliberate keys, and what the run says to that."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Input

from nora_tui.app import NoraApp
from nora_tui.screens.decide import DecideScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.widgets.metric_grid import MetricGrid
from nora_tui.widgets.waiting_panel import WaitingPanel
from sessions import events
from sessions.codec import encode
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Decide, decode_request
from tests.nora_tui import made
from tests.nora_tui.pilots import open_proposal, screen_text, until, until_heard, until_shown


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Gets an entry whenever the cockpit rings."""
    found: list[str] = []
    monkeypatch.setattr(NoraApp, "bell", lambda _: found.append("rung"))
    return found


@pytest.fixture
def waits(runs: Path) -> SessionPaths:
    return made.write_waiting(runs)


def append(paths: SessionPaths, *happenings: events.AnyEvent) -> None:
    seq = len(paths.events.read_bytes().splitlines())
    with paths.events.open("ab") as file:
        for number, event in enumerate(happenings):
            file.write(encode(replace(event, seq=seq + number, ts=made.BEGAN + timedelta(hours=4))))
    made.alive(paths)


def requests(paths: SessionPaths) -> list[AnyRequest]:
    return (
        [decode_request(line) for line in paths.requests.read_bytes().splitlines()] if paths.requests.exists() else []
    )


async def asked(pilot: Pilot[None], paths: SessionPaths) -> Decide:
    """Return the answer, once the file has it."""
    await until(pilot, lambda: bool(requests(paths)))
    (request,) = requests(paths)
    assert isinstance(request, Decide)
    return request


def decided(verdict: str = "approved", by: str = "ada", via: str = "tui", **fields: object) -> events.Resolution:
    return events.Resolution(proposal="p2", verdict=verdict, action="roll_back", by=by, via=via, **fields)  # type: ignore[arg-type]


async def test_the_panel_shows_evidence_first_rings_once_and_takes_no_focus(
    runs: Path, waits: SessionPaths, rung: list[str]
) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(120, 50)) as pilot:
        await until_shown(pilot, "p2 waits for you", "9m 42s left, then the run stops", "grad_norm")
        text = screen_text(app)
        for words in (
            "the run waits",
            "losses before   0.2951, 0.3127, 0.4418",
            "artifacts/v2-samples.png",
            "2 stop",
        ):
            assert words in text, words
        assert text.index("blocks.0.attention") < text.index("roll_back steps=100") < text.index("1 set_lr factor=0.5")
        assert isinstance(app.screen.focused, MetricGrid)
        append(waits, events.Metrics(step=251, split="train", epoch=6.3, values={"loss": 0.2}))
        await until_shown(pilot, "step 251/400")
        await pilot.press("escape")
        await until_shown(pilot, "1 waiting for you")
        await pilot.press("enter")
        await until_shown(pilot, "p2 waits for you")
        assert len(rung) == 1


async def test_a_key_that_was_meant_for_something_else_opens_nothing(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        panel = app.screen_stack[-1].query_one(WaitingPanel) if len(app.screen_stack) > 1 else None
        await until_shown(pilot, "p2 waits for you")
        panel = panel or app.screen.query_one(WaitingPanel)
        panel._since = time.monotonic()
        await pilot.press("a")
        assert isinstance(app.screen, RunScreen)
        await until_heard(pilot)
        await pilot.press("a")
        assert isinstance(app.screen, DecideScreen)
        app.screen._since = time.monotonic()
        await pilot.press("y", "o", "r")
        assert app.screen.places() == {"decide"}
        await until(pilot, lambda: app.screen.hears)  # type: ignore[attr-defined]
        await pilot.press("enter", "a", "space", "escape")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert not requests(waits)
        await until_shown(pilot, "p2 waits for you")


async def test_approve_is_sent_and_what_the_run_answers_is_told(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(100, 30), notifications=True) as pilot:
        await open_proposal(pilot)
        await pilot.press("A", "y")
        found = await asked(pilot, waits)
        assert (found.proposal, found.verdict, found.always, found.via) == ("p2", "approve", True, "tui")
        await until_shown(pilot, "Sent; the run answers")
        await pilot.press("y", "r")
        assert len(requests(waits)) == 1
        append(waits, decided(params={"steps": 100}))
        await until_shown(pilot, "p2 approved by ada: roll_back steps=100")
        assert isinstance(app.screen, RunScreen)
        assert not app.screen.query_one(WaitingPanel).display
        await pilot.press("3")
        await until_shown(pilot, "◇ proposed", "✓ approved")


async def test_a_refused_answer_is_said_and_another_can_be_given(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_proposal(pilot)
        await pilot.press("y")
        found = await asked(pilot, waits)
        append(waits, events.RequestRefused(request=found.id, why="this run cannot do roll_back: no checkpoint"))
        await until_shown(pilot, "this run cannot do roll_back: no checkpoint", "y approve")
        await pilot.press("y")
        await until(pilot, lambda: len(requests(waits)) == 2)


async def test_somebody_elses_verdict_is_shown_and_closes_the_proposal(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_proposal(pilot)
        await pilot.press("r", *"not yet")
        append(waits, decided("rejected", by="bob", via="cli", reason="planned"))
        await until_shown(pilot, "Decided meanwhile: p2 rejected by bob.")
        assert not {"approve", "send"} & {action.name for action in app.screen.actions()}  # type: ignore[attr-defined]
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        assert not requests(waits)


async def test_a_run_that_ends_leaves_nothing_to_decide(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(100, 30)) as pilot:
        await open_proposal(pilot)
        append(waits, made.finished("stopped", "stopped by ada"))
        await until_shown(pilot, "there is nothing to decide any more")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until_shown(pilot, "■ stopped")
        assert not app.screen.query_one(WaitingPanel).display


async def test_override_with_other_parameters(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_proposal(pilot)
        await pilot.press("o")
        await until_shown(pilot, "● roll_back", "skip_batches")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "This is what is proposed already")
        await pilot.press("tab", "backspace", "backspace", "backspace", "minus", "5")
        await until_shown(pilot, "steps=-5 is not possible; allowed is a whole number from 0")
        await pilot.press("ctrl+s", "enter")
        assert not requests(waits)
        await pilot.press("shift+tab", "backspace", "backspace")
        await until_shown(pilot, "a whole number from 0")
        await pilot.press("ctrl+s")
        await until_shown(pilot, "steps is part of what is proposed")
        await pilot.press(*"40", "ctrl+s")
        found = await asked(pilot, waits)
        assert (found.verdict, found.action, found.params) == ("override", "roll_back", {"steps": 40})


async def test_override_with_another_action(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_proposal(pilot)
        await pilot.press("o", "right")
        await until_shown(pilot, "● set_lr", "factor", "0.5")
        await pilot.press("tab", "tab", *"0.1")
        await until_shown(pilot, "needs exactly one of factor, lr")
        await pilot.press("shift+tab", *["backspace"] * 3, "ctrl+s")
        found = await asked(pilot, waits)
        assert (found.verdict, found.action, found.params) == ("override", "set_lr", {"lr": 0.1})


async def test_an_action_without_parameters_is_chosen(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_proposal(pilot)
        await pilot.press("o", "left")
        await until_shown(pilot, "● stop", "takes no parameters")
        await pilot.press("ctrl+s")
        assert (await asked(pilot, waits)).action == "stop"


async def test_reject_needs_a_reason(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_proposal(pilot)
        await pilot.press("r", "ctrl+s")
        await until_shown(pilot, "Say why")
        await pilot.press(*"y a [b]", "enter", "right", "ctrl+s")
        found = await asked(pilot, waits)
        assert (found.verdict, found.reason, found.always) == ("reject", "y a [b]", True)


async def test_escape_leaves_the_form_then_the_proposal(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(80, 24)) as pilot:
        await open_proposal(pilot)
        await pilot.press("o", "tab")
        assert isinstance(app.screen.focused, Input)
        await pilot.press("escape")
        assert isinstance(app.screen, DecideScreen) and app.screen.places() == {"decide"}
        await pilot.press("escape")
        assert isinstance(app.screen, RunScreen)
        assert not requests(waits)


async def test_a_proposal_is_answered_from_the_list_of_runs(runs: Path, waits: SessionPaths, rung: list[str]) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "◆ 1 waiting", "▲1", "a decide")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, DecideScreen) and app.screen.hears)
        await pilot.press("y")
        await asked(pilot, waits)
        append(waits, decided(params={"steps": 100}))
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await until_shown(pilot, "p2 approved by ada")
        assert "waiting" not in screen_text(app)
        assert len(rung) == 1


async def test_proposals_wait_in_line(runs: Path, waits: SessionPaths, rung: list[str]) -> None:
    app = NoraApp(runs, waits)
    async with app.run_test(size=(100, 40)) as pilot:
        await until_shown(pilot, "p2 waits for you")
        later = replace(made.ROLL_BACK, id="p3", violations=["v3"], action="set_lr", params={"factor": 0.1})
        append(waits, replace(later, hold="continue", on_timeout="continue"))
        await until_shown(pilot, "p2 waits for you", "1 more after it")
        assert len(rung) == 2
        append(waits, decided())
        await until_shown(pilot, "p3 waits for you", "the run goes on", "then it goes on as it is", "dead-units")
        assert "roll_back" not in screen_text(app).partition("p3 waits")[2]


async def test_what_a_rule_decides_neither_rings_nor_shows_a_panel(runs: Path, rung: list[str]) -> None:
    proposal = events.Proposal(id="p1", violations=[], action="skip_step", hold="continue")
    happenings = [*made.running("ruled"), (13.0, proposal)]
    paths = made.alive(made.write(runs / "ruled", happenings, began=made.BEGAN + timedelta(hours=4)))
    app = NoraApp(runs, paths)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, RunScreen) and app.screen.loaded)
        await pilot.pause(0.2)
        assert len(rung) == 0 and "waits" not in screen_text(app)


async def test_evidence_is_data(runs: Path) -> None:
    violation = replace(
        made.NON_FINITE,
        norm="[red]own",
        message="\x1b[31mboo\x07 [b]x[/b]",
        evidence={"a\x1b]0;t": "[red]\x1b[2J", "many": [f"layer{n}" for n in range(400)], "free_bytes": 5_000_000_000},
    )
    proposal = replace(made.ROLL_BACK, rationale="[blink]\x1b[5m", alternatives=[], action="unheard_of", params={})
    happenings = [*made.running("odd"), (13.0, violation), (13.0, proposal)]
    paths = made.alive(made.write(runs / "odd", happenings, began=made.BEGAN + timedelta(hours=4)))
    app = NoraApp(runs, paths)
    async with app.run_test(size=(100, 60)) as pilot:
        await until_shown(pilot, "␛[31mboo␇ [b]x[/b]", "[red]own")
        await open_proposal(pilot)
        await until_shown(pilot, "[red]␛[2J", "5.0 GB", "unheard_of")
        for _ in range(3):
            await pilot.press("pagedown")
        await until_shown(pilot, "[blink]␛[5m")


async def test_a_read_only_cockpit_shows_what_waits_and_asks_nothing(runs: Path, waits: SessionPaths) -> None:
    app = NoraApp(runs, waits, read_only=True)
    async with app.run_test(size=(80, 24)) as pilot:
        await until_shown(pilot, "p2 waits for you")
        await until_heard(pilot)
        await pilot.press("a", "p", "c", "s")
        assert isinstance(app.screen, RunScreen)
        assert "a decide" not in screen_text(app) and not requests(waits)
