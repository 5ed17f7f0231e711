"""The base of all that the cockpit draws itself: lines of toned text, in the colours of the theme."""

from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip
from textual.widget import Widget

from nora_tui.theme import SELECTED, TONES

Piece = tuple[str, str]
"""A text and its tone (see nora_tui/theme.py)."""


class Toned(Widget):
    """A widget that is drawn line by line from toned pieces.

    Text from runs is data: what a terminal could obey is shown as a picture of itself, and markup as it stands. Tones
    are looked up here and not as Textual's component classes, of which every widget has to restyle its own at every
    change of focus: with them the first paint took twice as long.
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        self._tones: dict[tuple[str, bool], Style] = {}
        super().__init__(id=id)

    def notify_style_update(self) -> None:
        self._tones = {}
        super().notify_style_update()

    def tone(self, name: str, *, selected: bool = False) -> Style:
        """Return how a tone looks, on the ground of a selected line where it is one."""
        kept = self._tones.get((name, selected))
        if kept is not None:
            return kept
        look, variables = TONES[name], self.app.theme_variables
        ground = Color.parse(variables[SELECTED]).rich_color if selected else self.rich_style.bgcolor
        if self.app.no_color:
            style = Style.parse(look.without_colour) + Style(bgcolor=ground, reverse=selected)
        else:
            colour = Color.parse(variables[look.variable]).rich_color
            style = Style(color=colour, bgcolor=ground, bold=look.bold)
        self._tones[name, selected] = style
        return style

    def strip(self, pieces: Iterable[Piece], width: int, *, selected: bool = False) -> Strip:
        """Return pieces as one line of exactly ``width`` cells."""
        segments = [Segment(shown(text), self.tone(tone, selected=selected)) for text, tone in pieces if text]
        return Strip(segments).adjust_cell_length(width, self.tone("plain", selected=selected))


def shown(text: str) -> str:
    """Return text with nothing in it that a terminal would obey: a control character becomes its picture."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    if character.isspace() and ord(character) > 0x1F:
        return " "
    code = ord(character)
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "�"


def width_of(pieces: Iterable[Piece]) -> int:
    """Return how many cells pieces take."""
    return sum(cell_len(shown(text)) for text, _ in pieces)


def fit(text: str, width: int) -> str:
    """Return text in exactly ``width`` cells, cut with an ellipsis where it is longer."""
    text = shown(text)
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…" if width > 0 else ""


def fit_middle(text: str, width: int) -> str:
    """Return text in at most ``width`` cells, cut in its middle: names that differ mostly do so at their ends."""
    text = shown(text)
    if cell_len(text) <= width:
        return text
    end = (width - 1) // 2
    return set_cell_size(text, width - 1 - end) + "…" + text[len(text) - end :]


def spread(left: list[Piece], right: list[Piece], width: int) -> list[Piece]:
    """Return pieces at both ends of a line; where there is no room for both, the left ones are cut."""
    if not right:
        return cut(left, width)
    room = width - width_of(right)
    if width_of(left) < room:
        return [*left, (" " * (room - width_of(left)), "plain"), *right]
    return [*cut(left, max(0, room - 1)), (" ", "plain"), *right]


def cut(pieces: list[Piece], width: int) -> list[Piece]:
    """Return the pieces that fit in ``width`` cells, the last of them cut."""
    kept: list[Piece] = []
    for text, tone in pieces:
        needed = cell_len(shown(text))
        if needed > width:
            kept.append((fit(text, width), tone))
            break
        kept.append((text, tone))
        width -= needed
    return kept


def wrapped(text: str, width: int) -> list[str]:
    """Return text in lines of at most ``width`` cells, broken between words; a longer word stands alone."""
    lines = [""]
    for word in text.split():
        if lines[-1] and cell_len(lines[-1]) + 1 + cell_len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
