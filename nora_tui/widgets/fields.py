"""Lines to type in, each under its name, and the parameters of an action as such lines."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from textual import events
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Input

from nora_tui.widgets.bar import Bar
from nora_tui.widgets.toned import Piece

if TYPE_CHECKING:
    from norms.actions import Param


class Field(Horizontal):
    """One line to type in."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._label = Bar()
        self.input = Input(compact=True)

    def compose(self) -> Iterable[Widget]:
        yield self._label
        yield self.input

    def offer(self, label: str, text: str, placeholder: str = "") -> None:
        """Show another line, with a text in it."""
        self._label.show([(label, "muted")])
        self.input.value = text
        self.input.placeholder = placeholder
        self.input.cursor_position = len(text)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        self._label.show([(self.label, "strong")])

    def on_descendant_blur(self, event: events.DescendantBlur) -> None:
        self._label.show([(self.label, "muted")])

    @property
    def label(self) -> str:
        return self._label.text


class ParamFields(Widget):
    """The parameters of one action; what the one that is typed in may be stands under them."""

    class Changed(Message):
        """Something was typed, or other parameters are offered."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's own name
        super().__init__(id=id)
        self._fields: list[Field] = []
        self._names: list[str] = []
        self._params: Mapping[str, Param] = {}

    def compose(self) -> Iterable[Widget]:
        from norms.actions import ACTIONS

        self._fields = [Field() for _ in range(max(len(spec.params) for spec in ACTIONS.values()))]
        yield from self._fields
        yield Bar(id="allowed")

    def offer(self, action: str, given: Mapping[str, Any]) -> None:
        """Offer the parameters of ``action``, filled with those that are ``given``."""
        from norms.actions import action_spec

        self._params = action_spec(action).params
        self._names = list(self._params)
        for number, field in enumerate(self._fields):
            field.display = number < len(self._names)
            if field.display:
                name = self._names[number]
                field.offer(name, param_text(given[name]) if name in given else "", self._params[name].means)
        self._explain()

    def values(self) -> dict[str, Any]:
        """Return what was typed, as JSON values; what is no value of its kind stays a text, for the check to refuse."""
        typed = {name: field.input.value.strip() for name, field in zip(self._names, self._fields, strict=False)}
        return {name: param_value(self._params[name], text) for name, text in typed.items() if text}

    def focus_first(self) -> None:
        if self._names:
            self._fields[0].input.focus()

    def on_descendant_focus(self) -> None:
        self._explain()

    def on_descendant_blur(self) -> None:
        self._explain()

    def on_input_changed(self, message: Input.Changed) -> None:
        message.stop()
        self.post_message(self.Changed())

    def _explain(self) -> None:
        chosen = [name for name, field in zip(self._names, self._fields, strict=False) if field.input.has_focus]
        pieces: list[Piece] = []
        if chosen:
            pieces = [(allowed(self._params[chosen[0]]), "muted")]
        elif not self._names:
            pieces = [("takes no parameters", "muted")]
        self.query_one("#allowed", Bar).show(pieces)


def param_text(given: Any) -> str:
    """Return a parameter's value as a person types it."""
    match given:
        case bool():
            return str(given).lower()
        case list() | tuple():
            return ", ".join(map(str, given))
    return str(given)


def param_value(param: "Param", text: str) -> Any:
    """Return what a person typed as a JSON value, or the text itself where it is none of the parameter's kind."""
    try:
        match param.kind:
            case "count":
                return int(text.replace(",", ""))
            case "number":
                return float(text)
            case "flag":
                return {"true": True, "yes": True, "false": False, "no": False}.get(text.lower(), text)
            case "names":
                return [name for name in text.replace(",", " ").split() if name]
    except ValueError:
        return text
    return text


def allowed(param: "Param") -> str:
    """Return what a parameter may be, in a few words."""
    match param.kind:
        case "flag":
            return "true or false"
        case "choice":
            return " or ".join(param.choices)
        case "names":
            return "names, with commas between them"
        case "text":
            return "needed" if param.required else "may be left out"
    whole = "a whole number" if param.kind == "count" else "a number"
    above = f" above {param.above:g}" if param.above is not None else ""
    least = f" from {param.minimum:g}" if param.minimum is not None else ""
    most = f" up to {param.maximum:g}" if param.maximum is not None else ""
    return f"{whole}{above}{least}{most}"
