"""``nora tell``, ``pause``, ``resume`` and ``note``: have a run do what nobody proposed."""

from collections.abc import Sequence
from typing import Any

import typer

from configs.errors import ConfigError, NoraError
from nora_tui.cli.asking import action_with, answered, live
from nora_tui.cli.lines import action_line
from nora_tui.cli.output import harmless, one_line, print_json
from nora_tui.cli.parameters import parsed
from nora_tui.wording import call
from norms.actions import ACTIONS, check_params
from sessions.events import Action, Note
from sessions.paths import SessionPaths
from sessions.requests import Command, WriteNote, ask
from sessions.state import SessionState


class ActionFailed(NoraError):
    """The run tried, and could not."""

    exit_code = 1


def tell_run(
    paths: SessionPaths, action: str, *, given: Sequence[str], reason: str | None, wait: bool, as_json: bool
) -> None:
    """Have the run carry out an action and, with ``wait``, say how it went.

    Raises:
        ConfigError: There is no such action, its parameters cannot be, the run has ended, or it refused.
        ActionFailed: The run tried, and could not.
    """
    params = parsed(action, given)
    if action == "stop":
        raise ConfigError(f"`nora stop {paths.run_id}` stops a run")
    if reason is not None and "reason" in ACTIONS[action].params:
        params.setdefault("reason", reason)
    check_params(action, params)
    reader = live(paths, action.replace("_", " "))
    request = Command(via="cli", reason=reason, action=action, params=params)
    if not wait:
        ask(paths, request)
        _print(paths, request, None, as_json)
        return
    done = answered(reader, request, action_with(request.id))
    if done.state == "failed":
        raise ActionFailed(f"{paths.run_id}: {action_line(done)}")
    _print(paths, request, done, as_json)


def _print(paths: SessionPaths, request: Command, done: Action | None, as_json: bool) -> None:
    if as_json:
        asked: dict[str, Any] = {"run": paths.run_id, "request": request.id, "action": request.action}
        answer = {
            "params": done.params if done else request.params,
            "state": done.state if done else "asked",
            "step": done.step if done else None,
            "effect": done.effect if done else None,
        }
        print_json(asked | answer)
    elif done is None:
        typer.echo(f"{paths.run_id} was asked: {one_line(call(request.action, request.params))}")
    else:
        typer.echo(f"{paths.run_id}: {action_line(done)}")


def write_note(paths: SessionPaths, text: str, *, wait: bool, as_json: bool) -> None:
    """Have the run write a note into its session.

    Raises:
        ConfigError: The text is empty, the run has ended, or it refused.
    """
    if not text.strip():
        raise ConfigError("a note needs text")
    reader = live(paths, "note")
    request = WriteNote(via="cli", text=text)
    note: Note | None = None
    if wait:
        before = len(reader.state.notes)

        def written(state: SessionState) -> Note | None:
            mine = (note for note in state.notes[before:] if (note.text, note.by) == (text, request.by))
            return next(mine, None)

        note = answered(reader, request, written)
    else:
        ask(paths, request)
    step = note.step if note else None
    if as_json:
        answer = {"state": "written" if note else "asked", "step": step, "text": text, "by": request.by}
        print_json({"run": paths.run_id, "request": request.id} | answer)
    elif note is None:
        typer.echo(f"{paths.run_id} was asked to note it")
    else:
        typer.echo(f"{paths.run_id}: noted" + ("" if step is None else f" at step {step}") + f": {harmless(text)}")
