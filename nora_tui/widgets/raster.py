"""Curves as braille dots: pure functions from numbers to cells.

A cell holds 2 x 4 dots. What is drawn of a curve is, for each column of dots, the lowest and the highest value in it,
joined to its neighbours; so 100 and 1,000,000 points cost about the same, and no spike is lost.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sessions.series import Floats, Ints, thin

DOTS_ACROSS, DOTS_DOWN = 2, 4
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]], dtype=np.uint8)
"""The bit of each dot in a braille character, by row and column."""
Characters = NDArray[np.uint32]
"""Code points, of shape (rows, columns)."""
_COUNT = np.array([number.bit_count() for number in range(256)], dtype=np.uint8)
_THIN = 4
Dots = NDArray[np.int32]
"""Places in columns of dots, counted from the top."""
_FARTHEST = 1e300
"""Values beyond it are drawn there: the height of a frame must be finite."""
_FLAT = 1e-9
"""A range narrower than this share of its values is widened: nothing could be read from it."""


class Line(NamedTuple):
    """What is to be drawn of one curve: finite points of ascending x, thinned, and where values were not finite."""

    x: Floats
    y: Floats
    part: Ints
    """Points of different parts are not joined: a value between them was not finite."""
    gaps: Floats
    """The x of values that were not finite."""
    total: int
    """How many points there are before thinning."""


class Frame(NamedTuple):
    """The part of the plane that is drawn; on a log scale y is the logarithm to base 10."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float


@dataclass(frozen=True)
class Raster:
    """Dots in cells."""

    bits: NDArray[np.uint8]
    """Braille dots, of shape (rows, columns)."""
    owner: Ints
    """Which line a cell shows (the last one drawn there), of shape (rows, columns); -1 where it is empty."""


def line_of(x: Floats, y: Floats, columns: int, *, log: bool = False) -> Line:
    """Return the n points (``x``, ``y``) ready to be drawn over ``columns`` columns of dots.

    On a log scale values that are not positive cannot be drawn; they break the line, but are not marked as gaps.
    """
    x, y = without_repeats(x, y)
    marked = ~np.isfinite(y)
    broken = marked
    if log:
        positive = y > 0
        broken = ~positive | marked
        y = np.log10(y, where=positive, out=np.full_like(y, np.nan))
    chosen = thin(y, columns)
    part = np.cumsum(broken)[chosen] if broken.any() else np.zeros(len(chosen), dtype=np.int64)
    return Line(x[chosen], np.clip(y[chosen], -_FARTHEST, _FARTHEST), part, x[marked], len(y))


