"""What people ask of a run, obeyed between two steps and while it is held."""

import time
from collections.abc import Callable

from msgspec.structs import replace

from configs.errors import ConfigError
from engine.controls import Controls
from engine.decisions import Decisions
from engine.inbox import Inbox
from engine.jumps import RunStopped
from norms.judge import Judge
from norms.norm import known_norm
from sessions import events
from sessions.events import Json
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, Decide, Stop, WriteNote

HOLD_POLL = 0.05
"""Seconds between two looks at the requests while the run is held."""


class Steering:
    """Hears requests, and stops, holds and mutes. For one thread at a time.

    Args:
        paths: Of the session.
        log: Where every request is answered.
        controls: What the run can do; stop, pause, resume and mute are added to it.
        judge: Told what is muted.
        decisions: Takes verdicts and commands.
    """

    def __init__(
        self, paths: SessionPaths, log: EventLog, controls: Controls, judge: Judge, decisions: Decisions
    ) -> None:
        self._log = log
        self._inbox = Inbox(paths)
        self._judge = judge
        self._decisions = decisions
        self._stopping: events.Action | None = None
        self.stop: RunStopped | None = None
        """Set once the run is to end."""
        self.paused = False
        controls.offer("stop", self._stop_by_decision, when="boundary")
        controls.offer("pause", self._pause, lambda _: "it is paused already" if self.paused else None)
        controls.offer("resume", self._resume, lambda _: None if self.paused else self._why_not_resumed())
        controls.offer("mute", self._mute, lambda params: self._unknown_norm(params["norm"]))

    def interrupt(self, signal: str) -> None:
        """End the run: for signal handlers, so it does nothing but note it."""
        self.stop = RunStopped(signal, signal=signal)

    def hear(self, step: int) -> None:
        """Obey or refuse what has been asked since the last look, and decide what nobody answered in time."""
        requests, unreadable = self._inbox.poll()
        for why in unreadable:
            self._log.append(events.RequestRefused(request="", why=why))
        for request in requests:
            if (refusal := self._obey(request, step)) is not None:
                self._log.append(events.RequestRefused(request=request.id, why=refusal))
        self._decisions.expire(step)

    def hold(self, waits: Callable[[], bool], step: int, *, between_steps: bool) -> float:
        """Wait while ``waits`` or until the run is to end, obeying meanwhile; return the seconds that it took."""
        started = time.monotonic()
        while waits() and self.stop is None:
            self.hear(step)
            if between_steps:
                self._decisions.settle()
            time.sleep(HOLD_POLL)
        return time.monotonic() - started

    def _obey(self, request: AnyRequest, step: int) -> str | None:
        """Do what is asked, or return why it is refused."""
        if isinstance(request, WriteNote):
            self._log.append(events.Note(text=request.text, by=request.by, step=step))
            return None
        if self.stop is not None:
            return "the run is stopping already"
        match request:
            case Stop():
                self._begin_stop(request, step)
                return None
            case Decide():
                return self._decisions.answer(request, step)
            case Command(action="stop"):
                return "stop is asked for by a stop request"
            case Command():
                refused = self._decisions.command(request.id, request.action, request.params, step)
                if refused is None and request.action == "mute":
                    self._decisions.drop(request.params["norm"], request.by, request.via, step)
                return refused

    # --- stopping ---

    def _begin_stop(self, request: Stop, step: int) -> None:
        params = {"by": request.by, "via": request.via, "reason": request.reason}
        self._stopping = self._log.append(
            events.Action(id=request.id, action="stop", params=params, state="started", step=step)
        )
        self.stop = RunStopped(request.by, request.reason)

    def stopped(self) -> None:
        """Note that the workload has let go, and with it the request to stop is done."""
        if self._stopping is not None:
            self._log.append(replace(self._stopping, state="done"))

    def _stop_by_decision(self, params: Json) -> Json:
        self.stop = RunStopped(self._decisions.last_word)
        return {"before": {"running": True}, "after": {"running": False}}

    # --- holding and muting ---

    def _pause(self, params: Json) -> Json:
        self.paused = True
        return {"before": {"held": False}, "after": {"held": True}}

    def _resume(self, params: Json) -> Json:
        self.paused = False
        return {"before": {"held": True}, "after": {"held": False}}

    def _why_not_resumed(self) -> str:
        waiting = self._decisions.waiting
        return f"it is not paused; {', '.join(waiting)} waits for an answer" if waiting else "it is not paused"

    def _unknown_norm(self, norm: str) -> str | None:
        try:
            known_norm(norm, self._judge.norms)
        except ConfigError as error:
            return str(error)
        return None

    def _mute(self, params: Json) -> Json:
        norm = params["norm"]
        before = next(reading.standing for reading in self._judge.readings() if reading.norm == norm)
        self._judge.mute(norm)
        return {"before": {norm: before}, "after": {norm: "muted"}}
