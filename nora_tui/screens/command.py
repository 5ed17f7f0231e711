"""Tell a run something that nobody proposed: an action with its parameters, or a note."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from textual import events, on
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input

from configs.errors import ConfigError
from nora_tui.actions import Place, bindings
from nora_tui.screens.base import NoraScreen
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.fields import Field, ParamFields
from nora_tui.widgets.lines_view import LinesView
from nora_tui.widgets.toned import wrapped
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, WriteNote


class FormScreen(NoraScreen):
    """A form that makes one request of a run; Enter goes to the next field, and only ``send`` sends."""

    PLACES: ClassVar[tuple[Place, ...]] = ("form",)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("form")]

    def __init__(self, paths: SessionPaths, heading: str, what_happens: str) -> None:
        super().__init__()
        self._paths = paths
        self._heading = heading
        self._what_happens = what_happens
        self._said = ""

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield LinesView(id="about")
        with Vertical(id="answer"):
            yield self.fields()
            yield LinesView(id="said")

    @abstractmethod
    def fields(self) -> Widget:
        """Return what is typed in."""

    @abstractmethod
    def request(self) -> AnyRequest:
        """Return what the form asks for.

        Raises:
            ConfigError: It asks for nothing that is possible.
        """

    def on_mount(self) -> None:
        super().on_mount()
        path = [("nora", "accent"), (" › ", "faint"), (self._paths.run_id, "muted"), (" › ", "faint")]
        self.query_one("#title", Bar).show([*path, (self._heading, "strong")])
        for view in self.query(LinesView):
            view.can_focus = False
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._show()

    def _show(self) -> None:
        width = max(20, self.size.width - 3)
        about, said = self.query_one("#about", LinesView), self.query_one("#said", LinesView)
        about.show([[(line, "plain")] for line in wrapped(self._what_happens, width)])
        said.show([[(line, "bad")] for line in wrapped(self._said, width)] if self._said else [])
        said.styles.height = 3

    def action_next_field(self) -> None:
        self.focus_next("#answer *")

    def action_previous_field(self) -> None:
        self.focus_previous("#answer *")

    @on(Input.Submitted)
    def _entered(self) -> None:
        self.action_next_field()

    @on(ParamFields.Changed)
    @on(Input.Changed)
    def _typed(self) -> None:
        self._said = ""
        self._show()

    def action_send(self) -> None:
        try:
            request = self.request()
        except ConfigError as error:
            words = str(error)
            self._said = f"{words[0].upper()}{words[1:]}."
            self._show()
            return
        self.app.pop_screen()
        self.app.ask(self._paths, request)


class CommandScreen(FormScreen):
    """An action with its parameters."""

    def __init__(self, paths: SessionPaths, action: str, heading: str, given: Mapping[str, Any]) -> None:
        from norms.actions import action_spec

        super().__init__(paths, heading, f"The run will {action_spec(action).effect}.")
        self._action = action
        self._given = given

    def fields(self) -> Widget:
        return ParamFields(id="params")

    def on_mount(self) -> None:
        super().on_mount()
        fields = self.query_one(ParamFields)
        fields.offer(self._action, self._given)
        fields.focus_first()

    def request(self) -> Command:
        from norms.actions import check_params

        params = self.query_one(ParamFields).values()
        check_params(self._action, params)
        return Command(via="tui", action=self._action, params=params)


class NoteScreen(FormScreen):
    """A note for the record."""

    def __init__(self, paths: SessionPaths) -> None:
        super().__init__(paths, "note", "It stands in the record of the run, with your name and the step.")

    def fields(self) -> Widget:
        return Field(id="text")

    def on_mount(self) -> None:
        super().on_mount()
        field = self.query_one(Field)
        field.offer("note", "", "what whoever reads this run later should know")
        field.input.focus()

    def request(self) -> WriteNote:
        text = self.query_one(Field).input.value.strip()
        if not text:
            raise ConfigError("there is nothing to write yet")
        return WriteNote(via="tui", text=text)
