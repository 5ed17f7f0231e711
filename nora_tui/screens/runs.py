"""All runs of a folder, live."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import Input

from nora_tui.actions import Action, Place, bindings
from nora_tui.bridge import ListedRun, RunsChanged, RunsFollower, Unreadable
from nora_tui.cases import waiting
from nora_tui.format import plural
from nora_tui.screens.base import NoraScreen
from nora_tui.screens.stopping import confirm_stop
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.runs_table import RunsTable
from nora_tui.widgets.toned import Piece


class RunsScreen(NoraScreen):
    PLACES: ClassVar[tuple[Place, ...]] = ("runs", "filter")
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("runs", "filter")]

    def __init__(self, runs_dir: Path) -> None:
        super().__init__()
        self._runs_dir = runs_dir
        self._follower = RunsFollower(self, runs_dir)
        self._runs: tuple[ListedRun, ...] = ()
        self._loading = True
        self._problem = ""
        self._deciding = False

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield RunsTable()
        yield LinesView(id="empty")
        yield Input(
            id="filter", placeholder="words that a run holds: its name, workload, data, state, mode, tags", compact=True
        )

    def places(self) -> frozenset[Place]:
        return frozenset({"filter"} if isinstance(self.focused, Input) else {"runs"})

    def actions(self) -> list[Action]:
        unavailable = set() if self._stoppable() else {"stop"}
        selected = self._selected_run()
        if selected is None:
            unavailable.add("open")
        if selected is None or not selected.waiting:
            unavailable.add("decide")
        if not self._words and not isinstance(self.focused, Input):
            unavailable.add("back")
        return [action for action in super().actions() if action.name not in unavailable]

    def on_mount(self) -> None:
        super().on_mount()
        self.query_one(RunsTable).focus()
        self._show()
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._follower.start)  # the first paint is not kept waiting

    def on_screen_resume(self) -> None:
        super().on_screen_resume()
        self._deciding = False
        self._follower.wanted.set()

    def on_screen_suspend(self) -> None:
        if not self._deciding:  # a proposal that was opened here is followed from here
            self._follower.wanted.clear()

    def on_unmount(self) -> None:
        self._follower.stop()

    # --- what the bridge says ---

    def on_runs_changed(self, message: RunsChanged) -> None:
        self._runs, self._loading, self._problem = message.runs, message.loading, ""
        if not message.loading:
            for run in message.runs:
                self.app.heard(run.paths, run.state)
        self._show()

    def on_unreadable(self, message: Unreadable) -> None:
        self._problem = message.why
        self._show()

    def _tick(self) -> None:
        """Ages grow although nothing happens."""
        self.query_one(RunsTable).refresh()

    # --- what is shown ---

    @property
    def _words(self) -> str:
        return self.query_one(Input).value

    def _show(self) -> None:
        found = [run for run in self._runs if _holds(run, self._words)]
        self.query_one(RunsTable).show(found)
        empty = not found and (not self._loading or bool(self._problem))
        self.set_class(empty, "-empty")
        if empty:
            self.query_one("#empty", LinesView).show(self._empty_lines())
        self.query_one("#title", Bar).show(*self._title(len(found)))
        self.refresh_hints()

    def _title(self, found: int) -> tuple[list[Piece], list[Piece]]:
        running = sum(not run.state.ended for run in self._runs)
        waiting = sum(run.waiting for run in self._runs)
        left: list[Piece] = [("nora", "accent"), ("  runs", "strong"), (f"  {self._runs_dir}", "muted")]
        if self.app.read_only:
            left.append(("  read-only", "warn"))
        right: list[Piece] = []
        if waiting:
            right += [(f"◆ {waiting} waiting for you", "warn"), ("   ", "plain")]
        if running:
            right += [(f"● {running} running", "busy"), ("   ", "plain")]
        number = (f"{found} of " if self._words else "") + plural(len(self._runs), "run")
        right.append((number + (" …" if self._loading else ""), "muted"))
        return left, right

    def _empty_lines(self) -> list[list[Piece]]:
        if self._problem:
            return [[(self._problem, "bad")]]
        if self._words:
            return [
                [("No run holds ", "plain"), (self._words, "strong"), (".", "plain")],
                [("Esc shows all again.", "muted")],
            ]
        return [
            [("No runs here yet.", "strong")],
            [],
            [("Press ", "muted"), ("n", "accent"), (" to start one, or in a shell ", "muted"), ("nora demo", "plain")],
            [("which trains a vision transformer on handwritten digits.", "muted")],
        ]

    # --- what the person does ---

    def go(self, move: Go) -> None:
        self.query_one(RunsTable).go(move)

    @on(RunsTable.Selected)
    def _selected(self) -> None:
        self.refresh_hints()

    @on(RunsTable.Opened)
    def action_open(self) -> None:
        from nora_tui.screens.run import RunScreen

        run = self._selected_run()
        if run is not None:
            self.app.push_screen(RunScreen(run.paths, run.state, run.data))

    def action_decide(self) -> None:
        from nora_tui.screens.decide import DecideScreen

        run = self._selected_run()
        if run is not None and run.waiting:
            self._deciding = True
            self.app.push_screen(DecideScreen(run.paths, run.state, waiting(run.state)[0]))

    def action_new(self) -> None:
        from nora_tui.screens.new_run import NewRunScreen

        self.app.push_screen(NewRunScreen(self._runs_dir))

    def action_stop(self) -> None:
        run = self._selected_run()
        if run is not None:
            confirm_stop(self.app, run.paths, run.state)

    def _selected_run(self) -> ListedRun | None:
        selected = self.query_one(RunsTable).selected
        return selected if isinstance(selected, ListedRun) else None

    def _stoppable(self) -> bool:
        run = self._selected_run()
        return run is not None and not run.state.ended

    # --- the filter ---

    def action_filter(self) -> None:
        line = self.query_one(Input)
        line.add_class("-shown")
        line.focus()

    @on(Input.Changed)
    def _filtered(self) -> None:
        self._show()

    @on(Input.Submitted)
    def action_keep_filter(self) -> None:
        line = self.query_one(Input)
        line.set_class(bool(line.value), "-shown")
        self.query_one(RunsTable).focus()

    def action_back(self) -> None:
        """Leave the filter; there is no screen under this one."""
        line = self.query_one(Input)
        line.value = ""
        line.remove_class("-shown")
        self._show()
        self.query_one(RunsTable).focus()


def _holds(run: ListedRun, words: str) -> bool:
    state = run.state
    text = " ".join(
        (state.run_id, state.workload, run.data, state.status, state.mode, state.regime, *state.tags)
    ).lower()
    return all(word in text for word in words.lower().split())
