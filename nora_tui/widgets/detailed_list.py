"""A list with one entry selected, and what there is to know of that one: beside it, or in its place."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich.segment import Segment
from textual import events, on
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.toned import Piece, Toned, cut, shown

BESIDE = 140
"""Cells from which the details stand beside the list."""
_MARK = "▌"


@dataclass(frozen=True)
class Entry:
    """One line; drawn only while it is in view."""

    key: str
    """Tells it from the others; "" is a heading, which is not selected."""
    row: Callable[[int], list[Piece]]
    """The line for a width."""
    details: Callable[[int], list[list[Piece]]] = lambda _: []


class _Rows(Toned, ScrollView, can_focus=False, inherit_bindings=False):
    """The list itself."""

    class Chosen(Message):
        """The person clicked on an entry."""

        def __init__(self, number: int) -> None:
            super().__init__()
            self.number = number

    def __init__(self) -> None:
        super().__init__()
        self.entries: Sequence[Entry] = []
        self.at = -1

    def show(self, entries: Sequence[Entry], at: int) -> None:
        self.entries, self.at = entries, at
        self.virtual_size = Size(self.size.width, len(entries))
        self.into_view()
        self.refresh()

    def into_view(self) -> None:
        height = max(1, self.size.height)
        top = self.scroll_offset.y
        # The heading over the first entry of a group comes into view with it.
        first = self.at - 1 if self.at > 0 and not self.entries[self.at - 1].key else self.at
        wanted = max(0, min(max(top, self.at - height + 1), first))
        if wanted != top:
            self.scroll_to(y=wanted, animate=False, force=True)

    def on_resize(self) -> None:
        self.into_view()

    def on_click(self, event: events.Click) -> None:
        number = event.y + self.scroll_offset.y
        if number < len(self.entries) and self.entries[number].key:
            self.post_message(self.Chosen(number))

    def render_line(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        number = y + self.scroll_offset.y
        if number >= len(self.entries):
            return self.strip([], width)
        selected = number == self.at
        pieces: list[Piece] = [(f"{_MARK if selected else ' '} ", "accent")]
        pieces += cut(self.entries[number].row(width - 3), width - 3)
        segments = [Segment(shown(text), self.tone(tone, selected=selected)) for text, tone in pieces]
        return Strip(segments).adjust_cell_length(width, self.tone("plain", selected=selected))


class _Details(LinesView, can_focus=False):
    """What there is to know of one entry, made for the width that it has."""

    class Resized(Message):
        """It has another width."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())


class DetailedList(Widget, can_focus=True):
    """Shows entries; the details of the selected one stand beside them where there is room, else in their place."""

    class Moved(Message):
        """Another entry is selected, or details were opened or closed."""

    def __init__(self, *, empty: str, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._rows = _Rows()
        self._details = _Details()
        self._empty = empty
        self._alone = False
        self._follows = False

    def compose(self) -> Iterable[Widget]:
        yield self._rows
        yield self._details

    def show(self, entries: Sequence[Entry], *, follow: bool = False) -> None:
        """Show entries; the selection stays on its entry, or with ``follow`` at the end as long as it is there."""
        before = self.selected
        if not any(entry.key for entry in entries):
            entries = [Entry("", lambda _: [(self._empty, "muted")])]
        keys = [entry.key for entry in entries]
        if (before is None or self._follows) and follow:
            at = _last(keys)
        elif before is not None and before.key in keys:
            at = keys.index(before.key)
        else:
            at = next((number for number, key in enumerate(keys) if key), -1)
        self._follows = follow and at == _last(keys)
        self._rows.show(entries, at)
        self._show_details()

    @property
    def selected(self) -> Entry | None:
        rows = self._rows
        found = rows.entries[rows.at] if 0 <= rows.at < len(rows.entries) else None
        return found if found and found.key else None

    @property
    def alone(self) -> bool:
        """Whether only the details are shown."""
        return self._alone

    def toggle_details(self) -> None:
        """Show the details alone, or the list again."""
        self._alone = not self._alone and self.selected is not None
        self._lay_out()
        self._details.go("first")
        self.post_message(self.Moved())

    def select(self, key: str) -> None:
        """Select an entry by its key, where there is one."""
        number = next((number for number, entry in enumerate(self._rows.entries) if entry.key == key), None)
        if key and number is not None:
            self._select(number)

    def go(self, move: Go) -> None:
        if self._alone:
            self._details.go(move)
            return
        choices = [number for number, entry in enumerate(self._rows.entries) if entry.key]
        if not choices:
            return
        page = max(1, self._rows.size.height - 1)
        steps = {"up": -1, "down": 1, "page_up": -page, "page_down": page, "first": -len(choices), "last": len(choices)}
        place = choices.index(self._rows.at) + steps.get(move, 0)
        self._select(choices[max(0, min(place, len(choices) - 1))])

    def _select(self, number: int) -> None:
        self._follows = number == _last([entry.key for entry in self._rows.entries])
        self._rows.show(self._rows.entries, number)
        self._show_details()
        self._details.go("first")
        self.post_message(self.Moved())

    @on(_Rows.Chosen)
    def _chosen(self, message: _Rows.Chosen) -> None:
        message.stop()
        again = message.number == self._rows.at
        self.focus()
        self._select(message.number)
        if again:
            self.toggle_details()

    def on_resize(self) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        beside = self.size.width >= BESIDE
        self._rows.display = not self._alone
        self._details.display = self._alone or beside
        self._details.set_class(not self._alone, "-beside")
        self._show_details()

    @on(_Details.Resized)
    def _show_details(self) -> None:
        if self._details.display:
            width = self._details.scrollable_content_region.width
            self._details.show(self.selected.details(width) if self.selected and width else [])


def _last(keys: Sequence[str]) -> int:
    return max((number for number, key in enumerate(keys) if key), default=-1)
