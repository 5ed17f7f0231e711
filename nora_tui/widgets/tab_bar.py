"""The names of panes on one line, the one in front marked."""

from rich.cells import cell_len
from textual import events
from textual.message import Message
from textual.strip import Strip

from nora_tui.widgets.toned import Piece, Toned, spread, width_of

_GAP = 3


class TabBar(Toned):
    class Chosen(Message):
        """The person clicked on a tab."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    def __init__(self, tabs: list[tuple[str, str]]) -> None:
        super().__init__()
        self._tabs = tabs
        self._front = tabs[0][0]
        self._right: list[list[Piece]] = []

    def show(self, front: str, right: list[list[Piece]]) -> None:
        """Mark a tab as the one in front; groups stand at the end of the line, the first of them go first."""
        if (front, right) != (self._front, self._right):
            self._front, self._right = front, right
            self.refresh()

    def on_click(self, event: events.Click) -> None:
        at = event.x
        for name, label in self._tabs:
            at -= cell_len(label) + 2 + _GAP
            if at < 0:
                self.post_message(self.Chosen(name))
                return

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y > 0:
            return self.strip([], width)
        left: list[Piece] = []
        for number, (name, label) in enumerate(self._tabs, 1):
            front = name == self._front
            left += [(" " * _GAP, "plain")] if left else []
            left += [(f"{number} ", "accent" if front else "faint"), (label, "strong" if front else "muted")]
        right: list[Piece] = []
        for group in reversed(self._right):
            if width_of([*left, *group, *right]) + 2 > width:
                break
            right = [*group, ("  ", "plain"), *right] if right else group
        return self.strip(spread(left, right, width), width)
