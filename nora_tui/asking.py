"""What the cockpit asks of runs, and what it tells a person of their answers: at most a sentence, and once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from textual.message import Message
from textual.message_pump import MessagePump

from configs.errors import StorageError
from nora_tui.bridge import Helper
from nora_tui.cases import asks, waiting
from nora_tui.wording import action_words, call, resolution_words
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, Decide, Stop, WriteNote, ask
from sessions.state import SessionState

Gravity = Literal["information", "warning", "error"]


class Said(NamedTuple):
    """Something to tell a person about a run."""

    text: str
    gravity: Gravity = "information"
    request: str = ""
    """The request that it answers."""


class Asking:
    """Keeps what was asked of which run, and what has been heard of it; ``ring`` is called when something waits."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._asked: dict[str, AnyRequest] = {}
        self._states: dict[Path, SessionState] = {}
        self._heard: dict[Path, int] = {}
        self._rung: set[tuple[Path, str]] = set()

    def asked(self, request: AnyRequest) -> None:
        self._asked[request.id] = request

    def heard(self, paths: SessionPaths, state: SessionState) -> list[Said]:
        """Take in how a run stands; return what is new in it for a person, and ring if something begins to wait."""
        before = self._states.get(paths.root)
        if before is state:
            return []
        self._states[paths.root] = state
        if before is not None and all(getattr(before, name) is getattr(state, name) for name in _WATCHED):
            return []
        self._ring_for(paths, state)
        last = self._heard.get(paths.root)
        self._heard[paths.root] = _newest(state)
        return [] if last is None else list(self._news(state, last))

    def _ring_for(self, paths: SessionPaths, state: SessionState) -> None:
        new = {(paths.root, proposal.id) for proposal in waiting(state)} - self._rung
        if new:
            self._rung |= new
            self._ring()

    def _news(self, state: SessionState, last: int) -> Iterator[Said]:
        asking = {proposal.id for proposal in state.proposals if asks(proposal)}
        for resolution in _later(state.resolutions, last):
            if resolution.proposal in asking:
                yield Said(resolution_words(resolution))
        for refused in _later(state.refused, last):
            request = self._asked.pop(refused.request, None)
            if request is not None:
                yield Said(f"{request_words(request)} was refused: {refused.why}", "error", refused.request)
        for action in _later(state.actions, last):
            if action.id in self._asked and action.state != "started" and action.action != "stop":
                del self._asked[action.id]
                yield Said(action_words(action), "error" if action.state == "failed" else "information", action.id)


_WATCHED = ("proposals", "resolutions", "refused", "actions", "status")


def _later(found: tuple, last: int) -> Iterator:  # type: ignore[type-arg]
    return (event for event in found if event.seq > last)


def _newest(state: SessionState) -> int:
    """Return the number of the last event that was heard; -1 before the first."""
    groups = (state.proposals, state.resolutions, state.refused, state.actions)
    return max((group[-1].seq for group in groups if group), default=-1)


def request_words(request: AnyRequest) -> str:
    """Return what a request asks for."""
    match request:
        case Command():
            return request.action
        case Decide():
            return f"The answer to {request.proposal}"
        case WriteNote():
            return "The note"
        case Stop():
            return "The stop"


def asked_words(request: AnyRequest, run: str) -> str:
    """Return what a person is told when something was asked; "" where the screen says it already."""
    match request:
        case Stop():
            return f"{run} stops after its current step"
        case Command():
            return f"{call(request.action, request.params)} is asked of the run"
        case WriteNote():
            return "The note goes into the record"
    return ""


class NotAsked(Message, bubble=False):
    """A request could not be written, and so the run never sees it."""

    def __init__(self, request: AnyRequest, why: str) -> None:
        super().__init__()
        self.request = request
        self.why = why


class Asker(Helper):
    """Asks something of a run; in a thread, since a request is only acknowledged once the disk has it."""

    def __init__(self, target: MessagePump, paths: SessionPaths, request: AnyRequest) -> None:
        super().__init__(target)
        self._paths = paths
        self._request = request

    def run(self) -> None:
        try:
            ask(self._paths, self._request)
        except StorageError as error:
            self.post(NotAsked(self._request, str(error)))
