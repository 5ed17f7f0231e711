"""One of a few words, chosen with the arrows."""

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip

from nora_tui.widgets.toned import Piece, Toned

_LABEL = 11
_GAP = 2


class Choices(Toned, can_focus=True):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "choose(-1)", show=False),
        Binding("right,l,space", "choose(1)", show=False),
    ]

    class Changed(Message):
        """Another word was chosen."""

        def __init__(self, choices: "Choices") -> None:
            super().__init__()
            self.choices = choices

        @property
        def control(self) -> "Choices":
            return self.choices

    def __init__(
        self,
        label: str,
        words: Sequence[str],
        *,
        label_width: int = _LABEL,
        id: str | None = None,  # noqa: A002 - Textual's own name
    ) -> None:
        super().__init__(id=id)
        self._label_width = label_width
        self._label = label
        self._words = words
        self._chosen = 0

    @property
    def value(self) -> str:
        return self._words[self._chosen]

    @property
    def chosen(self) -> int:
        """The place of the chosen word, from 0."""
        return self._chosen

    def offer(self, words: Sequence[str]) -> None:
        """Offer other words, the first of them chosen."""
        self._words, self._chosen = words, 0
        self.refresh()

    def action_choose(self, step: int) -> None:
        self._choose((self._chosen + step) % len(self._words))

    def _choose(self, number: int) -> None:
        if number != self._chosen:
            self._chosen = number
            self.refresh()
            self.post_message(self.Changed(self))

    def on_click(self, event: events.Click) -> None:
        at = event.x - self._label_width
        for number, word in enumerate(self._words):
            if 0 <= at < cell_len(word) + 2:
                self._choose(number)
            at -= cell_len(word) + 2 + _GAP

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if y > 0:
            return self.strip([], width)
        pieces: list[Piece] = [(f"{self._label:<{self._label_width}}", "strong" if self.has_focus else "muted")]
        for number, word in enumerate(self._words):
            chosen = number == self._chosen
            tone = ("accent" if self.has_focus else "strong") if chosen else "muted"
            pieces += [("● " if chosen else "○ ", tone), (word, tone), (" " * _GAP, "plain")]
        return self.strip(pieces, width)
