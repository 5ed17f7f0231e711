"""What commands print: JSON for programs, and text from runs made harmless for terminals."""

import re
import sys
from typing import Any

import msgspec

from nora_tui.console_window import drawn
from sessions.codec import spell

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(value: Any) -> None:
    """Print one JSON document; non-finite floats as the strings that events use."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(spell(value)), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def harmless(text: str) -> str:
    """Return one line as it would stand on a screen, with nothing left that a terminal would obey.

    Colours, cursor moves and overdrawn text go, as in the cockpit; any other control character is shown as its escape.
    """
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", drawn(text.encode()))


def one_line(text: str) -> str:
    """Return harmless text with its line breaks as spaces, so that it cannot pass for lines of our own."""
    return harmless(" ".join(text.splitlines()))
