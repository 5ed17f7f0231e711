"""``nora train`` and ``nora demo``: start a run."""

import signal
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import typer

from configs.errors import ConfigError
from nora_tui.cli.options import AsJson, RunsDir

DEMO = ("workload=vit", "data=digits", "violation=amp_nan")


class Approve(StrEnum):
    ASK = "ask"
    AUTO = "auto"
    RECORD = "record"


class FailOn(StrEnum):
    CRITICAL = "critical"
    MAJOR = "major"
    NEVER = "never"


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
    approve: Annotated[
        Approve | None,
        typer.Option("--approve", help="ask a person, take what is recommended, or change nothing. [default: ask]"),
    ] = None,
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="End with 7 if a norm so severe was broken and not cured. [default: critical]"),
    ] = None,
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
    config = compose(_with_flags(overrides or [], {"approve": approve, "fail_on": fail_on}))
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


def _with_flags(overrides: list[str], flags: Mapping[str, str | None]) -> list[str]:
    """Return the overrides with those that flags stand for.

    Raises:
        ConfigError: A flag says one thing and an override of the same key another.
    """
    for key, value in flags.items():
        if value is None:
            continue
        given = [text for text in overrides if text.partition("=")[0] == key]
        for text in given:
            if text != f"{key}={value}":
                raise ConfigError(f"--{key.replace('_', '-')} {value} and {text} differ; give one of them")
        overrides = [*overrides, f"{key}={value}"]
    return overrides


def demo(runs_dir: RunsDir = None, as_json: AsJson = False) -> None:
    """One real run with a planted fault, live in the cockpit: a vision transformer whose loss becomes NaN.

    Without a terminal nobody can be asked, and what is recommended is done.
    """
    interactive = sys.stdin.isatty() and sys.stdout.isatty() and not as_json
    overrides = [*DEMO] if interactive else [*DEMO, "approve=auto"]
    train(overrides, runs_dir=runs_dir, cockpit=interactive, as_json=as_json)
