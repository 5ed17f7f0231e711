"""``nora train`` and ``nora demo``: start a run."""

import signal
import sys
from typing import Annotated

import typer

from configs.errors import ConfigError
from nora_tui.cli.options import AsJson, RunsDir

DEMO = ("workload=vit", "data=digits")

Name = Annotated[
    str | None,
    typer.Option("--name", help="The run's name. [default: made of workload, data and time]", show_default=False),
]


def register(app: typer.Typer) -> None:
    app.command()(train)
    app.command()(demo)


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value …, such as workload=vit data=digits train.epochs=2 seed=1.", show_default=False),
    ] = None,
    name: Name = None,
    runs_dir: RunsDir = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start the run and leave it to itself.")] = False,
    cockpit: Annotated[bool, typer.Option("--cockpit", help="Open the cockpit on the run.")] = False,
    cfg: Annotated[bool, typer.Option("--cfg", help="Print the resolved configuration, and start nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train: start a run, show its progress, end with its exit code.

    Closing the terminal stops nothing; Ctrl+C ends the run after the current step.
    """
    from configs.load import compose, plain, to_yaml
    from nora_tui.cli.output import print_json

    # Ctrl+C is held, and let through where it can be heeded: not while hydra works, which it leaves broken, and not
    # while the run is being started, which would leave one that nobody stops. `follow` lets it through again.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    config = compose(overrides or [])
    if cfg:
        print_json(plain(config)) if as_json else sys.stdout.write(to_yaml(config))
        return

    if cockpit and (detach or as_json):
        raise ConfigError("--cockpit goes with neither --detach nor --json")

    from engine.launch import launch
    from nora_tui.cli.follow import EXIT_INTERRUPTED, follow
    from nora_tui.cli.open import need_terminal, open_cockpit
    from sessions.store import runs_dir_from

    if cockpit:
        need_terminal()
    folder = runs_dir_from(runs_dir)
    if signal.SIGINT in signal.sigpending():
        raise typer.Exit(EXIT_INTERRUPTED)
    paths = launch(config, folder, name)
    if cockpit or detach:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if cockpit:
        open_cockpit(folder, paths)
    elif detach:
        if as_json:
            print_json({"run": paths.run_id, "path": str(paths.root)})
        else:
            typer.echo(f"{paths.run_id} started; `nora watch {paths.run_id}` follows it, `nora stop` ends it")
    else:
        raise typer.Exit(follow(paths, on_interrupt="stop", as_json=as_json))


def demo(runs_dir: RunsDir = None, as_json: AsJson = False) -> None:
    """One real run, a vision transformer on handwritten digits, live in the cockpit."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    train(list(DEMO), runs_dir=runs_dir, cockpit=interactive, as_json=as_json)
