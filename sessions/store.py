"""Find, list and read sessions."""

import os
import re
import socket
import time
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from configs.errors import ConfigError, StorageError
from sessions.codec import CodecError, decode
from sessions.events import SPLITS, AnyEvent, Unknown
from sessions.paths import SessionPaths
from sessions.state import SessionState, fold, fold_grouped, grouped
from sessions.tail import CHUNK_BYTES, Chunk, LineTail

if TYPE_CHECKING:
    from sessions.series import Series

LOST_AFTER = 60.0
"""Seconds without a heartbeat after which a run on another host is shown as lost."""
CHECK_INTERVAL = 1.0
"""Seconds between two looks at whether the processes of a run are still there."""


_NOT_METRICS = re.compile(rb'\n(?!\{"type":"metrics")[^\n]+')


def runs_dir_from(option: Path | None) -> Path:
    """Return the folder that holds the sessions: the option, else NORA_RUNS_DIR, else ./runs."""
    return option or Path(os.environ.get("NORA_RUNS_DIR", "runs"))


def list_sessions(runs_dir: Path) -> list[SessionPaths]:
    """Return the sessions in a folder, the one begun last first; none where there is no such folder.

    Raises:
        StorageError: The folder cannot be read.
    """
    found = []
    try:
        for entry in os.scandir(runs_dir):
            if not entry.name.startswith(".") and (born := _born(entry.path)) is not None:
                found.append((born, entry.name, entry.path))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{runs_dir} cannot be read: {error.strerror}") from error
    return [SessionPaths(Path(path)) for *_, path in sorted(found, reverse=True)]


def _born(folder: str) -> int | None:
    """Return when a session was begun (config.yaml is written once), in ns; None for what is no session."""
    for name in ("config.yaml", "events.jsonl"):
        try:
            return os.stat(f"{folder}/{name}").st_mtime_ns
        except OSError:
            continue
    return None


