"""Commands that steer a run: decide, pause, resume, tell, note. They come back when the run has answered."""

from typing import Annotated

import typer

from nora_tui.cli.options import AsJson, Run, RunsDir

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the action.", show_default=False),
]
Reason = Annotated[str | None, typer.Option("--reason", help="Why, for the record.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return when the run has answered.")]


def register(app: typer.Typer) -> None:
    for command in (decide, pause, resume, tell, note):
        app.command()(command)


def decide(
    run: Run,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[ID] approve|override|reject", help="The proposal, where several wait; the verdict."),
    ],
    runs_dir: RunsDir = None,
    action: Annotated[str | None, typer.Option("--action", help="With override: what is to be done instead.")] = None,
    given: Set = None,
    reason: Reason = None,
    always: Annotated[bool, typer.Option("--always", help="And so whenever this norm is broken in this run.")] = False,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Answer what a run proposes: approve it, override it, or reject it and let the run go on."""
    from nora_tui.cli.deciding import decide_proposal
    from sessions.store import find, runs_dir_from

    decide_proposal(
        find(runs_dir_from(runs_dir), run),
        words,
        action=action,
        given=given or [],
        reason=reason,
        always=always,
        wait=wait,
        as_json=as_json,
    )


def pause(
    run: Run, runs_dir: RunsDir = None, reason: Reason = None, wait: Wait = True, as_json: AsJson = False
) -> None:
    """Hold a run after its current step, until `nora resume`."""
    tell(run, "pause", runs_dir=runs_dir, reason=reason, wait=wait, as_json=as_json)


def resume(
    run: Run, runs_dir: RunsDir = None, reason: Reason = None, wait: Wait = True, as_json: AsJson = False
) -> None:
    """Let a paused run go on."""
    tell(run, "resume", runs_dir=runs_dir, reason=reason, wait=wait, as_json=as_json)


def tell(
    run: Run,
    action: Annotated[str, typer.Argument(help="checkpoint_now, set_lr, roll_back, mute, …: whatever remedies are.")],
    runs_dir: RunsDir = None,
    given: Set = None,
    reason: Reason = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Have a run do something that nobody proposed, such as: nora tell RUN set_lr --set factor=0.5."""
    from nora_tui.cli.telling import tell_run
    from sessions.store import find, runs_dir_from

    paths = find(runs_dir_from(runs_dir), run)
    tell_run(paths, action, given=given or [], reason=reason, wait=wait, as_json=as_json)


def note(
    run: Run,
    text: Annotated[str, typer.Argument(help="What to write.")],
    runs_dir: RunsDir = None,
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Write a note into a run's session."""
    from nora_tui.cli.telling import write_note
    from sessions.store import find, runs_dir_from

    write_note(find(runs_dir_from(runs_dir), run), text, wait=wait, as_json=as_json)
