"""What all screens share: bindings and hints from the registry, and a sentence where the window is too small."""

from abc import abstractmethod
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from textual import events
from textual.app import ComposeResult, SystemCommand
from textual.screen import Screen
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input

from nora_tui.actions import ACTIONS, Action, Place, at, hints, key_name
from nora_tui.widgets.hint_bar import HintBar
from nora_tui.widgets.lines_view import Go
from nora_tui.widgets.toned import Toned, wrapped

if TYPE_CHECKING:
    from nora_tui.app import NoraApp

LEAST_SIZE = 60, 16
TALL = 30
"""Lines from which there is room for empty ones."""


class TooSmall(Toned):
    """Says so where the window is too small to show anything else."""

    def render_line(self, y: int) -> Strip:
        width, height = self.size
        text = f"NORA needs {LEAST_SIZE[0]} x {LEAST_SIZE[1]} cells; this window has {width} x {height}."
        lines = [*wrapped(text, width), "Runs go on."]
        top = max(0, (height - len(lines)) // 2)
        line = lines[y - top] if 0 <= y - top < len(lines) else ""
        return self.strip([(line.center(width), "muted")], width)


class NoraScreen(Screen[None], inherit_bindings=False):
    """A screen of the cockpit. What can be done on it is what the registry has at its places."""

    PLACES: ClassVar[tuple[Place, ...]]
    """All places that this screen can hold; a subclass makes its BINDINGS of them."""
    AUTO_FOCUS = None

    if TYPE_CHECKING:

        @property
        def app(self) -> NoraApp: ...  # type: ignore[override]

    def compose(self) -> ComposeResult:
        yield from self.content()
        yield HintBar()
        yield TooSmall()

    @abstractmethod
    def content(self) -> Iterable[Widget]:
        """Return what stands above the footer."""

    def places(self) -> frozenset[Place]:
        """Return the places that are in front now."""
        return frozenset(self.PLACES)

    def actions(self) -> list[Action]:
        """Return what can be done now."""
        return at(self.places(), read_only=self.app.read_only)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if any(known.name == action for known in ACTIONS):
            return any(known.name == action for known in self.actions())
        return super().check_action(action, parameters)

    def commands(self) -> Iterable[SystemCommand]:
        """Return what the command palette offers here."""
        for action in self.actions():
            if action.palette:
                keys = ", ".join(map(key_name, action.keys))
                title = action.label[0].upper() + action.label[1:]
                run = partial(self.app.run_action, action.name, self)
                yield SystemCommand(title, f"{action.help} ({keys})", run)

    def refresh_hints(self) -> None:
        """Have the footer say what can be done now."""
        self.query_one(HintBar).show(hints(self.actions()), typing=isinstance(self.focused, Input))

    # --- what Textual says ---

    def on_mount(self) -> None:
        self.refresh_hints()

    def on_screen_resume(self) -> None:
        self.refresh_hints()

    def on_descendant_focus(self) -> None:
        self.refresh_hints()

    def on_descendant_blur(self) -> None:
        self.refresh_hints()

    def on_resize(self, event: events.Resize) -> None:
        width, height = event.size
        self.set_class(width < LEAST_SIZE[0] or height < LEAST_SIZE[1], "-small")
        self.set_class(height >= TALL, "-tall")

    # --- actions that every screen has ---

    def action_quit(self) -> None:
        self.app.exit()

    def action_palette(self) -> None:
        self.app.action_command_palette()

    def action_help(self) -> None:
        from nora_tui.screens.help import HelpScreen

        self.app.push_screen(HelpScreen(self.actions()))

    def action_back(self) -> None:
        self.app.pop_screen()

    # --- moving ---

    def go(self, move: Go) -> None:
        """Move the selection, or what is in view."""
        raise AssertionError(f"{type(self).__name__} binds {move!r} and does not move")

    def action_up(self) -> None:
        self.go("up")

    def action_down(self) -> None:
        self.go("down")

    def action_left(self) -> None:
        self.go("left")

    def action_right(self) -> None:
        self.go("right")

    def action_page_up(self) -> None:
        self.go("page_up")

    def action_page_down(self) -> None:
        self.go("page_down")

    def action_first(self) -> None:
        self.go("first")

    def action_last(self) -> None:
        self.go("last")
