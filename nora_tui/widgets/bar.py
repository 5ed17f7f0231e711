"""One line with pieces at both its ends."""

from textual.strip import Strip

from nora_tui.widgets.toned import Piece, Toned, spread


class Bar(Toned):
    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._left: list[Piece] = []
        self._right: list[Piece] = []

    def show(self, left: list[Piece], right: list[Piece] | None = None) -> None:
        """Show pieces at the left and at the right; where there is no room for both, the left ones are cut."""
        if (left, right or []) != (self._left, self._right):
            self._left, self._right = left, right or []
            self.refresh()

    @property
    def text(self) -> str:
        """What stands at the left."""
        return "".join(text for text, _ in self._left)

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        return self.strip(spread(self._left, self._right, width) if y == 0 else [], width)
