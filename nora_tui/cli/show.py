"""A run as one object, for ``nora show`` and every ``--json``."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from nora_tui.cases import waiting
from sessions.state import SessionState
from sessions.store import SessionReader

if TYPE_CHECKING:
    from rich.console import Console

_EVENTS = (
    "violations",
    "proposals",
    "resolutions",
    "actions",
    "policies",
    "refused",
    "checkpoints",
    "artifacts",
    "notes",
    "logs",
)


def as_object(reader: SessionReader) -> dict[str, Any]:
    """Return the folded state for JSON; non-finite floats are left as floats.

    ``metrics`` is {split: {name: {last, best, step}}}, where ``step`` is that of the last value and ``best`` the best
    finite one; null where better has no meaning. ``waiting`` names the proposals that wait for a person.
    """
    state = reader.state
    fields = {name: getattr(state, name) for name in state.__struct_fields__ if name not in ("run_id", "latest")}
    violations = [_plain(event) | {"outcome": state.outcomes.get(event.id)} for event in state.violations]
    return (
        {"run": state.run_id, "path": str(reader.paths.root)}
        | {name: value for name, value in fields.items() if name not in (*_EVENTS, "outcomes", "standings")}
        | {"phase": state.phase.name if state.phase else None, "metrics": metrics_of(reader), "violations": violations}
        | {name: [_plain(event) for event in getattr(state, name)] for name in _EVENTS[1:]}
        | {"waiting": [proposal.id for proposal in waiting(state)]}
        | {"standings": [_plain(standing) for standing in state.standings.values()]}
    )


def metrics_of(reader: SessionReader) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for split, name in reader.series.metrics():
        last, best = reader.series.last(split, name), reader.series.best(split, name)
        value = None if best is None else best.value
        found.setdefault(split, {})[name] = {"last": last.value, "best": value, "step": last.step}
    return found


def _plain(event: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def print_run(reader: SessionReader) -> None:
    """Print the run for people."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nora_tui.cli.output import harmless
    from nora_tui.format import duration, status_text, value

    state = reader.state
    console = Console(highlight=False)
    console.print(Text(state.run_id, style="bold"), status_text(state.status), Text(harmless(state.reason)))
    facts = {
        "workload": state.workload,
        "mode": f"{state.mode}, {state.regime}" + (f", {state.violation} planted" if state.violation != "none" else ""),
        "seed": state.seed,
        "step": f"{state.step}/{state.total_steps}" if state.total_steps else state.step,
        "begun": state.started_at and f"{state.started_at.astimezone():%Y-%m-%d %H:%M:%S} on {state.host}",
        "took": state.started_at
        and state.finished_at
        and duration((state.finished_at - state.started_at).total_seconds()),
        "exit code": state.exit_code,
        "checkpoints": len(state.checkpoints) or None,
        "unreadable": state.malformed and f"{state.malformed} lines are no events and were skipped",
        "missing": state.gaps and f"{state.gaps} gaps in the numbering of events",
        "folder": reader.paths.root,
    }
    for name, fact in facts.items():
        if fact not in (None, "", 0) or name == "seed":
            console.print(Text(f"  {name:<12}", style="dim"), Text(str(fact)), sep="", soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("metric", "last", "best", "at step"):
        table.add_column(name, justify="left" if name == "metric" else "right")
    for split, metrics in metrics_of(reader).items():
        for name, found in metrics.items():
            label = Text(harmless(f"{split} {name}"))
            best = "" if found["best"] is None else value(found["best"])
            table.add_row(label, value(found["last"]), best, str(found["step"]))
    if table.row_count:
        console.print(table)
    _print_norms(console, state)


def _print_norms(console: "Console", state: SessionState) -> None:
    """Print what the norms found, what was decided about it, and how they stand."""
    from rich.text import Text

    from nora_tui.cli.lines import violation_line, waiting_line

    parts: dict[str, list[str]] = {
        "violations": [violation_line(event, state.outcomes.get(event.id, "open")) for event in state.violations],
        "decisions": list(_decisions(state)),
        "waiting": [waiting_line(proposal, state.run_id) for proposal in waiting(state)],
        "norms": list(_standings(state)),
    }
    for title, lines in parts.items():
        if lines:
            console.print(Text(title, style="dim"))
            for line in lines:
                console.print(Text(f"  {line}"), soft_wrap=True)


def _decisions(state: SessionState) -> Iterator[str]:
    """Yield resolutions, each with the ends of its actions, then what people had done unasked."""
    from nora_tui.cli.lines import action_line, resolution_line

    ended = [action for action in state.actions if action.state != "started"]
    for resolution in state.resolutions:
        yield resolution_line(resolution)
        yield from (f"  {action_line(action)}" for action in ended if action.proposal == resolution.proposal)
    yield from (action_line(action) for action in ended if action.proposal is None)


def _standings(state: SessionState) -> Iterator[str]:
    """Yield how many norms stand how, naming those that are not kept; and the verdict, once there is one."""
    from nora_tui.cli.output import one_line

    counts = Counter(standing.state for standing in state.standings.values())
    named = {
        kind: [norm for norm, standing in state.standings.items() if standing.state == kind]
        for kind in ("broken", "cured", "muted")
    }
    parts = [f"{counts['kept']} kept"] if counts["kept"] else []
    parts += [f"{len(norms)} {kind} ({', '.join(norms)})" for kind, norms in named.items() if norms]
    if parts:
        yield one_line(" · ".join(parts))
    if state.verdict is not None and (state.verdict.broken or state.verdict.overridden):
        broken = [f"broken: {', '.join(state.verdict.broken)}"] if state.verdict.broken else []
        allowed = [f"broken by leave: {', '.join(state.verdict.overridden)}"] if state.verdict.overridden else []
        yield one_line("verdict: " + "; ".join([*broken, *allowed]))
