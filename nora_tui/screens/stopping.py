"""Stop a run, once the person has said that this is meant."""

from typing import TYPE_CHECKING

from configs.errors import StorageError
from nora_tui.screens.confirm import ConfirmScreen
from sessions.paths import SessionPaths
from sessions.requests import Stop, ask
from sessions.state import SessionState

if TYPE_CHECKING:
    from nora_tui.app import NoraApp


def confirm_stop(app: "NoraApp", paths: SessionPaths, state: SessionState) -> None:
    """Ask whether to stop a run, and with a yes ask it of the run."""

    def stop() -> None:
        try:
            ask(paths, Stop(via="tui"))
        except StorageError as error:
            app.notify(str(error), severity="error", markup=False)
        else:
            app.notify(f"{state.run_id} stops after its current step", markup=False)

    app.push_screen(
        ConfirmScreen(f"Stop {state.run_id}?", "It ends after its current step and writes a checkpoint first.", stop)
    )
