"""What a run printed: the newest lines, or wherever the person scrolled to."""

from bisect import bisect_left
from typing import Literal

from textual.geometry import Size
from textual.message import Message

from nora_tui.console_window import Line
from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.toned import Piece

_NEAR = 200
"""Lines from either end of what is held at which more is asked for."""
_WIDEST = 1000
"""Cells that can be scrolled to sideways."""


class Console(LinesView):
    """Shows the lines that it is given; what is missing at an end it asks for."""

    class Wanted(Message):
        """The person goes where no lines are held yet."""

        def __init__(self, where: Literal["older", "newer", "start", "end"]) -> None:
            super().__init__()
            self.where = where

    class FollowChanged(Message):
        """Following was taken up or let go."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self.following = True
        self._held: list[Line] = []
        self._at_start = self._at_end = True
        self._asked = False
        self._jumps = False

    def show_lines(self, lines: list[Line], *, at_start: bool, at_end: bool) -> None:
        """Show lines; the line at the top of the view stays there, unless the view follows the newest one."""
        top = self.scroll_offset.y
        anchor = self._held[top].offset if top < len(self._held) else 0
        self._held, self._at_start, self._at_end, self._asked = lines, at_start, at_end, False
        self.virtual_size = Size(_WIDEST, max(1, len(lines)))
        kept = 0 if self._jumps else bisect_left(lines, anchor, key=lambda line: line.offset)
        self.scroll_to(y=len(lines) if self.following else kept, animate=False, force=True)
        self._jumps = False
        self.refresh()

    def on_resize(self) -> None:
        if self.following:
            self.scroll_to(y=len(self._held), animate=False, force=True)

    def line(self, number: int) -> list[Piece]:
        if not self._held:
            return [("nothing printed", "muted")]
        return [(self._held[number].text, "plain")]

    def go(self, move: Go) -> None:
        if move == "last":
            self._follow(True)
            if not self._at_end:
                self._want("end")
        elif move == "first":
            self._follow(False)
            if not self._at_start:
                self._jumps = True
                self._want("start")
        elif move in ("up", "page_up"):
            self._follow(False)
        super().go(move)
        self._reach()

    def toggle_follow(self) -> None:
        if self.following:
            self._follow(False)
        else:
            self.go("last")

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if new_value < old_value and new_value < self.max_scroll_y:
            self._follow(False)  # the wheel and the scrollbar let go as well
        self._reach()

    def _follow(self, following: bool) -> None:
        if following != self.following:
            self.following = following
            self.post_message(self.FollowChanged())

    def _reach(self) -> None:
        """Ask for more where the view comes near an end of what is held."""
        if self.following or self._asked:
            return
        if self.scroll_offset.y < _NEAR and not self._at_start:
            self._want("older")
        elif self.scroll_offset.y > self.max_scroll_y - _NEAR and not self._at_end:
            self._want("newer")

    def _want(self, where: Literal["older", "newer", "start", "end"]) -> None:
        self._asked = True
        self.post_message(self.Wanted(where))
