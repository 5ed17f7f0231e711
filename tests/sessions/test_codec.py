import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given

from sessions.codec import CodecError, decode, encode
from sessions.events import Metrics, RunFinished, Unknown
from tests.sessions.strategies import EVENTS


def same(left: Any, right: Any) -> bool:
    """Equality in which NaN equals NaN, and 1 equals 1.0 as it does in JSON."""
    if isinstance(left, float) and isinstance(right, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, msgspec.Struct):
        return type(left) is type(right) and all(
            same(getattr(left, n), getattr(right, n)) for n in left.__struct_fields__
        )
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    return bool(left == right)


@given(EVENTS)
def test_every_event_comes_back_as_it_was(event: Any) -> None:
    line = encode(event)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert same(decode(line[:-1]), event)


@given(EVENTS)
def test_a_line_is_json_for_any_reader(event: Any) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(encode(event), parse_constant=refuse)["type"] == event.__struct_config__.tag


@given(EVENTS)
def test_a_line_truncated_at_any_byte_is_no_event(event: Any) -> None:
    line = encode(event)[:-1]
    for cut in range(len(line)):
        with pytest.raises(CodecError):
            decode(line[:cut])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_values_are_written_as_words_and_read_as_floats(value: float) -> None:
    line = encode(Metrics(seq=0, step=1, split="train", values={"loss": value, "lr": 0.1}))
    assert json.loads(line)["values"]["loss"] == str(value)
    back = decode(line)
    assert isinstance(back, Metrics)
    assert same(back.values["loss"], value)


def test_values_whose_sum_overflows_are_kept() -> None:
    values = {"a": 1.7e308, "b": 1.7e308}
    back = decode(encode(Metrics(seq=0, step=1, split="train", values=values)))
    assert isinstance(back, Metrics)
    assert back.values == values


def test_an_unknown_type_is_kept_as_itself() -> None:
    line = b'{"type":"telepathy","v":9,"seq":3,"ts":"2026-01-02T03:04:05Z","strength":"nan"}'
    event = decode(line)
    assert isinstance(event, Unknown)
    assert (event.type, event.seq) == ("telepathy", 3)
    assert math.isnan(event.fields["strength"])
    assert json.loads(encode(event)) == json.loads(line)


def test_an_unknown_field_passes() -> None:
    line = encode(RunFinished(seq=1, status="completed", reason="", exit_code=0))
    assert decode(line.replace(b'"seq":1', b'"seq":1,"mood":"good"')) == decode(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"type":"metrics"}',
        b'{"type":"note","text":"no seq","by":"me"}',
        b'{"type":"new","ts":"2026-01-02T03:04:05Z"}',
        b'{"type":["list"],"seq":1,"ts":"2026-01-02T03:04:05Z"}',
        b'{"type":"new","seq":"x","ts":"2026-01-02T03:04:05Z"}',
        b'{"type":"new","seq":null,"ts":"2026-01-02T03:04:05Z"}',
        b'{"type":"note","seq":1,"ts":"2026-01-02T03:04:05","text":"no zone","by":"me"}',
        b"[" * 200_000,
        b'{"type":"run_finished","summary":{"a":' + b"[" * 200_000,
        b"\xff\xfe",
        b'{"type":"note","seq":1,"text":"\xff","by":"me"}',
    ],
)
def test_what_is_no_event_is_refused(line: bytes) -> None:
    with pytest.raises(CodecError):
        decode(line)
