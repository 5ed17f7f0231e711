"""Answer a proposal: the evidence first, then what is proposed, then what a person wants instead."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

from textual import events, on
from textual.binding import BindingType
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input

from configs.errors import ConfigError
from nora_tui.actions import Action, Place, bindings
from nora_tui.asking import Said
from nora_tui.cases import resolution_of
from nora_tui.screens.base import NoraScreen
from nora_tui.widgets.bar import Bar
from nora_tui.widgets.choices import Choices
from nora_tui.widgets.fields import Field, ParamFields
from nora_tui.widgets.lines_view import Go, LinesView
from nora_tui.widgets.proposal_view import LABEL, Lines, proposal_text
from nora_tui.widgets.toned import Piece, wrapped
from nora_tui.widgets.waiting_panel import DEAF_SECONDS
from nora_tui.wording import NOTHING, call, deadline_words, hold_words, resolution_words
from sessions.events import Json, Proposal
from sessions.paths import SessionPaths
from sessions.requests import Decide
from sessions.state import SessionState

Form = Literal["", "override", "reject"]
STAYS_SECONDS = 2.5
"""How long it is shown that somebody else has decided, before the screen closes."""
_ONCE, _ALWAYS = "this time", "always, for this norm in this run"


class DecideScreen(NoraScreen):
    """Shows one proposal until it is decided. Only a deliberate key answers; Esc leaves it waiting."""

    PLACES: ClassVar[tuple[Place, ...]] = ("decide", "form")
    BINDINGS: ClassVar[list[BindingType]] = [*bindings("decide", "form")]

    def __init__(self, paths: SessionPaths, state: SessionState, proposal: Proposal) -> None:
        super().__init__()
        self.paths = paths
        self._state = state
        self._proposal = proposal
        self._options = [(proposal.action, proposal.params)] if proposal.action != NOTHING else []
        self._options += [(each.action, each.params) for each in proposal.alternatives]
        self._form: Form = ""
        self._sent: Decide | None = None
        self._over = False
        self._said: tuple[str, str] = ("", "plain")
        self._since = time.monotonic()

    def content(self) -> Iterable[Widget]:
        yield Bar(id="title")
        yield Bar(id="clock")
        yield LinesView(id="proposal")
        with Vertical(id="answer"):
            yield Choices("instead", _distinct(self._options), label_width=LABEL, id="instead")
            yield ParamFields(id="params")
            yield Field(id="reason")
            yield Choices("holds for", [_ONCE, _ALWAYS], label_width=LABEL, id="holds")
            yield LinesView(id="said")

    def places(self) -> frozenset[Place]:
        return frozenset({"form" if self._form else "decide"})

    def actions(self) -> list[Action]:
        unavailable: set[str] = set()
        if self._sent or self._over:
            unavailable = {"approve", "override", "reject", "always", "send"}
        if self._proposal.action == NOTHING:
            unavailable.add("approve")
        if not self._options:
            unavailable.add("override")
        return [action for action in super().actions() if action.name not in unavailable]

    def on_mount(self) -> None:
        super().on_mount()
        title: list[Piece] = [("nora", "accent"), (" › ", "faint"), (self._state.run_id, "muted"), (" › ", "faint")]
        self.query_one("#title", Bar).show([*title, (f"proposal {self._proposal.id}", "strong")])
        self.query_one("#reason", Field).offer("your reason", "", "why, in a few words: it stays in the record")
        self.query_one("#said", LinesView).can_focus = False
        self._show_form("")
        self._tick()
        self.set_interval(1.0, self._tick)

    def on_resize(self, event: events.Resize) -> None:
        super().on_resize(event)
        self._show_proposal()
        self._say(*self._said)

    # --- what is heard of the run ---

    def take(self, state: SessionState, said: Iterable[Said] = ()) -> None:
        """Take in how the run stands, and what is new in it."""
        self._state = state
        self._tick()
        if self._over:
            return
        resolution = resolution_of(state, self._proposal.id)
        if resolution is not None:
            self._decided(f"{resolution_words(resolution)}.", at_once=self._sent is not None)
        elif state.ended:
            self._decided("The run has ended; there is nothing to decide any more.", at_once=False)
        elif refused := next((each for each in said if self._sent and each.request == self._sent.id), None):
            self.refused(refused.text)

    def refused(self, why: str) -> None:
        """Note that the answer was not taken; another can be given."""
        self._sent = None
        self._say(why, "bad")
        self.refresh_hints()

    @property
    def sent(self) -> str:
        """The id of the request that was sent and not answered yet; "" where there is none."""
        return self._sent.id if self._sent else ""

    @property
    def hears(self) -> bool:
        """Whether it has been there long enough for a key to be meant for it."""
        return time.monotonic() - self._since >= DEAF_SECONDS

    def _decided(self, words: str, *, at_once: bool) -> None:
        self._over = True
        if at_once:
            self._close()
            return
        self._show_form("")
        self._say(f"Decided meanwhile: {words}" if not self._state.ended else words, "strong")
        self.set_timer(STAYS_SECONDS, self._close)

    def _close(self) -> None:
        """Leave, from under whatever may stand over this screen."""
        if self.is_current:
            self.app.pop_screen()
        elif self.is_attached:
            self.set_timer(STAYS_SECONDS, self._close)

    # --- what is shown ---

    def _tick(self) -> None:
        proposal = self._proposal
        waits = resolution_of(self._state, proposal.id) is None and not self._state.ended
        words: list[Piece] = [("◆ waits for you", "warn") if waits else ("decided", "muted")]
        if waits:
            words += [("  ", "plain"), (f"{hold_words(proposal)} · {deadline_words(proposal)}", "plain")]
        self.query_one("#clock", Bar).show(words)

    def _show_proposal(self) -> None:
        view = self.query_one("#proposal", LinesView)
        text = proposal_text(self._state, self._proposal, max(20, self.size.width - 3))
        lines: Lines = [*text.evidence, [], *text.proposed]
        if text.alternatives:
            lines += [[], *text.alternatives]
        view.show(lines)
        view.styles.max_height = len(lines) + 1  # so that the answer stands under it, and not at the foot of the window

    def _show_form(self, form: Form) -> None:
        self._form = form
        self.query_one("#instead").display = form == "override" and len(self._options) > 1
        self.query_one("#params").display = form == "override"
        self.query_one("#reason").display = form == "reject"
        if form == "override":
            self._offer()
        elif form == "reject":
            self.query_one("#reason", Field).input.focus()
        else:
            self.query_one("#proposal").focus()
        self._say("", "plain")
        self.refresh_hints()

    def _offer(self) -> None:
        action, params = self._chosen()
        fields = self.query_one(ParamFields)
        fields.offer(action, params)
        instead = self.query_one("#instead")
        if instead.display and not instead.has_focus:
            instead.focus()
        elif not instead.display:
            fields.focus_first()

    def _say(self, words: str, tone: str) -> None:
        self._said = words, tone
        view = self.query_one("#said", LinesView)
        lines: Lines = [[(line, tone)] for line in wrapped(words, max(20, self.size.width - 3))] if words else []
        view.show(lines)
        view.styles.height = len(lines)
        view.display = bool(lines)

    def _chosen(self) -> tuple[str, dict[str, Any]]:
        words = self.query_one("#instead", Choices)
        return self._options[words.chosen]

    # --- what the person does ---

    def go(self, move: Go) -> None:
        self.query_one("#proposal", LinesView).go(move)

    def action_approve(self) -> None:
        if self.hears:
            self._send(Decide(via="tui", proposal=self._proposal.id, verdict="approve", always=self._always))

    def action_override(self) -> None:
        if self.hears:
            self._show_form("override")

    def action_reject(self) -> None:
        if self.hears:
            self._show_form("reject")

    def action_always(self) -> None:
        self.query_one("#holds", Choices).action_choose(1)

    def action_next_field(self) -> None:
        self.focus_next("#answer *")

    def action_previous_field(self) -> None:
        self.focus_previous("#answer *")

    @on(Input.Submitted)
    def _entered(self) -> None:
        """Enter goes on to the next field and answers nothing: it may have been meant for another."""
        self.action_next_field()

    @on(Choices.Changed, "#instead")
    def _other_action(self) -> None:
        self._offer()
        self._check()

    @on(ParamFields.Changed)
    def _check(self) -> None:
        """Say at once what is wrong with what was typed."""
        if self._form == "override":
            found = self._override()
            self._say(found, "bad") if isinstance(found, str) and found != _UNCHANGED else self._say("", "plain")

    @on(Input.Changed, "#reason Input")
    def _reason_typed(self) -> None:
        self._say("", "plain")

    @property
    def _always(self) -> bool:
        return self.query_one("#holds", Choices).value == _ALWAYS

    def _override(self) -> Decide | str:
        """Return the request that the form makes, or why it makes none."""
        from norms.actions import check_params

        action, _ = self._chosen()
        params = self.query_one(ParamFields).values()
        try:
            check_params(action, params)
        except ConfigError as error:
            return _sentence(str(error))
        if action == self._proposal.action:
            if params == self._proposal.params:
                return _UNCHANGED
            missing = [name for name in self._proposal.params if name not in params]
            if missing:
                return f"{missing[0]} is part of what is proposed: it can be changed, and not left out."
            params = {name: given for name, given in params.items() if self._proposal.params.get(name) != given}
        return Decide(
            via="tui",
            proposal=self._proposal.id,
            verdict="override",
            action=action,
            params=params,
            always=self._always,
        )

    def action_send(self) -> None:
        if self._form == "override":
            found = self._override()
            if isinstance(found, str):
                self._say(found, "bad")
            else:
                self._send(found)
            return
        reason = self.query_one("#reason", Field).input.value.strip()
        if not reason:
            self._say("Say why, in a few words: it stays in the record.", "bad")
            return
        verdict = Decide(via="tui", proposal=self._proposal.id, verdict="reject", reason=reason, always=self._always)
        self._send(verdict)

    def _send(self, request: Decide) -> None:
        self._sent = request
        self._show_form("")
        self._say("Sent; the run answers by the end of its current step.", "muted")
        self.app.ask(self.paths, request)

    def action_back(self) -> None:
        """Leave the form, else the proposal, which goes on waiting."""
        if self._form:
            self._show_form("")
        else:
            self.app.pop_screen()


def _distinct(options: Sequence[tuple[str, Json]]) -> list[str]:
    """Return the actions by name; those of one name with their parameters, by which they differ."""
    names = [action for action, _ in options]
    return [call(action, params) if names.count(action) > 1 else action for action, params in options] or [""]


_UNCHANGED = "This is what is proposed already: Esc, then y has it done."


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:] + "."
