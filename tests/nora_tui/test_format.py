import math
from datetime import timedelta
from typing import get_args

import pytest

from nora_tui import clock
from nora_tui import format as words
from sessions.state import Status
from tests.nora_tui.made import BEGAN


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.04, "0.1s"),
        (0.44, "0.4s"),
        (8.4, "8s"),
        (59.7, "1m 00s"),
        (83, "1m 23s"),
        (3599.6, "1h 00m"),
        (7500, "2h 05m"),
        (86400 * 3 + 4 * 3600, "3d 04h"),
        (-5, "0s"),
        (math.nan, "?"),
        (math.inf, "∞"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (0.95621, "0.9562"),
        (12.3456, "12.35"),
        (1234.56, "1235"),
        (-0.5, "-0.5000"),
        (0.002, "0.0020"),
        (0.00012, "1.2e-4"),
        (1.2345e-7, "1.23e-7"),
        (1e-4, "1e-4"),
        (3.2e9, "3.2e9"),
        (-2e-9, "-2e-9"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
    ],
)
def test_values_show_about_four_digits(number: float, text: str) -> None:
    assert words.value(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (950, "950"),
        (1000, "1k"),
        (1234, "1.2k"),
        (45_200, "45.2k"),
        (99_960, "100k"),
        (999_999, "1M"),
        (2e12, "2T"),
    ],
)
def test_short_counts(number: float, text: str) -> None:
    assert words.short_count(number) == text


def test_counts_and_sizes() -> None:
    assert words.count(1_234_567) == "1,234,567"
    assert [words.size(n) for n in (512, 64_500_000, 2.5e9)] == ["512 B", "64.5 MB", "2.5 GB"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s ago"), (59.9, "59s ago"), (60, "1m ago"), (7199, "1h ago"), (200_000, "2d ago"), (-9, "0s ago")],
)
def test_ages_are_coarse(seconds: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "now", lambda: BEGAN)
    assert words.ago(BEGAN - timedelta(seconds=seconds)) == text


def test_every_status_has_a_shape_and_a_word() -> None:
    assert set(words.STATUS) == set(get_args(Status))
    assert all(len(look.glyph) == 1 and look.word.isalpha() for look in words.STATUS.values())
    assert words.status_text("failed").plain == "✗ failed"
