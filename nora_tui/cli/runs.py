"""Commands on runs that are there: ls, show, logs, watch, stop."""

from enum import StrEnum
from typing import Annotated

import typer

from nora_tui.cli.options import AsJson, Run, RunsDir


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def register(app: typer.Typer) -> None:
    for command in (ls, show, logs, watch, stop):
        app.command()(command)


def ls(
    runs_dir: RunsDir = None,
    form: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.TABLE,
    as_json: AsJson = False,
) -> None:
    """List the runs, the one begun last first."""
    from nora_tui.cli.listing import print_listing
    from sessions.store import runs_dir_from

    print_listing(runs_dir_from(runs_dir), "json" if as_json else form.value)


def show(run: Run, runs_dir: RunsDir = None, as_json: AsJson = False) -> None:
    """Show how a run stands: its metrics, violations, checkpoints and how it ended."""
    from nora_tui.cli.output import print_json
    from nora_tui.cli.show import as_object, print_run
    from sessions.store import find, read_session, runs_dir_from

    reader = read_session(find(runs_dir_from(runs_dir), run))
    print_json(as_object(reader)) if as_json else print_run(reader)


def logs(
    run: Run,
    runs_dir: RunsDir = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as the log grows, until the run ends.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Only the last N lines; 0 is all.")] = 0,
    raw: Annotated[bool, typer.Option("--raw", help="The bytes as they are, control sequences included.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print what the run printed (stdout and stderr)."""
    from nora_tui.cli.logs import print_log
    from sessions.store import find, runs_dir_from

    print_log(
        find(runs_dir_from(runs_dir), run),
        follow=follow,
        lines=lines,
        form="raw" if raw else "json" if as_json else "text",
    )


def watch(run: Run, runs_dir: RunsDir = None, as_json: AsJson = False) -> None:
    """Follow a run until it ends, and end with its exit code; Ctrl+C leaves the run alone.

    With --json: every event as a line, from the first.
    """
    from nora_tui.cli.follow import follow, stream
    from sessions.store import find, runs_dir_from

    paths = find(runs_dir_from(runs_dir), run)
    raise typer.Exit(stream(paths) if as_json else follow(paths, on_interrupt="leave"))


def stop(
    run: Run,
    runs_dir: RunsDir = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why, for the record.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the run has ended.")] = True,
    as_json: AsJson = False,
) -> None:
    """Stop a run after its current step, with a checkpoint."""
    from nora_tui.cli.stopping import stop_run
    from sessions.store import find, runs_dir_from

    stop_run(find(runs_dir_from(runs_dir), run), reason, wait=wait, as_json=as_json)
