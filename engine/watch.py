"""The instrument in the training process: it records what happens and obeys what people ask for."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from engine.controls import Controls
from sessions import events
from sessions.files import sha256_of
from sessions.log import EventLog
from sessions.paths import SessionPaths
from sessions.requests import Stop

if TYPE_CHECKING:
    from engine.checkpoints import Saved

PROGRESS_INTERVAL = 0.5
"""Seconds between two progress events, at the least."""
_RATE_SMOOTHING = 0.3


class RunStopped(Exception):
    """Somebody asked the run to stop; raised between two steps."""

    def __init__(self, by: str, reason: str | None = None, *, signal: str | None = None) -> None:
        super().__init__(f"stopped by {by}" + (f": {reason}" if reason else ""))
        self.signal = signal
        """The name of the signal, where it was one."""


class Watch:
    """Records one run and tells it when to stop.

    A loop calls ``step`` once after every update and ``metrics`` when it has values, and wraps what takes time in
    ``phase``. Steps and epochs count from 1. The methods may be called from any one thread at a time.
    """

    def __init__(self, paths: SessionPaths, log: EventLog, controls: Controls) -> None:
        self.paths = paths
        self._log = log
        self._controls = controls
        self._total_steps: int | None = None
        self._stop: RunStopped | None = None
        self._stopping: events.Action | None = None
        self._rate: float | None = None
        self._steps_per_second: float | None = None
        self._mark = (time.monotonic(), 0)  # when and at which step the last progress event was written
        self._samples = 0

    def begin(self, total_steps: int | None) -> None:
        """State how many steps the whole run will take (None: unknown), and start the clock that rates are taken by."""
        self._total_steps = total_steps
        self._mark = (time.monotonic(), self._mark[1])
        self._samples = 0

    def interrupt(self, signal: str) -> None:
        """Have the next ``step`` raise RunStopped: for signal handlers, so it does nothing but note it."""
        self._stop = RunStopped(signal, signal=signal)

    @contextmanager
    def phase(self, name: str, epoch: int | None = None) -> Iterator[None]:
        """Record the start and the end of a phase (data, train, validate, test, checkpoint, …).

        The time of a phase other than train does not count in the rate of samples.
        """
        self._log.append(events.Phase(phase=name, state="start", epoch=epoch))
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._log.append(events.Phase(phase=name, state="end", epoch=epoch, seconds=seconds))
            if name != "train":
                self._mark = (self._mark[0] + seconds, self._mark[1])

    def step(self, step: int, epoch: float | None = None, samples: int = 0) -> None:
        """Note that update ``step`` is done, on ``samples`` samples.

        Raises:
            RunStopped: The run was asked to stop. Save what should be kept and let it pass.
        """
        self._samples += samples
        self._obey(step)
        now = time.monotonic()
        since, from_step = self._mark
        if now - since >= PROGRESS_INTERVAL or step == self._total_steps:
            self._progress(step, epoch, max(now - since, 1e-9), step - from_step)
            self._mark = (now, step)
            self._samples = 0

    def _progress(self, step: int, epoch: float | None, seconds: float, steps: int) -> None:
        if steps > 0:
            self._rate = _smoothed(self._rate, self._samples / seconds)
            self._steps_per_second = _smoothed(self._steps_per_second, steps / seconds)
        eta = None
        if self._total_steps and self._steps_per_second:
            eta = (self._total_steps - step) / self._steps_per_second
        rate = self._rate if self._rate else None
        self._log.append(events.Progress(step=step, epoch=epoch, samples_per_second=rate, eta_seconds=eta))

    def _obey(self, step: int) -> None:
        requests, refused = self._controls.poll()
        for why in refused:
            self._log.append(events.RequestRefused(request="", why=why))
        for request in requests:
            if self._stop is None:
                self._stop = self._accept(request, step)
            else:
                self._log.append(events.RequestRefused(request=request.id, why="the run is stopping already"))
        if self._stop is not None:
            raise self._stop

    def _accept(self, request: Stop, step: int) -> RunStopped:
        params = {"by": request.by, "via": request.via, "reason": request.reason}
        self._stopping = self._log.append(
            events.Action(id=request.id, action="stop", params=params, state="started", step=step)
        )
        return RunStopped(request.by, request.reason)

    def stopped(self) -> None:
        """Note that the workload has let go, and with it the request to stop is done."""
        if self._stopping is not None:
            self._log.append(replace(self._stopping, state="done"))

    def metrics(self, split: events.Split, step: int, values: dict[str, float], epoch: float | None = None) -> None:
        """Record values (Python floats) of ``split`` at ``step``; non-finite ones are kept as they are."""
        self._log.append(events.Metrics(step=step, epoch=epoch, split=split, values=values))

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str, source: str = "worker") -> None:
        """Record a message for people."""
        self._log.append(events.Log(level=level, source=source, text=text))

    def artifact(self, path: Path, kind: str) -> None:
        """Record a file in the session folder that is now complete."""
        relative = path.relative_to(self.paths.root)
        self._log.append(events.Artifact(path=str(relative), kind=kind, sha256=sha256_of(path)))

    def checkpoint(self, saved: "Saved") -> None:
        """Record a checkpoint that is on disk."""
        self._log.append(
            events.Checkpoint(
                path=saved.path,
                step=saved.step,
                epoch=saved.epoch,
                sha256=saved.sha256,
                bytes=saved.bytes,
                kinds=list(saved.kinds),
                complete=saved.complete,
                metrics=saved.metrics,
            )
        )


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + _RATE_SMOOTHING * (new - old)
