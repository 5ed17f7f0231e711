"""Start a run: what it learns from, and whatever else it should be different in."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widget import Widget
from textual.widgets import Input

from configs.load import keys_of
from configs.schema import WORKLOADS
from nora_tui.actions import Action, Place, bindings
from nora_tui.bridge import RunNotStarted, RunStarted, RunStarter
from nora_tui.screens.base import NoraScreen
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.choices import Choices
from nora_tui.widgets.lines_view import LinesView
from nora_tui.widgets.toned import wrapped


class NewRunScreen(NoraScreen):
    """A form over ``nora train``: it shows the command that it runs, and what the command says against it."""

    PLACES: ClassVar[tuple[Place, ...]] = ("new",)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("new")]

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self._starting = False
        self._said = ("", "", "plain")

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield Bar(id="about")
        yield Choices("workload", list(WORKLOADS), id="workload")
        yield Choices("data", [], id="data")
        with Horizontal(id="line"):
            yield Bar(id="label")
            yield Input(
                id="overrides",
                placeholder="train.epochs=2 seed=1 … as many key=value as wanted",
                compact=True,
                suggester=KeySuggester(self),
            )
        yield LinesView(id="outcome")

    def actions(self) -> list[Action]:
        return [action for action in super().actions() if not (self._starting and action.name == "start")]

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one("#title", Bar).show(
            [("nora", "accent"), ("  new run", "strong")], [(f"{self._runs_dir}", "muted")]
        )
        self.query_one("#label", Bar).show([("overrides", "muted")])
        self._workload_changed()
        self.query_one("#workload").focus()

    @property
    def workload(self) -> str:
        return self.query_one("#workload", Choices).value

    def overrides(self) -> list[str]:
        """Return what the form says, as overrides.

        Raises:
            ValueError: The line of overrides has a quote that does not end.
        """
        typed = shlex.split(self.query_one(Input).value)
        chosen = {"workload": self.workload, "data": self.query_one("#data", Choices).value}
        told = {override.partition("=")[0] for override in typed}  # a path to data can only be typed
        return [*(f"{key}={word}" for key, word in chosen.items() if key not in told), *typed]

    @on(Choices.Changed, "#workload")
    def _workload_changed(self) -> None:
        schema = WORKLOADS[self.workload]
        self.query_one("#data", Choices).offer(list(schema.data_sets))
        self.query_one("#about", Bar).show([((schema.__doc__ or "").partition("\n")[0], "muted")])
        self._show_command()

    @on(Choices.Changed, "#data")
    @on(Input.Changed)
    def _show_command(self) -> None:
        try:
            words = shlex.join(self.overrides())
        except ValueError as error:
            self._say("The overrides cannot be read", f"{error}.", "warn")
        else:
            self._say("nora train", words, "muted")

    def _say(self, what: str, words: str, tone: str) -> None:
        self._said = what, words, tone
        lines = wrapped(words, self.size.width - 16)
        self.query_one("#outcome", LinesView).show([[(what, tone)], *([(f"  {line}", "plain")] for line in lines)])

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._say(*self._said)

    # --- what the person does ---

    def action_next_field(self) -> None:
        self.focus_next()

    def action_previous_field(self) -> None:
        self.focus_previous()

    @on(Input.Submitted)
    def action_start(self) -> None:
        if self._starting:
            return
        try:
            overrides = self.overrides()
        except ValueError:
            return  # it is said already
        self._starting = True
        self._say("Starting …", shlex.join(overrides), "muted")
        self.refresh_hints()
        RunStarter(self, self._runs_dir, overrides).start()

    def on_run_started(self, message: RunStarted) -> None:
        self.app.show_run(message.paths)

    def on_run_not_started(self, message: RunNotStarted) -> None:
        self._starting = False
        self._say("Not started", message.why, "bad")
        self.refresh_hints()


class KeySuggester(Suggester):
    """Completes the key that is being typed."""

    def __init__(self, form: NewRunScreen) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._form = form

    async def get_suggestion(self, value: str) -> str | None:
        *_, word = value.split(" ")
        if not word or "=" in word:
            return None
        keys = keys_of(WORKLOADS[self._form.workload])
        found = next((key for key in keys if key.startswith(word)), None)
        return f"{value}{found[len(word) :]}=" if found else None
