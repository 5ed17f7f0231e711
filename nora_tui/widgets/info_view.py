"""What there is to know of a run beside its curves: results, phases, checkpoints, the machine, the record itself."""

from collections.abc import Iterable, Mapping
from typing import Any

from nora_tui.format import count, duration, plural, size, value
from nora_tui.widgets.toned import Piece
from sessions.state import SessionState

Lines = list[list[Piece]]
_LABEL = 16
_PACKAGES = ("torch", "torchvision", "catboost", "scikit-learn", "numpy", "pandas", "timm")


def info_lines(state: SessionState, environment: Mapping[str, Any]) -> Lines:
    sections = (
        ("Result", _result(state)),
        ("Phases", _phases(state)),
        ("Checkpoints", _checkpoints(state)),
        ("Artifacts", [[(f"{found.kind:<{_LABEL}}", "muted"), (found.path, "plain")] for found in state.artifacts]),
        ("Messages", _messages(state)),
        ("Machine", _machine(state, environment)),
        ("Code", _code(environment)),
        ("Record", _record(state)),
        ("Newest values", _values(state)),
    )
    lines: Lines = []
    for heading, body in sections:
        if body:
            lines += [[], [(heading, "strong")], *([("  ", "plain"), *line] for line in body)]
    return lines[1:]


def _facts(facts: Iterable[tuple[str, object]]) -> Lines:
    return [[(f"{label:<{_LABEL}}", "muted"), (str(fact), "plain")] for label, fact in facts if fact not in (None, "")]


def _result(state: SessionState) -> Lines:
    took = None
    if state.started_at and state.finished_at:
        took = duration((state.finished_at - state.started_at).total_seconds())
    facts: list[tuple[str, object]] = [
        ("ended", state.status if state.ended else None),
        ("why", state.reason),
        ("exit code", state.exit_code),
        ("took", took),
    ]
    return _facts(facts) + _facts(_flat(state.summary))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, object]]:
    for name, item in values.items():
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name} ", value(item) if isinstance(item, float) else item


def _values(state: SessionState) -> Lines:
    names = list(dict.fromkeys(name for values in state.latest.values() for name in values))
    splits = list(state.latest)
    if not names:
        return []
    wide = max(_LABEL, *map(len, names)) + 2
    head: list[Piece] = [(" " * wide, "plain"), *((f"{split:>10}", "muted") for split in splits)]
    rows: Lines = []
    for name in names:
        found = [state.latest[split].get(name) for split in splits]
        cells: list[Piece] = [("" if v is None else f"{value(v):>10}", "plain" if v == v else "bad") for v in found]
        rows.append([(f"{name:<{wide}}", "muted"), *((text or " " * 10, tone) for text, tone in cells)])
    return [head, *rows]


def _phases(state: SessionState) -> Lines:
    return _facts((name, duration(seconds)) for name, seconds in state.phase_seconds.items())


def _checkpoints(state: SessionState) -> Lines:
    lines: Lines = []
    for found in state.checkpoints:
        kinds = " ".join(found.kinds) + ("" if found.complete else " (incomplete)")
        lines.append(
            [
                (f"step {count(found.step):<{_LABEL - 5}}", "muted"),
                (f"{kinds:<20}", "plain"),
                (f"{size(found.bytes):>9}  ", "plain"),
                (found.path, "muted"),
            ]
        )
    return lines


def _messages(state: SessionState) -> Lines:
    tones = {"error": "bad", "warning": "warn"}
    return [
        [(f"{log.level:<{_LABEL}}", tones.get(log.level, "muted")), (f"{log.source}: {log.text}", "plain")]
        for log in state.logs[-20:]
    ]


def _machine(state: SessionState, environment: Mapping[str, Any]) -> Lines:
    hardware = _mapping(environment.get("hardware"))
    memory = hardware.get("memory_bytes")
    gpus = [_mapping(gpu).get("name") for gpu in hardware.get("gpus") or ()]
    return _facts(
        (
            ("host", state.host),
            ("process", state.pid),
            ("job", state.job_id),
            ("processor", hardware.get("cpu")),
            ("threads", hardware.get("threads")),
            ("memory", size(memory) if isinstance(memory, int) else None),
            ("gpu", ", ".join(map(str, gpus)) if hardware else None),
        )
    )


def _code(environment: Mapping[str, Any]) -> Lines:
    git, packages = _mapping(environment.get("git")), _mapping(environment.get("packages"))
    dirty = " with uncommitted changes" if git.get("dirty") else ""
    commit = f"{str(git['commit'])[:12]}{dirty}" if git.get("commit") else None
    return _facts(
        (
            ("commit", commit),
            ("python", _mapping(environment.get("python")).get("version")),
            *((name, packages.get(name)) for name in _PACKAGES),
        )
    )


def _record(state: SessionState) -> Lines:
    unknown = ", ".join(f"{number} {kind}" for kind, number in state.unknown.items())
    return _facts(
        (
            ("config digest", state.config_digest[:12]),
            ("attempt", state.attempt or None),
            ("resumed from", state.resumed_from),
            ("tags", " ".join(state.tags)),
            ("unreadable", plural(state.malformed, "line") if state.malformed else None),
            ("missing", plural(state.gaps, "gap") + " in the numbering of events" if state.gaps else None),
            ("unknown events", unknown),
        )
    )


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}
