"""The cockpit: screens over the sessions of a folder. It starts and watches runs, and none of them needs it."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App, SystemCommand
from textual.screen import Screen

from nora_tui.actions import key_name, named
from nora_tui.asking import Asker, Asking, NotAsked, asked_words
from nora_tui.screens.base import NoraScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.theme import DARK
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest
from sessions.state import SessionState

if TYPE_CHECKING:
    from nora_tui.screens.decide import DecideScreen


class NoraApp(App[None]):
    """Opens on the runs of a folder, or on one of them; ``read_only`` leaves out all that asks anything of a run."""

    CSS_PATH = "nora.tcss"
    TITLE = "NORA"
    ALLOW_SELECT = False
    COMMAND_PALETTE_BINDING = named("palette").keys[0]

    def __init__(self, runs_dir: Path, run: SessionPaths | None = None, read_only: bool = False) -> None:
        # Textual alone would turn colours into greys; without its own palette it sends none at all.
        super().__init__(ansi_color="NO_COLOR" in os.environ or None)
        self.read_only = read_only
        self._runs_dir = runs_dir
        self._run = run
        self._asking = Asking(self.bell)
        self.register_theme(DARK)
        self.theme = DARK.name

    def on_mount(self) -> None:
        self.push_screen(RunScreen(self._run) if self._run else RunsScreen(self._runs_dir))

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return DARK.variables

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        if isinstance(screen, NoraScreen):
            yield from screen.commands()

    def show_runs(self) -> None:
        """Go from a run to the runs; where the cockpit opened on the run they were not there yet."""
        if any(isinstance(screen, RunsScreen) for screen in self.screen_stack):
            self.pop_screen()
        else:
            self.switch_screen(RunsScreen(self._runs_dir))

    def show_run(self, paths: SessionPaths) -> None:
        """Go from the form that started a run to the run."""
        self.switch_screen(RunScreen(paths))

    # --- asking things of runs ---

    def ask(self, paths: SessionPaths, request: AnyRequest) -> None:
        """Ask something of a run; what it answers is told when it comes."""
        self._asking.asked(request)
        Asker(self, paths, request).start()
        if words := asked_words(request, paths.run_id):
            self.notify(words, markup=False)

    def on_not_asked(self, message: NotAsked) -> None:
        self.notify(message.why, severity="error", markup=False)
        for screen in self._deciding():
            if screen.sent == message.request.id:
                screen.refused(message.why)

    def heard(self, paths: SessionPaths, state: SessionState) -> None:
        """Take in how a run stands: ring for what begins to wait, tell what it answers, once each."""
        said = self._asking.heard(paths, state)
        shown = ""
        for screen in self._deciding():
            if screen.paths == paths:
                shown = screen.sent
                screen.take(state, said)
        for each in said:
            if not each.request or each.request != shown:  # that one stands on the screen that asked
                self.notify(each.text, severity=each.gravity, markup=False)

    def _deciding(self) -> list["DecideScreen"]:
        if "nora_tui.screens.decide" not in sys.modules:
            return []
        from nora_tui.screens.decide import DecideScreen

        return [screen for screen in self.screen_stack if isinstance(screen, DecideScreen)]

    def action_help_quit(self) -> None:
        """Ctrl+C, which people press to stop a run, stops none and leaves nothing."""
        self.notify(f"{key_name(named('quit').keys[0])} leaves the cockpit; runs go on")
