"""Random events and requests of every type, for property tests."""

from datetime import UTC, datetime
from typing import Any, get_args

from hypothesis import strategies as st

from sessions import events
from sessions.events import AnyEvent
from sessions.requests import AnyRequest

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
# Whole JSON numbers come back as int and the three spellings of non-finite floats as floats: see sessions/codec.py.
TEXT = st.text(st.characters(codec="utf-8"), max_size=20).filter(lambda text: text not in ("nan", "inf", "-inf"))
JSON: st.SearchStrategy[Any] = st.dictionaries(
    TEXT,
    st.recursive(st.none() | st.booleans() | NUMBERS | TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5),
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
ENVELOPE: dict[str, st.SearchStrategy[Any]] = {"seq": st.integers(0, 2**53), "ts": TIMES}


def _of(kind: Any) -> st.SearchStrategy[Any]:
    special: dict[Any, st.SearchStrategy[Any]] = {
        float: NUMBERS,
        str: TEXT,
        int: st.integers(-(2**53), 2**53),
        events.Json: JSON,
        datetime: TIMES,
    }
    if kind in special:
        return special[kind]
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is list:
        return st.lists(_of(arguments[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, _of(arguments[1]), max_size=4)
    if type(None) in arguments:
        return st.none() | _of(next(a for a in arguments if a is not type(None)))
    if kind is bool:
        return st.booleans()
    if origin is None and hasattr(kind, "__struct_fields__"):
        return struct(kind)
    return st.sampled_from(arguments)  # a Literal


def struct(kind: type[Any]) -> st.SearchStrategy[Any]:
    from typing import get_type_hints

    hints = get_type_hints(kind)
    fields = {name: _of(hints[name]) for name in kind.__struct_fields__ if name not in ("v", "seq", "ts")}
    fields |= {name: drawn for name, drawn in ENVELOPE.items() if name in kind.__struct_fields__}
    return st.builds(kind, **fields)


EVENTS = st.one_of([struct(kind) for kind in get_args(AnyEvent)])
REQUESTS = st.one_of([struct(kind) for kind in get_args(AnyRequest)])
RUN_EVENTS = st.one_of([struct(kind) for kind in get_args(events.RunEvent)])
