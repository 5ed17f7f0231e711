"""Commands on this machine: doctor, data."""

from typing import Annotated

import typer

from nora_tui.cli.options import AsJson, RunsDir

data_app = typer.Typer(help="Data sets: which are here, and how to get the others.", invoke_without_command=True)


def register(app: typer.Typer) -> None:
    app.command()(doctor)
    app.add_typer(data_app, name="data")


def doctor(runs_dir: RunsDir = None, as_json: AsJson = False) -> None:
    """Say what this machine can do, and what is in the way. Exit code 1 if something needed is missing."""
    from nora_tui.cli.doctor import examine, print_findings
    from nora_tui.cli.output import print_json
    from sessions.store import runs_dir_from

    findings = examine(runs_dir_from(runs_dir))
    print_json(findings) if as_json else print_findings(findings)
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


@data_app.callback()
def data(context: typer.Context, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        from nora_tui.cli.datasets import print_data_sets

        print_data_sets(as_json=as_json)


@data_app.command()
def get(
    name: Annotated[str, typer.Argument(help="A data set, such as cifar10.")],
    as_json: AsJson = False,
) -> None:
    """Fetch a data set, verify it, and keep it where runs find it."""
    from nora_tui.cli.datasets import fetch

    fetch(name, as_json=as_json)