def find(runs_dir: Path, reference: str) -> SessionPaths:
    """Return the session that a person named by path, by name or by a unique prefix.

    Raises:
        ConfigError: There is no such session, or the prefix fits several.
    """
    for folder in (runs_dir / reference, *([Path(reference)] if "/" in reference else [])):
        if _born(str(folder)) is not None:
            return SessionPaths(folder.resolve())
    names = [paths.run_id for paths in list_sessions(runs_dir)]
    fitting = [name for name in names if name.startswith(reference)]
    if len(fitting) == 1:
        return SessionPaths((runs_dir / fitting[0]).resolve())
    if fitting:
        few = ", ".join(fitting[:4]) + (", …" if len(fitting) > 4 else "")
        raise ConfigError(f"{reference!r} fits {len(fitting)} runs in {runs_dir} ({few}); give more of the name")
    near = get_close_matches(reference, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "; `nora ls` lists the runs that are there"
    raise ConfigError(f"no run {reference!r} in {runs_dir}{hint}")


class SessionReader:
    """Reads one session, and goes on reading as it grows.

    Every front end looks at a run through this: ``poll`` takes in what is new, ``state`` and ``series`` say how the
    run stands. With ``curves=False`` no metric columns are kept and most metric lines are not even decoded, which is
    what a list of many sessions needs.
    """

    def __init__(self, paths: SessionPaths, *, curves: bool = True) -> None:
        self.paths = paths
        self.version = 0
        """Changes whenever ``state`` or ``series`` does."""
        self._curves = curves
        self._reset()

    @property
    def series(self) -> "Series":
        """The metric columns read so far."""
        assert self._series is not None, "this reader was opened with curves=False"
        return self._series

    def _reset(self) -> None:
        self._series = _new_series() if self._curves else None
        self._folded = SessionState(run_id=self.paths.run_id, name=self.paths.run_id)
        self.state = self._folded
        self._tails = {path: LineTail(path) for path in (self.paths.events, self.paths.supervisor)}
        self._next_seq = dict.fromkeys(self._tails, 0)
        self._checked_at = -CHECK_INTERVAL

    def poll(self, seconds: float = float("inf")) -> bool:
        """Take in what is new, for about ``seconds`` at most; return whether there is more to take in at once.

        Raises:
            StorageError: The session cannot be read, or is gone.
        """
        until = time.monotonic() + seconds
        more = True
        while more and time.monotonic() < until:
            more = False
            for path in tuple(self._tails):
                try:
                    chunk = self._tails[path].read(CHUNK_BYTES)
                except OSError as error:
                    raise StorageError(f"{path} cannot be read: {error.strerror}") from error
                if chunk.restarted:
                    self._reset()
                    more = True
                    break
                if chunk.data:
                    self._take(path, chunk)
                more |= chunk.more
        if not self.paths.root.exists():
            raise StorageError(f"{self.paths.root} is gone: the session was removed, or its file system is away")
        self._check_processes()
        return more

    def _take(self, path: Path, chunk: Chunk) -> None:
        lines = chunk.lines if self._curves else _without_old_metrics(chunk.data)
        batch: list[AnyEvent | Unknown] = []
        malformed = gaps = 0
        expected = self._next_seq[path]
        for line in lines:
            try:
                event = decode(line)
            except CodecError:
                malformed += 1
                continue
            gaps += event.seq != expected
            expected = event.seq + 1
            batch.append(event)
        self._next_seq[path] = expected
        metrics, rest = grouped(batch)
        state = fold(self._folded, batch) if gaps else fold_grouped(self._folded, metrics, rest)
        if malformed or (gaps and self._curves):
            state = replace(state, malformed=state.malformed + malformed, gaps=state.gaps + gaps)
        if self._series is not None:
            self._series.extend(metrics.values())
        self._folded = self.state = state
        self._checked_at = -CHECK_INTERVAL
        self.version += 1

    def _check_processes(self) -> None:
        """Show a run whose processes are gone as what it is: no event can say so."""
        if self._folded.ended or time.monotonic() - self._checked_at < CHECK_INTERVAL:
            return
        self._checked_at = time.monotonic()
        state = self._folded
        if (verdict := _gone(self._folded, self.paths)) is not None:
            status, reason = verdict
            state = replace(self._folded, status=status, reason=reason)
        if state != self.state:
            self.state = state
            self.version += 1


def read_session(paths: SessionPaths, *, curves: bool = True) -> SessionReader:
    """Return a reader that has taken in all there is."""
    reader = SessionReader(paths, curves=curves)
    while reader.poll():
        pass
    return reader


def _new_series() -> "Series":
    from sessions.series import Series  # brings numpy, which a list of sessions does without

    return Series()


def _without_old_metrics(data: bytes) -> list[bytes]:
    """Return all lines that are no metrics, and of the metrics the newest of each split and first name; in order.

    Works on the bytes, at a tenth of what decoding costs; a line that is spelled in another way is kept.
    """
    data = b"\n" + data
    spans = {match.span() for match in _NOT_METRICS.finditer(data)}
    for at in _newest_metrics(data):
        spans.add((data.rfind(b"\n", 0, at), data.find(b"\n", at)))
    return [data[start + 1 : end] for start, end in sorted(spans)]


def _newest_metrics(data: bytes) -> list[int]:
    """Return places within the newest metrics line of each split and first name."""
    newest: list[int] = []
    for split in SPLITS:
        start = b'"split":"%s","values":{' % split.encode()
        if (at := data.rfind(start)) < 0:
            continue
        key = data[at : data.find(b":", at + len(start))]
        if data.count(start) > data.count(key):  # more than one kind of line: look at each
            newest += {
                match[1]: match.start() for match in re.finditer(b"(%s[^:]*):" % re.escape(start), data)
            }.values()
        else:
            newest.append(at)
    return newest


def _gone(state: SessionState, paths: SessionPaths) -> tuple[Literal["crashed", "lost"], str] | None:
    """Return how a run that has not ended is to be shown if nothing runs it any more, and why."""
    silence = _seconds_since_heartbeat(paths)
    host = state.host or state.supervisor_host
    if host != socket.gethostname() or not (pids := {state.pid, state.supervisor_pid} - {None}):
        if silence > LOST_AFTER:
            return "lost", f"no sign of life from {host or 'its supervisor'} for {silence:.0f} s"
        return None
    name = paths.root.resolve().name  # as its processes know it, whatever link led here
    if any(runs(pid, name) for pid in pids if pid is not None):
        return None
    return "crashed", "its processes are gone without a word; console.log may say more"


def _seconds_since_heartbeat(paths: SessionPaths) -> float:
    """The supervisor touches its file every few seconds (engine/supervise.py); a worker without one still writes."""
    written = [_written(paths.supervisor), _written(paths.events)]
    return time.time() - (max(written) if any(written) else _written(paths.config))


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def runs(pid: int, run_id: str) -> bool:
    """Whether the process is there and is this run's, not another that was given the same number."""
    try:
        return run_id.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        if Path("/proc/self").exists():
            return False
    except OSError:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
