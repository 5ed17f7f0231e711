"""``nora ls``: all runs at a glance."""

import csv
import sys
from pathlib import Path
from typing import Any, Literal

import typer

from configs.errors import StorageError
from nora_tui.cases import waiting
from nora_tui.cli.output import harmless, print_json
from nora_tui.headline import headline
from sessions.paths import SessionPaths
from sessions.state import SessionState
from sessions.store import list_sessions, read_session


def print_listing(runs_dir: Path, form: Literal["table", "json", "csv"] | str) -> None:
    states = [_state_of(paths) for paths in list_sessions(runs_dir)]
    if form == "json":
        print_json([_row(state) for state in states])
    elif form == "csv":
        _print_csv(states)
    elif not states:
        typer.echo(f"no runs in {runs_dir}; `nora demo` starts one")
    else:
        _print_table(states)


def _state_of(paths: SessionPaths) -> SessionState:
    try:
        return read_session(paths, curves=False).state
    except StorageError as error:  # one session that cannot be read hides no other
        return SessionState(run_id=paths.run_id, name=paths.run_id, status="lost", reason=str(error))


def _row(state: SessionState) -> dict[str, Any]:
    return {
        "run": state.run_id,
        "status": state.status,
        "workload": state.workload,
        "mode": state.mode,
        "regime": state.regime,
        "seed": state.seed,
        "step": state.step,
        "total_steps": state.total_steps,
        "epoch": state.epoch,
        "eta_seconds": state.eta_seconds,
        "metrics": dict(headline(state)),
        "violations": len(state.violations),
        "waiting": len(waiting(state)),
        "started_at": state.started_at,
        "finished_at": state.finished_at,
        "exit_code": state.exit_code,
        "reason": state.reason,
        "tags": list(state.tags),
    }


def _print_csv(states: list[SessionState]) -> None:
    rows = [_row(state) for state in states]
    for row in rows:
        row["metrics"] = " ".join(f"{name}={number!r}" for name, number in row["metrics"].items())
        row["tags"] = " ".join(row["tags"])
    writer = csv.DictWriter(sys.stdout, _row(SessionState()).keys())
    writer.writeheader()
    writer.writerows(rows)


def _print_table(states: list[SessionState]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from nora_tui.format import ago, status_text, value

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "state", "step", "metrics"):
        table.add_column(name, overflow="fold")
    table.add_column("viol.", justify="right")
    table.add_column("begun", justify="right", no_wrap=True)
    for state in states:
        steps = f"{state.step}/{state.total_steps}" if state.total_steps else str(state.step)
        figures = " · ".join(f"{label} {value(number)}" for label, number in headline(state)) or state.reason
        table.add_row(
            Text(state.run_id),
            status_text(state.status),
            steps,
            Text(harmless(figures)),
            str(len(state.violations)) if state.violations else "",
            ago(state.started_at) if state.started_at else "",
        )
    Console().print(table)
