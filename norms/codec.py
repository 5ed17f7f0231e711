"""Signals to JSON lines and back, so that a run can be judged again: by another regime, or by norms not yet written."""

import msgspec

from norms.signals import AnySignal, Fact, Signal
from sessions.codec import spell

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnySignal] = msgspec.json.Decoder(AnySignal, strict=False)


def encode(signal: AnySignal) -> bytes:
    """Return the signal as one JSON line, newline included; fields not seen are left out, NaN is "nan" as in events."""
    line = _encoder.encode(signal)
    if b"null" in line:  # what msgspec makes of NaN and infinity; a None that is a default is not written at all
        line = _encoder.encode(_spelled(signal))
    return line + b"\n"


def decode(line: bytes) -> AnySignal:
    """Return the signal in one line.

    Raises:
        ValueError: The line is none.
    """
    return _decoder.decode(line)


def _spelled(value: object) -> object:
    if isinstance(value, Signal | Fact):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        tag = value.__struct_config__.tag
        kept = {name: _spelled(item) for name, item in fields.items() if item is not None}
        return ({"type": tag} if tag else {}) | kept
    if isinstance(value, tuple):
        return [_spelled(item) for item in value]
    return spell(value)
