"""``nora stop``: ask, and see it obeyed."""

import threading

import typer

from configs.errors import ConfigError
from nora_tui.cli.output import print_json
from sessions.paths import SessionPaths
from sessions.requests import Stop, ask
from sessions.store import SessionReader, read_session
from sessions.tail import wakes


def stop_run(paths: SessionPaths, reason: str | None, *, wait: bool, as_json: bool) -> None:
    """Ask the run to stop and, with ``wait``, return when it has ended.

    Raises:
        ConfigError: The run has ended already.
    """
    reader = read_session(paths, curves=False)
    if reader.state.ended:
        raise ConfigError(f"{paths.run_id} has ended already ({reader.state.status}); there is nothing to stop")
    ask(paths, Stop(via="cli", reason=reason))
    if wait:
        _until_ended(reader)
    status = reader.state.status if wait else "stopping"
    print_json({"run": paths.run_id, "status": status}) if as_json else typer.echo(f"{paths.run_id} {status}")


def _until_ended(reader: SessionReader) -> None:
    for _ in wakes([reader.paths.root], threading.Event()):
        reader.poll()
        if reader.state.ended:
            return
