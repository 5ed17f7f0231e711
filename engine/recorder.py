"""The recording half of the instrument: what happens in a run, as events."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sessions import events
from sessions.files import sha256_of
from sessions.log import EventLog
from sessions.paths import SessionPaths

PROGRESS_INTERVAL = 0.5
"""Seconds between two progress events, at the least."""
_RATE_SMOOTHING = 0.3


class Recorder:
    """Records one run. Steps and epochs count from 1; the methods may be called from any one thread at a time."""

    def __init__(self, paths: SessionPaths, log: EventLog) -> None:
        self.paths = paths
        self._log = log
        self._total_steps: int | None = None
        self._steps_per_epoch: int | None = None
        self._rate: float | None = None
        self._steps_per_second: float | None = None
        self._mark = (time.monotonic(), 0)  # when and at which step the last progress event was written
        self._samples = 0
        self.phase_times: dict[str, list[float]] = {}
        """Seconds that each phase took, every time."""
        self.rehearsing = False
        """Whether steps are done that will be done again: nothing of them is recorded."""

    def begin(self, total_steps: int | None, steps_per_epoch: int | None = None) -> None:
        """State how long the run will be (None: unknown), and start the clock that rates are taken by."""
        self._total_steps = total_steps
        self._steps_per_epoch = steps_per_epoch
        self._mark = (time.monotonic(), self._mark[1])
        self._samples = 0

    def epoch_of(self, step: int) -> float | None:
        """Return the epochs done after ``step`` updates, where that can be said."""
        return step / self._steps_per_epoch if self._steps_per_epoch else None

    @contextmanager
    def phase(self, name: str, epoch: int | None = None) -> Iterator[None]:
        """Record the start and the end of a phase (data, train, validate, test, checkpoint, …).

        The time of a phase other than train does not count in the rate of samples.
        """
        if self.rehearsing and name == "train":
            name = "rehearse"
        self._log.append(events.Phase(phase=name, state="start", epoch=epoch))
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self._log.append(events.Phase(phase=name, state="end", epoch=epoch, seconds=seconds))
            self.phase_times.setdefault(name, []).append(seconds)
            if name != "train":
                self._pass_over(seconds)

    def _pass_over(self, seconds: float) -> None:
        """Leave time that was not spent on training steps out of the rates."""
        self._mark = (self._mark[0] + seconds, self._mark[1])

    def _advance(self, step: int, epoch: float | None, samples: int) -> None:
        """Note that update ``step`` is done, and record the progress now and then."""
        self._samples += samples
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

    def metrics(self, split: events.Split, step: int, values: dict[str, float], epoch: float | None = None) -> None:
        """Record values (Python floats) of ``split`` at ``step``; non-finite ones are kept as they are."""
        if not self.rehearsing:
            self._log.append(events.Metrics(step=step, epoch=epoch, split=split, values=values))

    def log(self, level: Literal["debug", "info", "warning", "error"], text: str, source: str = "worker") -> None:
        """Record a message for people."""
        self._log.append(events.Log(level=level, source=source, text=text))

    def artifact(self, path: Path, kind: str) -> None:
        """Record a file in the session folder that is now complete."""
        relative = path.relative_to(self.paths.root)
        self._log.append(events.Artifact(path=str(relative), kind=kind, sha256=sha256_of(path)))


def _smoothed(old: float | None, new: float) -> float:
    return new if old is None else old + _RATE_SMOOTHING * (new - old)
