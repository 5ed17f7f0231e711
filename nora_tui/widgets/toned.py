"""The base of all that the cockpit draws itself: lines of toned text, in colours that live in the style sheet alone."""

from collections.abc import Iterable
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

TONES = ("plain", "strong", "muted", "faint", "accent", "good", "busy", "warn", "bad", "train", "val", "test", "other")
"""Every tone that text can have; nora.tcss says how each looks."""

Piece = tuple[str, str]
"""A text and its tone."""


class Toned(Widget):
    """A widget that is drawn line by line from toned pieces.

    Text from runs is data: what a terminal could obey is shown as a picture of itself, and markup as it stands.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"tone--{tone}" for tone in TONES} | {"tone--selected"}

    def tone(self, name: str, *, selected: bool = False) -> Style:
        """Return how a tone looks, on the ground of a selected line where it is one."""
        style = self.get_component_rich_style(f"tone--{name}")
        if selected:
            style += self.get_component_rich_style("tone--selected", partial=True)
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
