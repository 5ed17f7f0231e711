"""Rolling statistics: what a window says, what it lets in, and what it forgets."""

import math
import statistics

import pytest

from norms.signals import Step
from norms.windows import NEEDED, WINDOW, Memory, Streaks, Track, Windows
from tests.norms.cases.building import noisy


def fed(values: list[float], start: int = 1) -> Track:
    track = Track()
    for step, value in enumerate(values, start):
        track.take(step, value)
    return track


def test_the_newest_value_is_judged_by_the_logarithms_of_those_before_it() -> None:
    values = [noisy(i) for i in range(300)]
    track = fed(values)
    before = [math.log(value) for value in values[-1 - WINDOW : -1]]
    assert track.sigmas == pytest.approx((math.log(values[-1]) - statistics.mean(before)) / statistics.stdev(before))
    assert track.typical == pytest.approx(statistics.geometric_mean(values[-1 - WINDOW : -1]))
    assert track.highest == pytest.approx(max(values[-1 - WINDOW : -1]))


def test_a_short_window_says_nothing() -> None:
    assert fed([noisy(i) for i in range(NEEDED)]).sigmas is None
    assert fed([noisy(i) for i in range(NEEDED + 1)]).sigmas is not None


def test_one_spike_hardly_moves_the_window_and_a_new_level_does() -> None:
    track = fed([noisy(i) for i in range(200)])
    track.take(201, 1000.0)
    assert track.sigmas is not None and track.sigmas > 30
    track.take(202, noisy(202))
    assert track.typical < 1.05
    for step in range(203, 330):
        track.take(step, noisy(step, level=1000.0))
    assert track.sigmas is not None and track.sigmas < 5


def test_non_finite_values_are_passed_over() -> None:
    values = [noisy(i) for i in range(100)]
    clean, dirty = fed(values), fed(values)
    for value in (math.nan, math.inf, None):
        dirty.take(101, value)
        assert dirty.sigmas is None and dirty.value is None
    for track in (clean, dirty):
        track.take(102, 2.0)
    assert clean.sigmas == dirty.sigmas


def test_a_series_that_reaches_zero_is_taken_as_it_is() -> None:
    values = [math.sin(i) for i in range(200)]
    track = fed([2.0, 3.0, *values])
    before = values[-1 - WINDOW : -1]
    assert not track.positive
    assert track.sigmas == pytest.approx((values[-1] - statistics.mean(before)) / statistics.stdev(before))


def test_a_constant_series_has_no_spread() -> None:
    assert fed([0.5] * 100).sigmas == 0
    assert fed([0.5] * 100 + [0.6]).sigmas == math.inf


def test_rounding_does_not_add_up() -> None:
    values = [noisy(i, level=10.0 ** (i % 7)) for i in range(20_000)]
    once = Track()
    for step, value in enumerate(values, 1):
        once.take(step, value)
    assert once.typical == pytest.approx(statistics.geometric_mean(values[-1 - WINDOW : -1]), rel=1e-9)


def test_rewinding_forgets_later_steps_and_nothing_else() -> None:
    values = [noisy(i) for i in range(500)]
    track, fresh = fed(values), fed(values[:450])
    track.rewind(450)
    for each in (track, fresh):
        each.take(451, 1.7)
    # Of the window's 128 values the last 50 are gone, so fewer are left than a run that never went on would have.
    assert track.sigmas == pytest.approx(fresh.sigmas, rel=0.2)
    early = fed(values[:100])
    early.rewind(90)
    again = fed(values[:90])
    for each in (early, again):
        each.take(91, 1.7)
    assert early.sigmas == again.sigmas


def test_streaks_count_in_a_row_and_know_who_was_once_well() -> None:
    streaks = Streaks()
    for names in (["a", "b"], ["a"], ["a", "b"], ["a", "b"]):
        streaks.take(names)
    assert streaks.longest == 4
    assert streaks.lasting(2) == {"a": 4, "b": 2}
    assert streaks.lasting(2, again=20) == {"a": 4}
    streaks.take([])
    assert streaks.lasting(1) == {} and streaks.longest == 0


def test_memory_compares_the_lowest_of_late_with_the_highest_of_early() -> None:
    memory = Memory()
    for _ in range(Memory.EARLY):
        memory.take(100)
    assert memory.late is None
    for i in range(Memory.LATE):
        memory.take(120 + i % 2 * 50)
    assert (memory.early, memory.late) == (100, 120)


def test_a_rolled_back_run_starts_its_streaks_anew() -> None:
    windows = Windows()
    for i in range(1, 11):
        windows.take(Step(step=i, loss=1.0, stale_gradients=("a",), missing_grad=("b",)))
    windows.rewind(5)
    assert windows.stale_steps == 0 and windows.missing.longest == 0
