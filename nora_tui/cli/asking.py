"""Ask something of a run, and wait for its answer."""

import threading
from collections.abc import Callable
from typing import TypeVar

import typer

from configs.errors import ConfigError
from nora_tui.cli.output import one_line
from sessions import events
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, ask
from sessions.state import SessionState
from sessions.store import SessionReader, read_session
from sessions.tail import wakes

EXIT_INTERRUPTED = 130
T = TypeVar("T")


def live(paths: SessionPaths, what: str) -> SessionReader:
    """Return a reader of a run that can still be asked something.

    Raises:
        ConfigError: The run has ended; there is nothing to ``what``.
    """
    reader = read_session(paths, curves=False)
    if reader.state.ended:
        raise ConfigError(f"{paths.run_id} has ended already ({reader.state.status}); there is nothing to {what}")
    return reader


def answered(reader: SessionReader, request: AnyRequest, answer: Callable[[SessionState], T | None]) -> T:
    """Append the request, and return the run's answer to it as soon as ``answer`` finds one.

    A held run answers at once, a running one by the end of its step.

    Raises:
        ConfigError: The run refused, or ended before it answered.
    """
    run = reader.paths.run_id
    before = len(reader.state.refused)
    ask(reader.paths, request)
    try:
        for _ in wakes([reader.paths.root], threading.Event()):
            reader.poll()
            state = reader.state
            if (why := _refusal(state.refused[before:], request.id)) is not None:
                raise ConfigError(f"{run} refuses: {one_line(why)}")
            if (found := answer(state)) is not None:
                return found
            if state.ended:
                raise ConfigError(f"{run} ended before it answered ({state.status}: {one_line(state.reason)})")
    except KeyboardInterrupt:
        typer.echo(f"left; {run} was asked and will answer, `nora show {run}` says how", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    raise AssertionError("wakes ended, though nobody stopped it")


def _refusal(refused: tuple[events.RequestRefused, ...], request: str) -> str | None:
    """Return why the request was refused, by itself or with the whole file of requests."""
    for event in refused:
        if event.request == request or (not event.request and event.why.startswith("requests.jsonl")):
            return event.why
    return None


def action_with(request_id: str) -> Callable[[SessionState], events.Action | None]:
    """Return an answer: the end of the action that bears the request's id."""

    def found(state: SessionState) -> events.Action | None:
        ended = (action for action in state.actions if action.id == request_id and action.state != "started")
        return next(ended, None)

    return found
