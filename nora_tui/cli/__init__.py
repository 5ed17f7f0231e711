"""The command line. Every command imports what it needs when it runs, so that ``nora --help`` is there at once."""

import os
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from configs.errors import NoraError
from nora_tui.cli import machine, ml, norms, runs, steer, train
from nora_tui.cli.options import RunsDir


class Commands(TyperGroup):
    """Shows what people can put right as one sentence, and ends with the exit code that belongs to it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except NoraError as error:
            from nora_tui.cli.output import harmless

            typer.echo(harmless(f"error: {error}"), err=True)  # it may quote what stands in a session
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    name="nora",
    cls=Commands,
    help="A cockpit for training runs that are held to norms. Without a command: the cockpit on the runs folder.",
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def default(context: typer.Context, runs_dir: RunsDir = None) -> None:
    if runs_dir is not None:  # `nora --runs-dir DIR ls` means the same as `nora ls --runs-dir DIR`
        os.environ["NORA_RUNS_DIR"] = str(runs_dir)
    if context.invoked_subcommand is None:
        cockpit(runs_dir=runs_dir)


@app.command()
def cockpit(
    run: Annotated[str | None, typer.Argument(help="Open on this run: path, name or unique prefix.")] = None,
    runs_dir: RunsDir = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Look, and change nothing.")] = False,
) -> None:
    """Open the cockpit."""
    from nora_tui.cli.open import open_cockpit
    from sessions.store import find, runs_dir_from

    folder = runs_dir_from(runs_dir)
    open_cockpit(folder, None if run is None else find(folder, run), read_only=read_only)


train.register(app)
runs.register(app)
steer.register(app)
app.add_typer(ml.app, name="ml")
app.command("norms")(norms.norms_command)
machine.register(app)


def main() -> None:
    app()
