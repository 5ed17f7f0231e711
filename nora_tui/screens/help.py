"""Every key, made from the registry: those of the screen one comes from first."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from nora_tui.actions import ACTIONS, PLACES, Action, Place, bindings, key_name
from nora_tui.screens.base import NoraScreen
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.toned import Piece

_KEYS = 14


class HelpScreen(NoraScreen):
    PLACES: ClassVar[tuple[Place, ...]] = ("help",)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("help")]

    def __init__(self, here: Sequence[Action]) -> None:
        super().__init__()
        self._here = here

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield LinesView(id="keys")

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#title", Bar).show([("help", "strong")], [("keys can also be found by name with ^p", "muted")])
        keys = self.query_one(LinesView)
        keys.show(help_lines(self._here))
        keys.focus()

    def go(self, move: Go) -> None:
        self.query_one(LinesView).go(move)

    def action_help(self) -> None:
        self.action_back()


def help_lines(here: Sequence[Action]) -> list[list[Piece]]:
    """Return what can be done here, then what can be done elsewhere, place by place."""
    lines: list[list[Piece]] = [[("Here", "strong")], *map(_line, here)]
    for place, heading in PLACES.items():
        if place in ("help", "confirm"):
            continue
        there = [action for action in ACTIONS if place in action.places and action not in here]
        if there:
            lines += [[], [(heading, "strong")], *map(_line, there)]
    return lines


def _line(action: Action) -> list[Piece]:
    keys = "  ".join(map(key_name, action.keys))
    return [(f"  {keys:<{_KEYS}}", "accent"), (action.help, "plain")]
