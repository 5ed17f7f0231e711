"""A question that needs a deliberate key."""

from collections.abc import Callable, Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.widget import Widget

from nora_tui.actions import Place, bindings
from nora_tui.screens.base import NoraScreen
from nora_tui.widgets.lines_view import LinesView


class ConfirmScreen(NoraScreen):
    """Asks whether to do something; only ``y`` does it, and Enter, which may have been meant for another, does not."""

    PLACES: ClassVar[tuple[Place, ...]] = ("confirm",)
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("confirm")]

    def __init__(self, question: str, what_happens: str, do: Callable[[], None]) -> None:
        super().__init__()
        self._question = question
        self._what_happens = what_happens
        self._do = do

    def content(self) -> Iterable[Widget]:
        yield LinesView(id="question")

    def on_mount(self) -> None:
        super().on_mount()
        lines = self.query_one(LinesView)
        lines.show([[(self._question, "strong")], [], [(self._what_happens, "plain")]])

    def action_yes(self) -> None:
        self.app.pop_screen()
        self.app.call_later(self._do)  # on the screen that the question was asked on

    def action_no(self) -> None:
        self.app.pop_screen()
