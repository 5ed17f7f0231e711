import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora_tui.widgets import raster
from nora_tui.widgets.raster import Frame, Line, characters, draw, frame_of, line_of, log_ticks, texts, ticks
from sessions.series import Floats

COLUMNS, ROWS = 20, 5


def array(*values: float) -> Floats:
    return np.array(values, dtype=np.float64)


def picture(*lines: Line, frame: Frame | None = None) -> list[str]:
    frame = frame or frame_of(lines, 0, max(float(line.x.max()) for line in lines))
    assert frame is not None
    return [row.rstrip() for row in texts(characters(draw(lines, frame, COLUMNS, ROWS).bits))]


def dots(text: list[str]) -> int:
    return sum((ord(cell) - 0x2800).bit_count() for row in text for cell in row if cell != " ")


def test_a_level_line_is_one_row_of_dots() -> None:
    drawn = picture(line_of(array(0, 10), array(1, 1), 40), frame=Frame(0, 10, 0, 2))
    assert [row for row in drawn if row] == ["⠒" * COLUMNS] or dots(drawn) == 2 * COLUMNS
    assert dots(drawn) == 2 * COLUMNS


def test_a_rising_line_joins_the_corners() -> None:
    drawn = picture(line_of(array(0, 1), array(0, 1), 40), frame=Frame(0, 1, 0, 1))
    assert drawn[0][-1] in "⠈⠉⠊⠑⠘⠃⠋" and drawn[-1][0] in "⡀⣀⠤⡠⠔"
    assert not drawn[0][:-4].strip() and not drawn[-1][4:].strip()


def test_a_steep_line_has_no_holes() -> None:
    drawn = draw([line_of(array(0, 5, 5.01, 10), array(0, 0, 1, 1), 40)], Frame(0, 10, 0, 1), COLUMNS, ROWS)
    touched = {row for row in range(ROWS) if drawn.bits[row].any()}
    assert touched == set(range(ROWS))


def test_a_spike_among_many_points_is_drawn() -> None:
    values = np.zeros(100_000)
    values[54_321] = 1.0
    drawn = picture(line_of(np.arange(100_000.0), values, 2 * COLUMNS), frame=Frame(0, 100_000, 0, 1))
    assert drawn[0].strip()


def test_a_value_that_is_not_finite_breaks_the_line_and_is_known() -> None:
    line = line_of(array(0, 1, 2, 3, 4, 5, 6), array(1, 1, math.nan, math.inf, 1, 1, 1), 40)
    assert line.gaps.tolist() == [2, 3]
    drawn = picture(line, frame=Frame(0, 6, 0, 2))
    row = next(row for row in drawn if row)
    assert " " in row.strip()


def test_nothing_but_nan_has_no_frame() -> None:
    assert frame_of([line_of(array(1, 2), array(math.nan, math.nan), 40)], 0, 2) is None
    assert frame_of([], 0, 1) is None


def test_on_a_log_scale_what_is_not_positive_is_left_out() -> None:
    line = line_of(array(1, 2, 3, 4), array(0, 10, 100, -5), 40, log=True)
    assert line.y.tolist() == [1, 2]
    assert line.gaps.tolist() == []


def test_of_steps_that_a_resumed_run_repeats_the_later_ones_hold() -> None:
    x, y = raster.without_repeats(array(1, 2, 3, 4, 3, 4, 5), array(0, 0, 9, 9, 1, 1, 1))
    assert x.tolist() == [1, 2, 3, 4, 5]
    assert y.tolist() == [0, 0, 1, 1, 1]


def test_where_thin_lines_meet_both_stay_and_a_thick_one_makes_room() -> None:
    frame = Frame(0, 10, 0, 1)
    flat = line_of(array(0, 10), array(0.5, 0.5), 40)
    noisy = line_of(np.linspace(0, 10, 2000), np.tile([0.0, 1.0], 1000), 40)
    over = draw([noisy, flat], frame, COLUMNS, ROWS)
    alone = draw([flat], frame, COLUMNS, ROWS)
    shown = over.owner == 1
    assert shown.sum() == COLUMNS
    assert (over.bits[shown] == alone.bits[shown]).all()
    near = line_of(array(0, 10), array(0.5, 0.52), 40)
    both = draw([near, flat], frame, COLUMNS, ROWS)
    assert ((both.bits & alone.bits) == alone.bits).all()


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0, 10, 3, [0, 5, 10]),
        (0.93, 0.9512, 4, [0.93, 0.935, 0.94, 0.945, 0.95]),
        (-1, 1, 3, [-1, 0, 1]),
        (1, 1260, 3, [500, 1000]),
        (5, 5, 3, []),
        (0, math.inf, 3, []),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, expected: list[float]) -> None:
    found = ticks(low, high, most)
    if len(expected) <= most:
        assert found == pytest.approx(expected)
    assert len(found) <= most


@given(
    st.floats(-1e12, 1e12),
    st.floats(1e-9, 1e12),
    st.integers(1, 12),
)
def test_ticks_lie_between_their_bounds_and_are_not_too_many(low: float, span: float, most: int) -> None:
    high = low + span
    found = ticks(low, high, most)
    assert len(found) <= most
    assert all(low - span * 1e-6 <= tick <= high + span * 1e-6 for tick in found)
    assert found == sorted(found)


def test_log_ticks_are_powers_of_ten_or_parts_of_one() -> None:
    assert log_ticks(-3.2, 1.1, 10) == [-3, -2, -1, 0, 1]
    assert len(log_ticks(-12, 12, 4)) <= 7
    assert log_ticks(0.1, 0.9, 5) == pytest.approx([math.log10(2), math.log10(5)])


VALUES = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(VALUES, min_size=1, max_size=300), st.booleans(), st.integers(1, 60), st.integers(1, 12))
def test_whatever_the_values_something_sensible_is_drawn(
    values: list[float], log: bool, columns: int, rows: int
) -> None:
    x = np.arange(1.0, len(values) + 1)
    line = line_of(x, np.array(values), 2 * columns, log=log)
    frame = frame_of([line], 0, len(values))
    drawable = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if frame is None:
        assert not drawable
        return
    drawn = draw([line], frame, columns, rows)
    assert drawn.bits.any()
    assert ((drawn.owner == 0) == (drawn.bits > 0)).all()
    assert len(texts(characters(drawn.bits))) == rows


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=50))
def test_a_line_reaches_its_highest_and_lowest_value(values: list[float]) -> None:
    line = line_of(np.arange(float(len(values))), np.array(values), 40)
    frame = frame_of([line], 0, len(values) - 1)
    assert frame is not None
    drawn = draw([line], frame, COLUMNS, ROWS).bits
    for value in (min(values), max(values)):
        assert drawn[raster.row_of(value, frame, ROWS)].any()
