"""What a detector answers, and the registry of detectors.

A detector is a pure function of a signal, the limits of the regime and the rolling statistics. It answers None where
what it needs was not seen, a number where the norm is kept (its live value), and a Finding where it is broken.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from msgspec import Struct

from norms.signals import AnySignal, Signal
from norms.windows import Windows
from sessions.events import Json, Severity

Limits = Mapping[str, float]
SHOWN_NAMES = 20
"""Names in a violation's evidence; how many there are is told beside them."""


class Finding(Struct, frozen=True, kw_only=True):
    """A norm is broken."""

    value: float
    """The live value that breaks it."""
    message: str
    """One sentence with the numbers."""
    evidence: Json
    at_most: Severity = "critical"
    """Caps the severity where this kind of break is lighter than the norm's gravest."""


Answer = Finding | float | None
Detect = Callable[[Any, Limits, Windows], Answer]


class Detector(NamedTuple):
    norm: str
    signal: type[AnySignal]
    detect: Detect
    aspect: str
    """Tells apart what one norm looks at: each aspect is broken and cured by itself."""
    limit: str | None
    """The limit that stands beside its live value: "" is the norm's first, None says that none may be found."""


REGISTRY: list[Detector] = []
"""Filled by the modules of norms.detectors as they are imported."""


def detects(
    norm: str, *signals: type[AnySignal], aspect: str = "", limit: str | None = ""
) -> Callable[[Detect], Detect]:
    """Register a function as the detector of a norm, or of one aspect of it, for these kinds of signals."""

    def register(detect: Detect) -> Detect:
        REGISTRY.extend(Detector(norm, signal, detect, aspect, limit) for signal in signals)
        return detect

    return register


def moment_of(signal: type[Signal]) -> str:
    """Return the name of a kind of signal, as the catalogue's ``judged`` has it."""
    tag = signal.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return names for a sentence: "a, b, c and 4 more"."""
    if len(names) <= most + 1:  # "and 1 more" is no shorter than the one
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def counted(count: int, noun: str) -> str:
    """Return "1 step", "3 steps"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def evidence_of(key: str, names: Sequence[str], most: int | None = SHOWN_NAMES) -> Json:
    """Return names as evidence, the first of them or, where a remedy needs them, all; and how many there are."""
    return {key: list(names[:most]), "count": len(names)}


def number(value: float) -> str:
    """Return a number in four significant digits: 0.9562, 12.35, 1.2e-05, nan."""
    return f"{value:.4g}" if math.isfinite(value) else str(value)


def percent(share: float) -> str:
    """Return a share as a percentage in three significant digits: 0.0664%, 12.5%."""
    return f"{100 * share:.3g}%"
