"""What a key of the configuration may be, in words: for error messages and forms."""

from typing import Any

from msgspec import inspect


def type_at(schema: type[Any], key: str) -> inspect.Type | None:
    """Return the type at a dotted key, or None where there is no such key."""
    kind: inspect.Type = inspect.type_info(schema)
    for part in key.split("."):
        if isinstance(kind, inspect.DictType):
            kind = kind.value_type
            continue
        if not isinstance(kind, inspect.StructType):
            return None
        found = next((field.type for field in kind.fields if field.encode_name == part), None)
        if found is None:
            return None
        kind = found.type if isinstance(found, inspect.Metadata) else found
    return kind


def is_open(schema: type[Any], key: str) -> bool:
    """Whether a dotted key is, or lies in, a table whose names the schema does not fix (norms.thresholds)."""
    parts = key.split(".")
    heads = (type_at(schema, ".".join(parts[:count])) for count in range(1, len(parts) + 1))
    return any(isinstance(kind, inspect.DictType) for kind in heads)


def chosen(schema: type[Any], key: str) -> tuple[str, ...]:
    """Return the words that a key is chosen from; none where it takes other values."""
    kind = type_at(schema, key)
    return tuple(str(value) for value in kind.values) if isinstance(kind, inspect.LiteralType) else ()


def allowed(kind: inspect.Type) -> str:
    """Return what values a type takes, as the end of "expected …"."""
    match kind:
        case inspect.Metadata():
            return allowed(kind.type)
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.LiteralType():
            return "one of " + ", ".join(str(value) for value in kind.values)
        case inspect.NoneType():
            return "none"
        case inspect.UnionType():
            return " or ".join(allowed(part) for part in kind.types)
        case inspect.ListType():
            return "a list in brackets, each " + allowed(kind.item_type)
        case inspect.DictType():
            return "names in braces, each with " + allowed(kind.value_type)
        case inspect.StrType():
            return "text"
        case inspect.StructType():
            return "the keys " + ", ".join(field.encode_name for field in kind.fields)
    raise AssertionError(f"a configuration key of type {kind} has no words yet")


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    signs = {"≥": kind.ge, ">": kind.gt, "≤": kind.le, "<": kind.lt}
    parts = [f"{sign} {bound}" for sign, bound in signs.items() if bound is not None]
    return " " + " and ".join(parts) if parts else ""


def expected(schema: type[Any], key: str) -> str:
    """Return what may stand at a key: by its type, or in the schema's own words where the type alone says little."""
    kind = type_at(schema, key)
    assert kind is not None, key
    words = description(schema, key)
    by_words = (isinstance(kind, inspect.StrType) and kind.pattern) or isinstance(kind, inspect.DictType)
    return words if by_words and words else allowed(kind)


def description(schema: type[Any], key: str) -> str | None:
    """Return what the schema says a key is for."""
    *parents, name = key.split(".")
    kind = type_at(schema, ".".join(parents)) if parents else inspect.type_info(schema)
    if not isinstance(kind, inspect.StructType):
        return None
    found = next((field.type for field in kind.fields if field.encode_name == name), None)
    extra = found.extra_json_schema if isinstance(found, inspect.Metadata) else None
    return (extra or {}).get("description")
