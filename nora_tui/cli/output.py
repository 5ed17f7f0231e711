"""What commands print: JSON for programs, and text from runs made harmless for terminals."""

import re
import sys
from typing import Any

import msgspec

from sessions.codec import spell

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_json(value: Any) -> None:
    """Print one JSON document; non-finite floats as the strings that events use."""
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(spell(value)), indent=2) + b"\n")
    sys.stdout.buffer.flush()


def harmless(text: str) -> str:
    """Return one line of a log as it would stand on a screen, with nothing left that a terminal would obey.

    Colours are dropped, of a line redrawn by carriage returns the last drawing stays, and every other control character
    is shown as its escape.
    """
    drawn = [part for part in _COLOUR.sub("", text).split("\r") if part]
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", drawn[-1] if drawn else "")
