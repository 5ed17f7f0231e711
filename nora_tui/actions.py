"""The one registry of what a person can do: bindings, footer, help and palette are all made from it.

An action is the method ``action_<name>`` of every screen that holds one of its places. A place is a screen, or a part
of one that is in front, such as a pane of the run screen.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from textual.binding import Binding

Place = Literal[
    "runs", "run", "charts", "records", "console", "text", "filter", "decide", "form", "new", "confirm", "help"
]
PLACES: dict[Place, str] = {
    "runs": "Runs",
    "run": "A run",
    "charts": "Charts of a run",
    "records": "Norms and timeline of a run",
    "console": "Console of a run",
    "text": "Config and info of a run",
    "filter": "A filter",
    "decide": "A proposal",
    "form": "A form",
    "new": "New run",
    "confirm": "Questions",
    "help": "Help",
}
"""Every place, and its heading in the help."""

_EVERYWHERE = frozenset(PLACES)
_LISTS: frozenset[Place] = frozenset({"runs", "charts", "records", "console", "text", "filter", "decide", "help"})


@dataclass(frozen=True)
class Action:
    name: str
    keys: tuple[str, ...]
    """As Textual names them; the first is the one that hints show."""
    label: str
    help: str
    places: frozenset[Place]
    rank: int = 0
    """Where a footer is too narrow the lowest ranks go first; 0 never stands in a footer."""
    palette: bool = True
    writes: bool = False
    """Asks something of a run; not to be had in a read-only cockpit."""


def _at(*places: Place) -> frozenset[Place]:
    return frozenset(places)


ACTIONS: tuple[Action, ...] = (
    Action("open", ("enter",), "open", "Open the selected run", _at("runs"), 60),
    Action("new", ("n",), "new run", "Start a run", _at("runs"), 50, writes=True),
    Action(
        "decide", ("a",), "decide", "Look at what waits for you, and answer it", _at("runs", "run"), 70, writes=True
    ),
    Action("approve", ("y",), "approve", "Have done what is proposed", _at("decide"), 60, palette=False, writes=True),
    Action(
        "override",
        ("o",),
        "override",
        "Have something else done, or with other parameters",
        _at("decide"),
        58,
        palette=False,
        writes=True,
    ),
    Action("reject", ("r",), "reject", "Have nothing done, and say why", _at("decide"), 57, palette=False, writes=True),
    Action(
        "always",
        ("A",),
        "always",
        "Have the answer hold for this norm for the rest of the run, or only now",
        _at("decide"),
        40,
        palette=False,
        writes=True,
    ),
    Action("yes", ("y",), "yes", "Do it", _at("confirm"), 60, palette=False),
    Action("no", ("n",), "no", "Leave everything as it is", _at("confirm"), 60, palette=False),
    Action(
        "next_field", ("tab", "down", "enter"), "next", "Go to the next field", _at("new", "form"), 40, palette=False
    ),
    Action(
        "previous_field",
        ("shift+tab", "up"),
        "previous field",
        "Go to the field before",
        _at("new", "form"),
        palette=False,
    ),
    Action("start", ("ctrl+s",), "start", "Start the run as it stands; so does ⏎ in the overrides", _at("new"), 60),
    Action("send", ("ctrl+s",), "send", "Ask it of the run", _at("form"), 60, palette=False, writes=True),
    Action("next_pane", ("tab",), "pane", "Go to the next pane", _at("run"), 40, palette=False),
    Action("previous_pane", ("shift+tab",), "previous pane", "Go to the pane before", _at("run"), palette=False),
    Action("charts", ("1",), "charts", "Show the charts", _at("run")),
    Action("norms", ("2",), "norms", "Show how each norm stands", _at("run")),
    Action("timeline", ("3",), "timeline", "Show what was broken, proposed, decided and done", _at("run")),
    Action("console", ("4",), "console", "Show what the run printed", _at("run")),
    Action("config", ("5",), "config", "Show the configuration", _at("run")),
    Action("info", ("6",), "info", "Show results, checkpoints and the machine", _at("run")),
    Action("enlarge", ("enter",), "enlarge", "Show one chart alone, or all again", _at("charts"), 45),
    Action("details", ("enter",), "details", "Show all of the selected entry, or the list again", _at("records"), 45),
    Action("log", ("l",), "log y", "Turn the selected chart's y axis logarithmic, or back", _at("charts"), 35),
    Action("log_all", ("L",), "log y, all", "Turn the y axis of every chart logarithmic, or back", _at("charts")),
    Action("follow", ("f",), "follow", "Stay at the newest line, or let go of it", _at("console"), 45),
    Action("filter", ("slash",), "filter", "Show only what holds these words", _at("runs", "charts"), 30),
    Action(
        "keep_filter",
        ("enter",),
        "keep",
        "Keep the filter and go back to what it shows",
        _at("filter"),
        60,
        palette=False,
    ),
    Action(
        "stop",
        ("x",),
        "stop",
        "Stop the run after its current step, with a checkpoint",
        _at("runs", "run"),
        20,
        writes=True,
    ),
    Action(
        "pause", ("p",), "pause", "Hold the run after its current step, or let it go on", _at("run"), 19, writes=True
    ),
    Action("checkpoint", ("c",), "checkpoint", "Have a checkpoint written now", _at("run"), writes=True),
    Action("set_lr", ("s",), "learning rate", "Change the learning rate", _at("run"), writes=True),
    Action("roll_back", ("b",), "roll back", "Go back to an earlier checkpoint", _at("run"), writes=True),
    Action("mute", ("m",), "mute a norm", "Have a norm judged no longer in this run", _at("run"), writes=True),
    Action("note", ("n",), "note", "Write a note into the record", _at("run"), writes=True),
    Action("up", ("up", "k"), "up", "Go up", _LISTS, palette=False),
    Action("down", ("down", "j"), "down", "Go down", _LISTS, palette=False),
    Action("left", ("left",), "left", "Go left", _at("charts", "records", "console", "text", "decide"), palette=False),
    Action(
        "right", ("right",), "right", "Go right", _at("charts", "records", "console", "text", "decide"), palette=False
    ),
    Action("page_up", ("pageup",), "page up", "Go a page up", _LISTS, palette=False),
    Action("page_down", ("pagedown",), "page down", "Go a page down", _LISTS, palette=False),
    Action("first", ("home",), "first", "Go to the beginning", _LISTS, palette=False),
    Action("last", ("end",), "last", "Go to the end", _LISTS, palette=False),
    Action(
        "back",
        ("escape",),
        "back",
        "Step out: of a filter, an enlarged chart, a form, a screen",
        _EVERYWHERE,
        55,
        palette=False,
    ),
    Action("quit", ("q", "ctrl+q"), "quit", "Leave the cockpit; runs go on", _EVERYWHERE, 10),
    Action("palette", ("ctrl+p",), "commands", "Find any command by name", _EVERYWHERE, 5, palette=False),
    Action("help", ("question_mark", "f1"), "help", "Show every key", _EVERYWHERE, 100),
)
"""In the order in which footer and help show them."""

_KEY_NAMES: Mapping[str, str] = {
    "enter": "⏎",
    "escape": "esc",
    "slash": "/",
    "question_mark": "?",
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "tab": "⇥",
    "shift+tab": "⇧⇥",
    "f1": "F1",
}


def at(places: Collection[Place], *, read_only: bool = False) -> list[Action]:
    """Return the actions of some places, in order."""
    return [action for action in ACTIONS if not action.places.isdisjoint(places) and not (read_only and action.writes)]


def named(name: str) -> Action:
    return next(action for action in ACTIONS if action.name == name)


def bindings(*places: Place) -> list[Binding]:
    """Return what a screen that can hold these places binds; an id each, by which a key map can move it."""
    return [Binding(",".join(action.keys), action.name, action.label, id=action.name) for action in at(places)]


def key_name(key: str) -> str:
    """Return a key as hints show it: ⏎, esc, ^p."""
    return _KEY_NAMES.get(key, key.replace("ctrl+", "^"))


def hints(actions: Iterable[Action]) -> list[Action]:
    """Return the actions that a footer shows."""
    return [action for action in actions if action.rank]
