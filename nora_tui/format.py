"""Numbers, times and states as people read them; the command line and the cockpit use the same words."""

import math
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from nora_tui import clock
from sessions.events import Severity
from sessions.state import Status

if TYPE_CHECKING:
    from rich.text import Text

Tone = Literal["plain", "strong", "muted", "faint", "accent", "good", "busy", "warn", "bad"]
"""What a piece of text is, for a theme to colour."""


class Look(NamedTuple):
    """How a status, a severity or a standing is shown: a shape and a word say it, the tone only helps."""

    glyph: str
    word: str
    tone: Tone


STATUS: dict[Status, Look] = {
    "starting": Look("◌", "starting", "muted"),
    "running": Look("●", "running", "busy"),
    "stopping": Look("◐", "stopping", "busy"),
    "completed": Look("✓", "completed", "good"),
    "stopped": Look("■", "stopped", "muted"),
    "failed": Look("✗", "failed", "bad"),
    "crashed": Look("✗", "crashed", "bad"),
    "lost": Look("?", "lost", "warn"),
}
PAUSED = Look("‖", "paused", "busy")
"""A run that a person told to pause."""
SEVERITY: dict[Severity, Look] = {
    "critical": Look("▲", "critical", "bad"),
    "major": Look("△", "major", "warn"),
    "minor": Look("◇", "minor", "plain"),
    "info": Look("·", "info", "muted"),
}
"""The gravest first."""
NormStanding = Literal["kept", "broken", "cured", "muted", "not judged"]
STANDING: dict[NormStanding, Look] = {
    "kept": Look("✓", "kept", "muted"),
    "broken": Look("✗", "broken", "bad"),
    "cured": Look("↺", "cured", "good"),
    "muted": Look("⊘", "muted", "muted"),
    "not judged": Look("·", "not judged", "faint"),
}
_ANSI: dict[Tone, str] = {"muted": "dim", "busy": "cyan", "good": "green", "warn": "yellow", "bad": "red"}

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def status_text(status: Status) -> "Text":
    """Return a status for a plain terminal: shape, word and one of its own colours."""
    from rich.text import Text

    look = STATUS[status]
    return Text(f"{look.glyph} {look.word}", style=_ANSI.get(look.tone, ""))


def duration(seconds: float) -> str:
    """Return a time span in its two largest units: 0.4s, 8s, 1m 23s, 2h 05m, 3d 04h; "?" where it is unknown (NaN)."""
    if not math.isfinite(seconds):
        return "?" if math.isnan(seconds) else "∞"
    if 0 < seconds < 1:
        return f"{max(seconds, 0.1):.1f}s"
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m {whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR:02}h"


def age(moment: datetime) -> str:
    """Return how long ago a moment was, in one unit: 8s, 5m, 3h, 2d."""
    seconds = max(0.0, (clock.now() - moment).total_seconds())
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit:
            return f"{int(seconds // unit)}{name}"
    return f"{int(seconds)}s"


def ago(moment: datetime) -> str:
    """Return how long ago a moment was: 8s ago, 5m ago, 3h ago, 2d ago."""
    return f"{age(moment)} ago"


def count(number: float) -> str:
    """Return a whole number with its thousands set apart: 1,234,567."""
    return f"{number:,.0f}"


def plural(number: int, thing: str) -> str:
    """Return a number of things: 1 run, 1,200 runs."""
    return f"{count(number)} {thing}" + ("" if number == 1 else "s")


def short_count(number: float) -> str:
    """Return a number in at most five characters: 950, 1.2k, 45k, 1.2M."""
    for unit, name in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= 0.9995 * unit:
            scaled = number / unit
            return f"{scaled:.0f}{name}" if abs(scaled) >= 99.5 else f"{scaled:.1f}".removesuffix(".0") + name
    return f"{number:.0f}"


def size(bytes_: float) -> str:
    """Return a number of bytes: 512 B, 64.5 MB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if bytes_ >= unit:
            return f"{bytes_ / unit:.1f} {name}"
    return f"{bytes_:.0f} B"


def value(number: float) -> str:
    """Return a metric's value in about four significant digits: 0.9562, 12.35, 1.2e-5, nan, inf."""
    if not math.isfinite(number):
        return str(float(number))
    if number == 0:
        return "0"
    if 1e-3 <= abs(number) < 1e5:
        digits = max(0, 3 - math.floor(math.log10(abs(number))))
        return f"{number:.{min(digits, 4)}f}"
    mantissa, _, exponent = f"{number:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
