"""Events to JSON lines and back.

JSON has no non-finite numbers, and they are the most important values this tool sees: they are written as the strings
"nan", "inf" and "-inf" and read back as floats. msgspec does the reading (its lax mode takes those strings for floats);
writing needs the substitution below, since msgspec would write null.
"""

import math
from typing import Annotated, Any, get_args

import msgspec

from sessions.events import AnyEvent, Metrics, Moment, Unknown

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent, strict=False)
_raw_decoder = msgspec.json.Decoder()
_SPELLED = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_JSON_FIELDS = ("evidence", "params", "effect", "summary")
KNOWN_TYPES = frozenset(kind.__struct_config__.tag for kind in get_args(AnyEvent))
_NON_FINITE = (b'"nan"', b'"inf"', b'"-inf"')


class CodecError(ValueError):
    """A line that is no event."""


def encode(event: AnyEvent | Unknown) -> bytes:
    """Return the event as one JSON line, newline included."""
    if type(event) is Metrics:
        # The sum is non-finite if any value is (or on overflow, where the slow path is merely slower).
        if math.isfinite(sum(event.values.values())):
            return _encoder.encode(event) + b"\n"
    elif isinstance(event, Unknown):
        return _encoder.encode(spell({"type": event.type, **event.fields})) + b"\n"
    return _encoder.encode(spell(event)) + b"\n"


def decode(line: bytes) -> AnyEvent | Unknown:
    """Return the event in one line.

    Raises:
        CodecError: The line is not JSON, not an object, or lacks what its type requires.
    """
    try:
        event = _decoder.decode(line)
    except msgspec.DecodeError as error:
        return _decode_unknown(line, error)
    except RecursionError as error:
        raise CodecError("nested too deeply") from error
    except UnicodeDecodeError as error:
        raise CodecError(f"not UTF-8: {error}") from error
    if event.seq < 0:
        raise CodecError("no `seq`")
    if type(event) is not Metrics and any(word in line for word in _NON_FINITE):
        return _unspell_fields(event)
    return event


def spell(value: Any) -> Any:
    """Return ``value`` as builtins with every non-finite float replaced by its name."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {key: spell(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spell(item) for item in value]
    if isinstance(value, msgspec.Struct):
        # str_keys and the tag are applied one level at a time: to_builtins would turn NaN into None further down.
        tag = value.__struct_config__
        head = {tag.tag_field: tag.tag} if tag.tag_field else {}
        return head | {name: spell(getattr(value, name)) for name in value.__struct_fields__}
    return value


def unspell(value: Any) -> Any:
    """Return JSON data with "nan", "inf" and "-inf" read as floats."""
    if isinstance(value, str):
        return _SPELLED.get(value, value)
    if isinstance(value, dict):
        return {key: unspell(item) for key, item in value.items()}
    if isinstance(value, list):
        return [unspell(item) for item in value]
    return value


def _unspell_fields(event: AnyEvent) -> AnyEvent:
    changed = {name: unspell(getattr(event, name)) for name in _JSON_FIELDS if hasattr(event, name)}
    if hasattr(event, "alternatives"):
        changed["alternatives"] = [
            msgspec.structs.replace(item, params=unspell(item.params)) for item in event.alternatives
        ]
    return msgspec.structs.replace(event, **changed) if changed else event


def _decode_unknown(line: bytes, error: msgspec.DecodeError) -> Unknown:
    """Return a line of a type that this version does not know; anything else wrong with it is ``error``."""
    try:
        fields = _raw_decoder.decode(line)
        if fields["type"] in KNOWN_TYPES:
            raise CodecError(str(error))
        ts = msgspec.convert(fields["ts"], type=Moment)
        seq = msgspec.convert(fields["seq"], type=Annotated[int, msgspec.Meta(ge=0)])
        return Unknown(type=fields["type"], seq=seq, ts=ts, fields=unspell(fields))
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError, RecursionError) as other:
        raise CodecError(str(error)) from other
