"""The footer: what can be done here and with which key, made from the registry."""

from collections.abc import Sequence

from textual.strip import Strip

from nora_tui.actions import Action, key_name
from nora_tui.widgets.toned import Piece, Toned, width_of

_GAP = "   "


class HintBar(Toned):
    """Shows as many hints as there is room for; the lowest ranks go first, so that help is the last to go."""

    def __init__(self) -> None:
        super().__init__()
        self._actions: list[Action] = []
        self._typing = False

    def show(self, actions: Sequence[Action], *, typing: bool) -> None:
        """Show actions; while a person is typing, only keys that a text field leaves alone."""
        self._actions, self._typing = list(actions), typing
        self.refresh()

    def shown(self, width: int) -> list[tuple[str, str]]:
        """Return (key, label) of the hints that fit in ``width`` cells."""
        hints = [(usable_key(action, typing=self._typing), action) for action in self._actions]
        left = [(key, action) for key, action in hints if key is not None]
        while left and width_of(_pieces(left)) > width:
            left.remove(min(left, key=lambda hint: hint[1].rank))
        return [(key_name(key), action.label) for key, action in left]

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        pieces: list[Piece] = []
        for key, label in self.shown(width):
            pieces += [(_GAP if pieces else "", "plain"), (key, "accent"), (f" {label}", "muted")]
        return self.strip(pieces if y == 0 else [], width)


def _pieces(hints: list[tuple[str, Action]]) -> list[Piece]:
    return [(f"{key_name(key)} {action.label}{_GAP}", "plain") for key, action in hints]


def usable_key(action: Action, *, typing: bool) -> str | None:
    """Return the first key of an action that works here: in a text field, a character is text."""
    if not typing:
        return action.keys[0]
    return next((key for key in action.keys if "+" in key or key in _BESIDE_TEXT), None)


_BESIDE_TEXT = frozenset({"enter", "escape", "tab", "up", "down", "f1"})
