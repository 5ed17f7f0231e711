"""Lines that scroll: the base of the panes of text."""

from collections.abc import Sequence
from typing import Literal

from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from nora_tui.widgets.toned import Piece, Toned, shown, width_of

Go = Literal["up", "down", "left", "right", "page_up", "page_down", "first", "last"]
_SIDE_STEP = 8


class LinesView(Toned, ScrollView, can_focus=True, inherit_bindings=False):
    """Shows lines of pieces; only those in view are drawn."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._lines: Sequence[list[Piece]] = []

    def show(self, lines: Sequence[list[Piece]]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.virtual_size = Size(max(map(width_of, lines), default=0), len(lines))
            self.refresh()

    def line(self, number: int) -> list[Piece]:
        return self._lines[number]

    def go(self, move: Go) -> None:
        page = max(1, self.size.height - 1)
        x, y = self.scroll_offset
        places: dict[Go, tuple[int, int]] = {
            "up": (x, y - 1),
            "down": (x, y + 1),
            "left": (x - _SIDE_STEP, y),
            "right": (x + _SIDE_STEP, y),
            "page_up": (x, y - page),
            "page_down": (x, y + page),
            "first": (0, 0),
            "last": (0, self.virtual_size.height),
        }
        to_x, to_y = places[move]
        self.scroll_to(to_x, to_y, animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        x, top = self.scroll_offset
        width = self.scrollable_content_region.width
        number = top + y
        if number >= self.virtual_size.height:
            return self.strip([], width)
        segments = [Segment(shown(text), self.tone(tone)) for text, tone in self.line(number)]
        return Strip(segments).crop_extend(x, x + width, self.tone("plain"))
