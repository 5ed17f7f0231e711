"""What a person can tell a run unasked, from the run's own screen."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from nora_tui.cases import paused
from nora_tui.screens.base import NoraScreen
from nora_tui.screens.stopping import confirm_stop
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command
from sessions.state import SessionState

STEERING = frozenset({"stop", "pause", "checkpoint", "set_lr", "roll_back", "mute", "note"})
"""Actions that only a run which goes on can answer."""


class Steering(NoraScreen):
    """The commands; what the run answers is told by the app when it comes."""

    @property
    @abstractmethod
    def paths(self) -> SessionPaths: ...

    @property
    @abstractmethod
    def state(self) -> SessionState: ...

    def chosen_norm(self) -> str:
        """Return the norm that is selected, or ""."""
        return ""

    def action_stop(self) -> None:
        confirm_stop(self.app, self.paths, self.state)

    def action_pause(self) -> None:
        self._ask(Command(via="tui", action="resume" if paused(self.state) else "pause"))

    def action_checkpoint(self) -> None:
        self._ask(Command(via="tui", action="checkpoint_now"))

    def action_set_lr(self) -> None:
        self._form("set_lr", "learning rate", {})

    def action_roll_back(self) -> None:
        self._form("roll_back", "roll back", {})

    def action_mute(self) -> None:
        norm = self.chosen_norm()
        self._form("mute", "mute a norm", {"norm": norm} if norm else {})

    def action_note(self) -> None:
        from nora_tui.screens.command import NoteScreen

        self.app.push_screen(NoteScreen(self.paths))

    def _ask(self, request: AnyRequest) -> None:
        self.app.ask(self.paths, request)

    def _form(self, action: str, heading: str, given: Mapping[str, Any]) -> None:
        from nora_tui.screens.command import CommandScreen

        self.app.push_screen(CommandScreen(self.paths, action, heading, given))
