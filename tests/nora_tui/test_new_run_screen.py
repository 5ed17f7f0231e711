"""Start runs from the cockpit: the real command line, the real engine."""

from pathlib import Path

import pytest

from nora_tui.app import NoraApp
from nora_tui.screens.new_run import NewRunScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.widgets.choices import Choices
from sessions.store import list_sessions
from tests.nora_tui.pilots import screen_text, until, until_shown


async def test_a_run_is_started_watched_and_stopped(empty: Path) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "No runs here yet")
        await pilot.press("n")
        await until_shown(pilot, "● vit", "● digits", "workload=vit data=digits")
        await pilot.press("left")
        await until_shown(pilot, "● fake", "● none", "workload=fake data=none")
        await pilot.press("tab", "tab", *"script.step_seconds=0.01 train.steps=100000")
        await until_shown(pilot, "workload=fake data=none script.step_seconds=0.01")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until_shown(pilot, "● running", "loss", "fake")
        await pilot.press("x")
        await until_shown(pilot, "Stop fake-")
        await pilot.press("y")
        await until_shown(pilot, "■ stopped", "Stopped at step")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await until_shown(pilot, "■ stopped")
    (paths,) = list_sessions(empty)
    assert paths.run_id.startswith("fake-")


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("train.epoch=3", "there is no key 'train.epoch'"),
        ("train.epochs=-3", "train.epochs=-3: expected"),
        ("data=/nowhere.npz", "/nowhere.npz"),
        ("--help", "no override"),
    ],
)
async def test_what_is_wrong_is_said_in_place_and_nothing_is_made(empty: Path, typed: str, words: str) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(120, 30)) as pilot:
        await pilot.press("n", "tab", "tab", *typed, "enter")
        await until_shown(pilot, "Not started", words)
        assert isinstance(app.screen, NewRunScreen)
        assert typed in screen_text(app)
    assert list_sessions(empty) == []


async def test_an_unfinished_quote_is_said_while_typing(empty: Path) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("n", "tab", "tab", *"tags=['a", "enter")
        await until_shown(pilot, "The overrides cannot be read")
        assert isinstance(app.screen, NewRunScreen)


async def test_keys_are_completed(empty: Path) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("n", "tab", "tab", *"seed=1 train.ep")
        await until_shown(pilot, "train.epochs=")
        await pilot.press("right")
        await until_shown(pilot, "workload=vit data=digits seed=1 train.epochs=")


async def test_fields_are_walked_and_left(empty: Path) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press("down", "right")
        await until_shown(pilot, "● cifar10")
        await pilot.press("up", "right")
        await until_shown(pilot, "● catboost", "● bank")
        await pilot.press("shift+tab", "shift+tab", "space")
        assert app.screen.query_one("#data", Choices).value == "bank"
        await pilot.click("#workload", offset=(12, 0))
        await until_shown(pilot, "● vit")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
