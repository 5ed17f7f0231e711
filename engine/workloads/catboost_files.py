"""A CatBoost fit watched from outside, by the files that it flushes after every iteration.

Its callback is not used: it is handed the whole history every time, which costs quadratic time, and it is refused on
GPUs (catboost issue 1792).
"""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from sessions.tail import LineTail

POLL_SECONDS = 0.05
"""Between two looks at the files: a look costs some microseconds, a notice by the kernel would not be sooner."""

Report = Callable[[int, dict[str, float], dict[str, float]], None]
"""Takes the iteration, from 1, and its training and validation metrics. What it raises ends the fit."""


class MetricFiles:
    """Reads learn_error.tsv and test_error.tsv as they grow, and pairs them by iteration."""

    def __init__(self, train_dir: Path) -> None:
        self._tails = (LineTail(train_dir / "learn_error.tsv"), LineTail(train_dir / "test_error.tsv"))
        self._names: list[list[str] | None] = [None, None]
        self._rows: tuple[list[bytes], list[bytes]] = ([], [])

    def read(self) -> Iterator[tuple[int, dict[str, float], dict[str, float]]]:
        """Yield iteration, training and validation metrics for what has become complete since the last read."""
        for i, tail in enumerate(self._tails):
            more = True
            while more:
                chunk = tail.read()
                lines, more = chunk.lines, chunk.more
                if lines and self._names[i] is None:
                    # iter, AUC:hints=skip_train~false, Logloss → auc, logloss
                    columns = lines.pop(0).decode().split("\t")[1:]
                    self._names[i] = [column.partition(":")[0].lower() for column in columns]
                self._rows[i].extend(lines)
        ready = min(map(len, self._rows))
        learn, test = (rows[:ready] for rows in self._rows)
        for rows in self._rows:
            del rows[:ready]
        for learn_row, test_row in zip(learn, test, strict=True):
            yield int(learn_row.split(b"\t", 1)[0]) + 1, self._values(0, learn_row), self._values(1, test_row)

    def _values(self, i: int, row: bytes) -> dict[str, float]:
        names = self._names[i]
        assert names is not None, "a row before the header"
        return dict(zip(names, map(float, row.split(b"\t")[1:]), strict=True))


def followed(fit: Callable[[], object], train_dir: Path, report: Report) -> None:
    """Run ``fit``, a CatBoost fit that writes to ``train_dir``, and report every iteration while it runs.

    CatBoost runs Python's signal handlers on the main thread at every iteration, and ends the fit when one raises. So
    where ``report`` raises, on its own thread, that exception is kept, a SIGINT to ourselves ends the fit, and the
    exception goes on from here. Signals from others find the handlers that they had, which may note them for ``report``
    to raise.

    Raises:
        BaseException: What ``report`` raised; ``fit`` may have ended by itself before that was noticed.
        ValueError: Not called on the main thread.
    """
    follower = _Follower(MetricFiles(train_dir), report)
    previous = signal.getsignal(signal.SIGINT)

    def end_fit(number: int, frame: FrameType | None) -> None:
        if follower.error is None:
            if callable(previous):
                previous(number, frame)
        elif follower.fitting:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, end_fit)
    follower.start()
    try:
        try:
            fit()
        finally:
            follower.fitting = False
    except KeyboardInterrupt:
        if follower.error is None:
            raise
    finally:
        follower.finish()
        signal.signal(signal.SIGINT, previous)
    if follower.error is not None:
        raise follower.error


class _Follower(threading.Thread):
    def __init__(self, files: MetricFiles, report: Report) -> None:
        super().__init__(name="catboost-metrics", daemon=True)
        self.error: BaseException | None = None
        self.fitting = True
        self._files = files
        self._report = report
        self._ended = threading.Event()

    def run(self) -> None:
        try:
            while not self._ended.wait(POLL_SECONDS):
                self._drain()
            self._drain()  # what was flushed between the last look and the end
        except BaseException as error:
            self.error = error
            if self.fitting:
                signal.raise_signal(signal.SIGINT)

    def _drain(self) -> None:
        for iteration, learn, val in self._files.read():
            self._report(iteration, learn, val)

    def finish(self) -> None:
        """Report what is left, and end the thread."""
        self._ended.set()
        self.join()
