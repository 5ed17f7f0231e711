"""Stop a run, once the person has said that this is meant."""

from typing import TYPE_CHECKING

from nora_tui.screens.confirm import ConfirmScreen
from sessions.paths import SessionPaths
from sessions.requests import Stop
from sessions.state import SessionState

if TYPE_CHECKING:
    from nora_tui.app import NoraApp


def confirm_stop(app: "NoraApp", paths: SessionPaths, state: SessionState) -> None:
    """Ask whether to stop a run, and with a yes ask it of the run."""

    def stop() -> None:
        app.ask(paths, Stop(via="tui"))

    app.push_screen(
        ConfirmScreen(f"Stop {state.run_id}?", "It ends after its current step and writes a checkpoint first.", stop)
    )