def without_repeats(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the points with ascending x; where a resumed run went over steps again, what came later holds."""
    if len(x) < 2 or bool((x[1:] > x[:-1]).all()):
        return x, y
    lowest_later = np.minimum.accumulate(x[::-1])[::-1]
    kept = np.append(x[:-1] < lowest_later[1:], True)
    return x[kept], y[kept]


def frame_of(lines: Sequence[Line], x_low: float, x_high: float) -> Frame | None:
    """Return the frame that holds all lines between two x; None where there is nothing to draw."""
    lows = [float(line.y.min()) for line in lines if len(line.y)]
    highs = [float(line.y.max()) for line in lines if len(line.y)]
    if not lows:
        return None
    low, high = min(lows), max(highs)
    if high - low <= _FLAT * max(abs(low), abs(high)):
        margin = max(abs(low), abs(high)) * 0.1 or 1.0
    else:
        margin = (high - low) * 0.03
    return Frame(x_low, max(x_high, x_low + 1e-9), low - margin, high + margin)


def draw(lines: Sequence[Line], frame: Frame, columns: int, rows: int) -> Raster:
    """Draw the lines over each other, the last on top, in ``columns`` x ``rows`` cells."""
    bits = np.zeros((rows, columns), dtype=np.uint8)
    owner = np.full((rows, columns), -1, dtype=np.int64)
    down = np.arange(rows * DOTS_DOWN, dtype=np.int32)[:, None]
    for number, line in enumerate(lines):
        if not len(line.x):
            continue
        top, bottom = _spans(line, frame, columns * DOTS_ACROSS, rows * DOTS_DOWN)
        drawn = _packed((down >= top) & (down <= bottom))
        # Where two thin lines meet in a cell both stay whole; a thick one under another would only blur it.
        both = _COUNT[bits | drawn] <= _THIN
        bits = np.where((drawn == 0) | both, bits | drawn, drawn)
        owner[drawn > 0] = number
    return Raster(bits, owner)


def _packed(dots: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return dots, of shape (4 rows, 2 columns), as the bits of ``rows`` x ``columns`` cells."""
    cells = dots.view(np.uint8).reshape(len(dots) // DOTS_DOWN, DOTS_DOWN, -1, DOTS_ACROSS)
    bits = np.zeros((cells.shape[0], cells.shape[2]), dtype=np.uint8)
    for down, row in enumerate(_BITS):
        for across, bit in enumerate(row):
            bits |= cells[:, down, :, across] * bit
    return bits


def _spans(line: Line, frame: Frame, across: int, down: int) -> tuple[Dots, Dots]:
    """Return the first and the last dot, from the top, that the line covers in each column of dots.

    Where it covers none the last comes before the first.
    """
    x = (line.x - frame.x_low) / (frame.x_high - frame.x_low) * (across - 1)
    y = np.clip((frame.y_high - line.y) / (frame.y_high - frame.y_low) * (down - 1), -1, down)
    columns = np.arange(across)
    top = np.full(across, np.inf)
    bottom = np.full(across, -np.inf)
    between = _joined(x, line.part, columns)
    height = np.interp(columns[between], x, y)
    top[between] = bottom[between] = height
    _add_points(x, y, top, bottom)
    drawn = (bottom >= 0) & (top < down)
    first = np.where(drawn, np.rint(np.where(drawn, top, 0)), down).astype(np.int32)
    last = np.where(drawn, np.rint(np.where(drawn, bottom, 0)), -1).astype(np.int32)
    _join(first, last, _joined(x, line.part, columns[:-1] + 0.5))
    return first, last


def _add_points(x: Floats, y: Floats, top: Floats, bottom: Floats) -> None:
    column = np.rint(x).astype(np.int64)
    inside = (column >= 0) & (column < len(top))
    column, y = column[inside], y[inside]
    if not len(column):
        return
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    at = column[starts]
    top[at] = np.minimum(top[at], np.minimum.reduceat(y, starts))
    bottom[at] = np.maximum(bottom[at], np.maximum.reduceat(y, starts))


def _joined(x: Floats, part: Ints, places: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each place whether it lies between two points of one part."""
    right = np.searchsorted(x, places)
    inside = (right > 0) & (right < len(x))
    right = np.where(inside, right, 0)
    same: NDArray[np.bool_] = part[right - 1] == part[right]
    return inside & same


def _join(first: Dots, last: Dots, joined: NDArray[np.bool_]) -> None:
    """Lengthen neighbouring spans that do not touch, each to the middle, so that a steep line is not a cloud."""
    drawn = joined & (last[:-1] >= first[:-1]) & (last[1:] >= first[1:])
    falls = drawn & (first[1:] > last[:-1] + 1)
    rises = drawn & (last[1:] < first[:-1] - 1)
    lower = (last[:-1] + first[1:]) // 2
    upper = (first[:-1] + last[1:]) // 2
    left_last = np.where(falls, lower, last[:-1])
    right_first = np.where(falls, lower + 1, first[1:])
    left_first = np.where(rises, upper + 1, first[:-1])
    right_last = np.where(rises, upper, last[1:])
    last[:-1] = np.maximum(last[:-1], left_last)
    last[1:] = np.maximum(last[1:], right_last)
    first[:-1] = np.minimum(first[:-1], left_first)
    first[1:] = np.minimum(first[1:], right_first)


def column_of(x: float, frame: Frame, columns: int) -> int:
    """Return the cell that ``x`` falls in, which may lie outside."""
    return math.floor((x - frame.x_low) / (frame.x_high - frame.x_low) * (columns * DOTS_ACROSS - 1) + 0.5) // 2


def row_of(y: float, frame: Frame, rows: int) -> int:
    return math.floor((frame.y_high - y) / (frame.y_high - frame.y_low) * (rows * DOTS_DOWN - 1) + 0.5) // 4


def characters(bits: NDArray[np.uint8]) -> Characters:
    """Return cells as the code points of braille; an empty cell is a space, which no font fills with rings."""
    return np.where(bits, bits + np.uint32(0x2800), np.uint32(ord(" ")))


def texts(cells: Characters) -> list[str]:
    """Return each row of code points as text."""
    return [row.tobytes().decode("utf-32-le") for row in cells.astype("<u4", copy=False)]


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` round numbers, evenly spaced, between two bounds."""
    span = high - low
    if most < 1 or not span > 0 or not math.isfinite(span):
        return []
    step = 10.0 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10, 20, 50):
        first = math.ceil(low / (step * factor) - 1e-9)
        last = math.floor(high / (step * factor) + 1e-9)
        if last - first + 1 <= most:
            return [number * step * factor for number in range(first, last + 1)]
    return []


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most ``most`` exponents to label between two: whole ones, and within one decade 1, 2 and 5 times it."""
    whole = [float(n) for n in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)]
    if len(whole) > most:
        step = -(-len(whole) // most)
        return whole[::step]
    if len(whole) >= 2:
        return whole
    fine = [n + math.log10(f) for n in range(math.floor(low), math.ceil(high) + 1) for f in (1, 2, 5)]
    inside = [at for at in fine if low <= at <= high]
    return inside[: max(1, most)] if inside else whole
