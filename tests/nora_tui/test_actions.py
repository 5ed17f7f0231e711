"""One registry: what the bindings, the footer, the help and the palette say is what it says."""

import re
from pathlib import Path

import pytest
from textual.binding import BindingsMap

from nora_tui import actions
from nora_tui.actions import ACTIONS, PLACES, Action, at, key_name
from nora_tui.app import NoraApp
from nora_tui.screens.base import NoraScreen
from nora_tui.screens.command import CommandScreen, NoteScreen
from nora_tui.screens.confirm import ConfirmScreen
from nora_tui.screens.decide import DecideScreen
from nora_tui.screens.help import HelpScreen, help_lines
from nora_tui.screens.new_run import NewRunScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.widgets.hint_bar import HintBar
from tests.nora_tui.pilots import until_shown

SCREENS: list[type[NoraScreen]] = [
    RunsScreen,
    RunScreen,
    DecideScreen,
    CommandScreen,
    NoteScreen,
    NewRunScreen,
    ConfirmScreen,
    HelpScreen,
]


@pytest.mark.parametrize("screen", SCREENS)
def test_a_screen_binds_what_the_registry_has_for_its_places_and_nothing_else(screen: type[NoraScreen]) -> None:
    bound = {
        key: {binding.action for binding in found}
        for key, found in BindingsMap(screen.BINDINGS).key_to_bindings.items()
    }
    expected: dict[str, set[str]] = {}
    for action in at(screen.PLACES):
        for key in action.keys:
            expected.setdefault(key, set()).add(action.name)
        assert callable(getattr(screen, f"action_{action.name}", None)), f"{screen.__name__} lacks {action.name}"
    assert bound == expected


def test_every_place_belongs_to_a_screen_and_every_action_to_a_place() -> None:
    assert {place for screen in SCREENS for place in screen.PLACES} == set(PLACES)
    assert all(action.places for action in ACTIONS)


def test_names_are_unique_and_no_place_has_one_key_for_two_actions() -> None:
    names = [action.name for action in ACTIONS]
    assert len(names) == len(set(names))
    for place in PLACES:
        keys = [key for action in at([place]) for key in action.keys]
        assert len(keys) == len(set(keys)), place


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("width", [30, 60, 78, 198])
def test_the_footer_shows_what_fits_and_help_is_the_last_to_go(place: actions.Place, width: int) -> None:
    bar = HintBar()
    bar._actions = actions.hints(at([place]))
    shown = bar.shown(width)
    assert ("?", "help") in shown
    known = {(key_name(key), action.label) for action in at([place]) for key in action.keys}
    assert set(shown) <= known
    if width == 198:
        assert len(shown) == len(actions.hints(at([place])))


def test_while_typing_the_footer_names_only_keys_that_are_not_text() -> None:
    bar = HintBar()
    bar._actions, bar._typing = actions.hints(at(["new"])), True
    keys = [key for key, _ in bar.shown(200)]
    assert "?" not in keys and "q" not in keys
    assert {"F1", "^q", "esc"} <= set(keys)


def test_the_help_names_every_key_of_every_place() -> None:
    text = "\n".join("".join(piece for piece, _ in line) for line in help_lines(at(["runs"])))
    for action in ACTIONS:
        if action.places & (set(PLACES) - {"help", "confirm"}):
            assert action.help in text
            assert all(key_name(key) in text for key in action.keys)


@pytest.mark.parametrize("run", ["vit-digits-live", None])
async def test_the_palette_offers_the_actions_of_the_screen(runs: Path, run: str | None) -> None:
    from sessions.paths import SessionPaths

    app = NoraApp(runs, SessionPaths(runs / run) if run else None)
    async with app.run_test(size=(120, 40)) as pilot:
        await until_shown(pilot, "vit-digits-live", "62%")
        assert isinstance(app.screen, NoraScreen)
        offered = {command.title: command.help for command in app.get_system_commands(app.screen)}
        expected = [action for action in app.screen.actions() if action.palette]
        assert len(offered) == len(expected) >= 5
        for action in expected:
            words = offered[action.label[0].upper() + action.label[1:]]
            assert words.startswith(action.help) and all(key_name(key) in words for key in action.keys)


async def test_an_action_can_be_called_by_name(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "vit-digits-live")
        await pilot.press("ctrl+p")
        await until_shown(pilot, "Search for commands")
        await pilot.press(*"new")
        await until_shown(pilot, "Start a run (n)")
        await pilot.press("enter")
        await until_shown(pilot, "workload", "overrides")


def test_a_read_only_cockpit_offers_nothing_that_asks_anything_of_a_run() -> None:
    writing = {action.name for action in ACTIONS if action.writes}
    assert writing == {
        *("new", "stop", "decide", "approve", "override", "reject", "always", "send"),
        *("pause", "checkpoint", "set_lr", "roll_back", "mute", "note"),
    }
    assert not writing & {action.name for action in at(PLACES, read_only=True)}


def test_readers_of_the_registry_find_sentences() -> None:
    for action in ACTIONS:
        assert re.fullmatch(r"[A-Z][^.]*", action.help), action
        assert isinstance(action, Action) and action.label
