"""One run: its charts, its console, its configuration and everything else that is known of it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from textual import events, on
from textual.binding import BindingType
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input

from nora_tui.actions import Action, Place, bindings
from nora_tui.bridge import (
    ConsoleChanged,
    ConsoleFollower,
    RunChanged,
    RunFollower,
    RunTexts,
    RunView,
    TextsChanged,
    Unreadable,
)
from nora_tui.cases import waiting
from nora_tui.format import plural
from nora_tui.screens.steering import STEERING, Steering
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.config_view import config_lines
from nora_tui.widgets.console import Console
from nora_tui.widgets.detailed_list import DetailedList
from nora_tui.widgets.info_view import info_lines
from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.metric_grid import MetricGrid
from nora_tui.widgets.run_lines import ending, fact_pieces, progress_pieces, status_pieces
from nora_tui.widgets.tab_bar import TabBar
from nora_tui.widgets.toned import Piece
from nora_tui.widgets.waiting_panel import WaitingPanel
from sessions.paths import SessionPaths
from sessions.state import SessionState

if TYPE_CHECKING:
    from nora_tui.widgets.chart import Mark

Pane = Literal["charts", "norms", "timeline", "console", "config", "info"]
PANES: dict[Pane, Place] = {
    "charts": "charts",
    "norms": "records",
    "timeline": "records",
    "console": "console",
    "config": "text",
    "info": "text",
}
TOLD = ("violations", "proposals", "resolutions", "actions", "outcomes", "policies", "notes", "refused")
"""The parts of a state that the timeline tells of."""
PANEL_SHARE = 0.55
"""Of the lines under the tabs: what the panel of a proposal takes at most."""


class RunScreen(Steering):
    PLACES: ClassVar[tuple[Place, ...]] = ("run", "charts", "records", "console", "text", "filter")
    BINDINGS: ClassVar[list[BindingType]] = [*bindings(*PLACES)]

    def __init__(self, paths: SessionPaths, state: SessionState | None = None, data: str = "") -> None:
        """Show a run; ``state`` and ``data`` are what is known of it already."""
        super().__init__()
        self._paths = paths
        self._view = RunView(state or SessionState(run_id=paths.run_id, name=paths.run_id), loading=True)
        self._settled = self._view.state
        """How it stood when all was read: what waits cannot be told from a part of the record."""
        self._marked: tuple[tuple[object, object], tuple[Mark, ...]] = ((), ()), ()
        self._listed: dict[Pane, tuple[object, ...]] = {}
        self._texts = RunTexts(data=data)
        self._problem = ""
        self._pane: Pane = "charts"
        self._follower = RunFollower(self, paths)
        self._console_follower: ConsoleFollower | None = None

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield Bar(id="facts")
        yield Bar(id="progress")
        yield Bar(id="ending")
        yield TabBar([(pane, pane.capitalize()) for pane in PANES])
        with ContentSwitcher(initial="charts"):
            yield MetricGrid(id="charts")
            yield DetailedList(empty="no norms", id="norms")
            yield DetailedList(empty="nothing was broken, proposed or asked so far", id="timeline")
            yield Console(id="console")
            yield LinesView(id="config")
            yield LinesView(id="info")
        yield WaitingPanel()
        yield Input(id="filter", placeholder="words that a metric's name or split holds", compact=True)

    def places(self) -> frozenset[Place]:
        if isinstance(self.focused, Input):
            return frozenset({"filter"})
        return frozenset({"run", PANES[self._pane]})

    def actions(self) -> list[Action]:
        unavailable = set(STEERING) if self._view.state.ended else set()
        if not waiting(self._settled):
            unavailable.add("decide")
        return [action for action in super().actions() if action.name not in unavailable]

    @property
    def paths(self) -> SessionPaths:
        return self._paths

    @property
    def state(self) -> SessionState:
        return self._view.state

    def on_mount(self) -> None:
        super().on_mount()
        self._show_head()
        self._show_pane()
        self.set_interval(1.0, self._tick)
        self.call_after_refresh(self._follower.start)  # the first paint is not kept waiting

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._tick()

    def on_unmount(self) -> None:
        self._follower.stop()
        if self._console_follower is not None:
            self._console_follower.stop()

    @property
    def loaded(self) -> bool:
        """Whether everything that is recorded so far is shown."""
        return not self._view.loading

    # --- what the bridge says ---

    def on_run_changed(self, message: RunChanged) -> None:
        before = self._view.state.ended, waiting(self._settled)
        self._view, self._problem = message.view, ""
        if not message.view.loading:
            self._settled = message.view.state
            self.app.heard(self._paths, self._settled)
        self._tick()
        self._show_charts()
        self._show_records()
        if self._pane == "info":
            self._show_info()
        if before != (self._view.state.ended, waiting(self._settled)):
            self.refresh_hints()

    def on_texts_changed(self, message: TextsChanged) -> None:
        self._texts = message.texts
        self._show_head()
        self.query_one("#config", LinesView).show(config_lines(self._texts.config))
        if self._pane == "info":
            self._show_info()

    def on_console_changed(self, message: ConsoleChanged) -> None:
        console = self.query_one(Console)
        console.show_lines(message.lines, at_start=message.at_start, at_end=message.at_end)

    def on_unreadable(self, message: Unreadable) -> None:
        self._problem = message.why
        self._show_head()

    # --- what is shown ---

    def _tick(self) -> None:
        """Show what changes with time alone, too."""
        self._show_head()
        room = max(4, int((self.size.height - 7) * PANEL_SHARE))
        self.query_one(WaitingPanel).show(self._settled, waiting(self._settled), self.size.width, room)

    def _show_head(self) -> None:
        state = self._view.state
        path: list[Piece] = [("nora", "accent"), (" › ", "faint"), (state.run_id, "strong")]
        if self.app.read_only:
            path.append(("  read-only", "warn"))
        self.query_one("#title", Bar).show(path, status_pieces(state))
        self.query_one("#facts", Bar).show(fact_pieces(state, self._texts.data))
        progress = self.query_one("#progress", Bar)
        progress.show(progress_pieces(state, self.size.width - 2, loading=self._view.loading))
        words: list[Piece] = [(self._problem, "bad")] if self._problem else ending(state)
        last = self.query_one("#ending", Bar)
        last.set_class(bool(words), "-shown")
        last.show(words)

    def _show_pane(self) -> None:
        self.query_one(TabBar).show(self._pane, self._beside_tabs())
        switcher = self.query_one(ContentSwitcher)
        switcher.current = self._pane
        if self._pane == "charts":
            self._show_charts()
        elif self._pane == "info":
            self._show_info()
        elif self._pane in ("norms", "timeline"):
            self._show_records()
        elif self._pane == "console" and self._console_follower is None:
            self._console_follower = ConsoleFollower(self, self._paths.console)
            self._console_follower.start()
        switcher.query_one(f"#{self._pane}").focus()
        self.refresh_hints()

    def _show_charts(self) -> None:
        self.query_one(MetricGrid).show(self._view.columns, self._marks_of(self._view.state))
        self.query_one(TabBar).show(self._pane, self._beside_tabs())

    def _marks_of(self, state: SessionState) -> "tuple[Mark, ...]":
        """Return what is marked on the curves; the same object as long as nothing of it changed."""
        told = state.violations, state.actions
        if any(old is not new for old, new in zip(self._marked[0], told, strict=True)):
            from nora_tui.plots import marks

            self._marked = told, marks(state)
        return self._marked[1]

    def _show_records(self) -> None:
        """Show the norms or the timeline, where one of them is in front and something of it changed."""
        state = self._view.state
        if self._pane == "norms":
            shown = state.standings, state.violations, state.outcomes
        elif self._pane == "timeline":
            shown = tuple(getattr(state, name) for name in TOLD)
        else:
            return
        before = self._listed.get(self._pane, ())
        if len(before) == len(shown) and all(old is new for old, new in zip(before, shown, strict=True)):
            return
        self._listed[self._pane] = shown
        view = self.query_one(f"#{self._pane}", DetailedList)
        if self._pane == "norms":
            from nora_tui.widgets.norms_view import first_broken, norm_entries

            view.show(norm_entries(state))
            if not before:
                view.select(first_broken(state))
        else:
            from nora_tui.widgets.timeline_view import timeline_entries

            view.show(timeline_entries(state), follow=True)
        self.query_one(TabBar).show(self._pane, self._beside_tabs())

    def _show_info(self) -> None:
        self.query_one("#info", LinesView).show(info_lines(self._view.state, self._texts.environment))

    def _beside_tabs(self) -> list[list[Piece]]:
        if self._pane == "console":
            following = self.query_one(Console).following
            return [[("following", "accent") if following else ("not following", "muted")]]
        if self._pane == "norms":
            from nora_tui.widgets.norms_view import norms_summary

            return norms_summary(self._view.state)
        if self._pane != "charts":
            return []
        grid = self.query_one(MetricGrid)
        if not grid.total:
            return [[("no metrics yet", "muted")]]
        number = (f"{grid.found} of " if grid.words else "") + plural(grid.total, "chart")
        groups: list[list[Piece]] = [[(number, "muted")]]
        if grid.words:
            groups.insert(0, [("filter ", "muted"), (grid.words, "accent")])
        if grid.pages > 1:
            groups.append([(f"page {grid.page + 1}/{grid.pages}", "muted")])
        return groups

    # --- what the person does ---

    def go(self, move: Go) -> None:
        pane = self.query_one(f"#{self._pane}")
        assert isinstance(pane, MetricGrid | LinesView | DetailedList)
        pane.go(move)

    def _switch(self, pane: Pane) -> None:
        self._pane = pane
        self._show_pane()

    def action_next_pane(self) -> None:
        panes = list(PANES)
        self._switch(panes[(panes.index(self._pane) + 1) % len(panes)])

    def action_previous_pane(self) -> None:
        panes = list(PANES)
        self._switch(panes[(panes.index(self._pane) - 1) % len(panes)])

    def action_charts(self) -> None:
        self._switch("charts")

    def action_norms(self) -> None:
        self._switch("norms")

    def action_timeline(self) -> None:
        self._switch("timeline")

    def action_console(self) -> None:
        self._switch("console")

    def action_config(self) -> None:
        self._switch("config")

    def action_info(self) -> None:
        self._switch("info")

    @on(TabBar.Chosen)
    def _tab_chosen(self, message: TabBar.Chosen) -> None:
        self._switch(next(pane for pane in PANES if pane == message.name))

    def action_enlarge(self) -> None:
        self.query_one(MetricGrid).toggle_alone()

    def action_log(self) -> None:
        self.query_one(MetricGrid).toggle_log()

    def action_log_all(self) -> None:
        self.query_one(MetricGrid).toggle_log_all()

    @on(MetricGrid.Moved)
    @on(Console.FollowChanged)
    def _moved(self) -> None:
        self.query_one(TabBar).show(self._pane, self._beside_tabs())

    def action_follow(self) -> None:
        self.query_one(Console).toggle_follow()

    @on(Console.Wanted)
    def _wanted(self, message: Console.Wanted) -> None:
        if self._console_follower is not None:
            self._console_follower.ask(message.where)

    def action_details(self) -> None:
        self.query_one(f"#{self._pane}", DetailedList).toggle_details()

    def action_decide(self) -> None:
        if self.query_one(WaitingPanel).hears:
            from nora_tui.screens.decide import DecideScreen

            self.app.push_screen(DecideScreen(self._paths, self._settled, waiting(self._settled)[0]))

    def chosen_norm(self) -> str:
        selected = self.query_one("#norms", DetailedList).selected if self._pane == "norms" else None
        return selected.key if selected else ""

    # --- the filter, and the way out ---

    def action_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.add_class("-shown")
        line.focus()

    @on(Input.Changed, "#filter")
    def _filtered(self, message: Input.Changed) -> None:
        self.query_one(MetricGrid).filter(message.value)

    @on(Input.Submitted, "#filter")
    def action_keep_filter(self) -> None:
        line = self.query_one("#filter", Input)
        line.set_class(bool(line.value), "-shown")
        self.query_one(MetricGrid).focus()

    def action_back(self) -> None:
        """Leave the filter, else the enlarged chart, else the run."""
        line = self.query_one("#filter", Input)
        grid = self.query_one(MetricGrid)
        if line.has_class("-shown"):
            line.value = ""
            line.remove_class("-shown")
            grid.focus()
        elif grid.alone and self._pane == "charts":
            grid.toggle_alone()
        elif PANES[self._pane] == "records" and self.query_one(f"#{self._pane}", DetailedList).alone:
            self.action_details()
        else:
            self.app.show_runs()
