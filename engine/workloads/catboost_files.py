"""A CatBoost fit watched from outside, by the files that it flushes after every iteration.

Its callback is not used: it is handed the whole history every time, which costs quadratic time, and it is refused on
GPUs (catboost issue 1792).
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from sessions.tail import LineTail

POLL_SECONDS = 0.05
"""Between two looks at the files: a look costs some microseconds, a notice by the kernel would not be sooner."""
HOLD_AFTER = 0.2
"""Seconds that a report may take before the fit is made to wait for it."""
ROUNDING_SECONDS = 0.002
"""By which CatBoost's own times are off."""
WAKE = signal.SIGURG
"""Sent to ourselves to have the main thread look up. By default it is ignored, and nobody else here uses it."""
FILES = ("learn_error.tsv", "test_error.tsv", "time_left.tsv")


class Row(NamedTuple):
    """What CatBoost has flushed about one iteration."""

    iteration: int
    """From 1."""
    learn: dict[str, float]
    val: dict[str, float]
    seconds: float | None = None
    """That it took, to the millisecond; None where CatBoost has not said."""


Report = Callable[[Row], None]
"""Takes an iteration. What it raises ends the fit; as long as it takes, the fit waits."""


class MetricFiles:
    """Reads learn_error.tsv, test_error.tsv and time_left.tsv as they grow, and pairs them by iteration.

    Args:
        train_dir: Where CatBoost writes them.
        after: Rows up to this iteration are passed over: a resumed fit writes its whole history again.
    """

    def __init__(self, train_dir: Path, after: int = 0) -> None:
        self._tables = tuple(_Table(train_dir / name) for name in FILES)
        self._after = after
        self._passed: dict[int, float] = {0: 0.0}  # seconds since the fit began, by iteration

    def read(self) -> Iterator[Row]:
        """Yield what has become complete since the last read."""
        learn, val, times = self._tables
        for table in self._tables:
            table.read()
        for iteration, values in times.take(len(times.rows)):
            self._passed[iteration] = values["passed"] / 1000
        ready = min(len(learn.rows), len(val.rows))
        for (iteration, learned), (_, validated) in zip(learn.take(ready), val.take(ready), strict=True):
            before, now = self._passed.pop(iteration - 1, None), self._passed.get(iteration)
            seconds = None if before is None or now is None else now - before
            if iteration > self._after:
                yield Row(iteration, learned, validated, seconds)


class _Table:
    """One of the files: the names of its columns, and the rows that have not been taken."""

    def __init__(self, path: Path) -> None:
        self.rows: list[bytes] = []
        self._tail = LineTail(path)
        self._names: list[str] = []

    def read(self) -> None:
        more = True
        while more:
            chunk = self._tail.read()
            lines, more = chunk.lines, chunk.more
            if lines and not self._names:
                # iter, AUC:hints=skip_train~false, Logloss → auc, logloss
                columns = lines.pop(0).decode().split("\t")[1:]
                self._names = [column.partition(":")[0].lower() for column in columns]
            self.rows.extend(lines)

    def take(self, count: int) -> Iterator[tuple[int, dict[str, float]]]:
        """Yield iteration, from 1, and values of the first rows."""
        taken, self.rows = self.rows[:count], self.rows[count:]
        for row in taken:
            iteration, *values = row.split(b"\t")
            yield int(iteration) + 1, dict(zip(self._names, map(float, values), strict=True))


def forget(train_dir: Path) -> None:
    """Remove the files of an earlier fit: its rows are not to be taken for those of the next."""
    for name in FILES:
        (train_dir / name).unlink(missing_ok=True)


def followed(fit: Callable[[], object], train_dir: Path, report: Report, after: int = 0) -> None:
    """Run ``fit``, a CatBoost fit that writes to ``train_dir``, and report every iteration past ``after`` meanwhile.

    CatBoost runs Python's signal handlers on the main thread at every iteration, and ends the fit when one raises. So
    where ``report`` raises, on its own thread, that exception is kept, a signal to ourselves ends the fit, and the
    exception goes on from here. And where ``report`` takes long, as while a decision is awaited, the handler does not
    return before it has: the fit stands still, its state in memory, and never runs far ahead of what judges it.

    Raises:
        BaseException: What ``report`` raised; ``fit`` may have ended by itself before that was noticed.
        ValueError: Not called on the main thread.
    """
    forget(train_dir)
    follower = _Follower(MetricFiles(train_dir, after), report)

    def look_up(_number: int, _frame: FrameType | None) -> None:
        if follower.fitting:
            started = time.monotonic()
            follower.caught_up.wait()
            follower.held += time.monotonic() - started
            if follower.error is not None:
                follower.fitting = False  # once is enough
                raise _Ended

    previous = signal.signal(WAKE, look_up)
    follower.start()
    try:
        try:
            fit()
        finally:
            follower.fitting = False
    except _Ended:
        pass
    except KeyboardInterrupt:
        if follower.error is None:
            raise
    finally:
        follower.finish()
        signal.signal(WAKE, previous)
    if follower.error is not None:
        raise follower.error


class _Ended(Exception):
    """Ends the fit from within."""


class _Follower(threading.Thread):
    """Reports on one thread; a second one wakes the main thread when a report takes long."""

    def __init__(self, files: MetricFiles, report: Report) -> None:
        super().__init__(name="catboost-metrics", daemon=True)
        self.error: BaseException | None = None
        self.fitting = True
        self.caught_up = threading.Event()
        """Set but while a report is under way."""
        self.caught_up.set()
        self.held = 0.0
        """Seconds for which the fit was made to wait, and that no row has been cleared of."""
        self._files = files
        self._report = report
        self._ended = threading.Event()
        self._guard = threading.Thread(target=self._watch_reports, name="catboost-hold", daemon=True)

    def run(self) -> None:
        self._guard.start()
        try:
            while not self._ended.wait(POLL_SECONDS):
                self._drain()
            self._drain()  # what was flushed between the last look and the end
        except BaseException as error:
            self.error = error
        finally:
            self._ended.set()
            self.caught_up.set()
        if self.error is not None and self.fitting:
            signal.raise_signal(WAKE)
        self._guard.join()

    def _drain(self) -> None:
        for row in self._files.read():
            self.caught_up.clear()
            self._report(self._cleared(row))
            self.caught_up.set()

    def _cleared(self, row: Row) -> Row:
        """Return the row without the time for which the fit waited."""
        if not self.held or row.seconds is None or row.seconds + ROUNDING_SECONDS < self.held:
            return row
        held, self.held = self.held, 0.0
        return row._replace(seconds=max(row.seconds - held, 0.0))

    def _watch_reports(self) -> None:
        while not self._ended.wait(HOLD_AFTER / 2):
            if not self.caught_up.is_set() and not self.caught_up.wait(HOLD_AFTER) and self.fitting:
                signal.raise_signal(WAKE)
                self.caught_up.wait()

    def finish(self) -> None:
        """Report what is left, and end the threads."""
        self._ended.set()
        self.join()
