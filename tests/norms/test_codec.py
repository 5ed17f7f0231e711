"""Signals as lines: what is written is read back, NaN included, and what was not seen takes no space."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from norms.codec import decode, encode
from norms.judge import Judge
from norms.signals import AnySignal, Evaluation, Preflight, Step, Unchanged, Update
from tests.norms.cases import CASES

NUMBERS = st.none() | st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.none() | st.lists(st.text(max_size=8), max_size=3).map(tuple)


@given(st.builds(Step, step=st.integers(0, 2**53), epoch=NUMBERS, loss=NUMBERS, grad_norm=NUMBERS, non_finite=NAMES))
def test_a_step_comes_back(step: Step) -> None:
    assert repr(decode(encode(step))) == repr(step)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.norm}-{case.what}")
def test_every_signal_comes_back(case: Any) -> None:
    for signal in case.signals:
        line = encode(signal)
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
        assert repr(decode(line)) == repr(signal)


def test_nested_facts_keep_their_nan() -> None:
    weight = Unchanged(name="null", lr=0.1, grad_max=math.nan, weight_max=math.inf)
    signal: AnySignal = Update(step=3, unchanged=(weight,))
    assert b'"grad_max":"nan"' in encode(signal)
    assert repr(decode(encode(signal))) == repr(signal)


def test_what_was_not_seen_takes_no_space() -> None:
    assert encode(Step(step=7)) == b'{"type":"step","step":7}\n'
    assert encode(Preflight(step=0, uncovered=())) == b'{"type":"preflight","step":0,"uncovered":[]}\n'


def test_a_line_that_is_no_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="noon"):
        decode(b'{"type":"noon","step":1}')


def test_a_recorded_run_is_judged_again_by_another_regime() -> None:
    lines = [encode(Evaluation(split="val", step=i, epoch=i, samples=998, split_size=1000)) for i in range(3)]
    found = {
        regime: [v.norm for line in lines for v in Judge(regime).feed(decode(line)).violations[:1]]
        for regime in ("strict", "exploratory")
    }
    assert found["strict"] and not found["exploratory"]
