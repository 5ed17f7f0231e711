"""Between files and screens: threads follow the files and post messages, and only handlers change what is shown.

A message that tells how things stand makes an older one of its kind void, and says so (``can_replace``); so a screen
that is busy skips what nobody would have seen.
"""

import contextlib
import re
import subprocess
import sys
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from textual.message import Message
from textual.message_pump import MessagePump

from configs.errors import DataError, NoraError, StorageError
from nora_tui.cases import waiting
from nora_tui.console_window import ConsoleWindow, Line
from sessions.paths import SessionPaths
from sessions.state import SessionState
from sessions.store import SessionReader, list_sessions
from sessions.tail import wakes

if TYPE_CHECKING:
    from sessions.series import Column

SLICE_SECONDS, LONGEST_SLICE = 0.05, 0.4
"""How long a thread reads before it shows what it has: little at first, for a picture at once, then more at a time."""
PAUSE_SECONDS = 0.08
"""Between two messages about a live run: as often as a person can follow."""
LIST_SECONDS = 1.0
"""Between two looks at which sessions there are, and at those that have ended."""
POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
_DATA = re.compile(r"^data: *['\"]?(.*?)['\"]? *$", re.MULTILINE)


@dataclass(frozen=True)
class ListedRun:
    """One line of the list of runs."""

    paths: SessionPaths
    state: SessionState
    data: str = ""
    """The data set by name, or the stem of its path."""
    problem: str = ""
    """Why the session cannot be read."""

    @property
    def waiting(self) -> int:
        """How many proposals wait for a person."""
        return len(waiting(self.state))


@dataclass(frozen=True)
class RunView:
    """How one run stands at one moment."""

    state: SessionState
    columns: Mapping[tuple[str, str], "Column"] = field(default_factory=dict)
    """By (split, name); never written to again, so that a screen can draw from them while the thread reads on."""
    loading: bool = False
    """There is more to read at once."""


@dataclass(frozen=True)
class RunTexts:
    """What a session's whole files say; empty where there is no such file yet."""

    config: str = ""
    data: str = ""
    """What the run learns from, as in ListedRun."""
    environment: dict[str, Any] = field(default_factory=dict)


class Standing(Message, bubble=False):
    """A message that tells how things stand, so that a newer one of its kind replaces it."""

    def can_replace(self, message: Message) -> bool:
        return type(message) is type(self)


class RunsChanged(Standing):
    def __init__(self, runs: tuple[ListedRun, ...], loading: bool) -> None:
        super().__init__()
        self.runs = runs
        self.loading = loading


class RunChanged(Standing):
    def __init__(self, view: RunView) -> None:
        super().__init__()
        self.view = view


class TextsChanged(Standing):
    def __init__(self, texts: RunTexts) -> None:
        super().__init__()
        self.texts = texts


class ConsoleChanged(Standing):
    """The lines of the console that are held, in order."""

    def __init__(self, lines: list[Line], at_start: bool, at_end: bool) -> None:
        super().__init__()
        self.lines = lines
        self.at_start = at_start
        self.at_end = at_end


class Unreadable(Standing):
    """What is followed cannot be read, or is gone."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class Helper(threading.Thread):
    """A thread that works for one screen until it is stopped."""

    def __init__(self, target: MessagePump) -> None:
        super().__init__(daemon=True)
        self._target = target
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()

    def post(self, message: Message) -> None:
        if not self.stopped.is_set():
            with contextlib.suppress(RuntimeError):  # the cockpit is closing, and with it the loop that messages go to
                self._target.post_message(message)


class Follower(Helper):
    """Follows files; what cannot be read is said, and tried again."""

    def run(self) -> None:
        while not self.stopped.is_set():
            try:
                self.follow()
                return
            except NoraError as error:
                why = str(error)
            except OSError as error:
                why = f"{error.filename} cannot be read: {error.strerror}"
            self.post(Unreadable(why))
            self.stopped.wait(RETRY_SECONDS)

    @abstractmethod
    def follow(self) -> None:
        """Post how things stand, then what changes, until ``stopped`` is set.

        Raises:
            NoraError, OSError: What is followed cannot be read.
        """


class RunsFollower(Follower):
    """Follows all sessions of a folder, the newest first."""

    def __init__(self, target: MessagePump, runs_dir: Path) -> None:
        super().__init__(target)
        self.wanted = threading.Event()
        """Unset while nobody looks."""
        self.wanted.set()
        self._runs_dir = runs_dir
        self._known: dict[Path, tuple[SessionReader, str]] = {}
        self._runs: dict[Path, ListedRun] = {}
        self._order: list[SessionPaths] = []
        self._posted: tuple[ListedRun, ...] = ()
        self._loading = True

    def stop(self) -> None:
        super().stop()
        self.wanted.set()

    def follow(self) -> None:
        self._list()
        listed_at = time.monotonic()
        self._read(self._order)
        self._loading = False
        self._post()
        while not self.stopped.wait(POLL_SECONDS):
            self.wanted.wait()
            if everything := time.monotonic() - listed_at >= LIST_SECONDS:
                self._list()
                listed_at = time.monotonic()
            self._read([paths for paths in self._order if everything or self._is_live(paths)])
            if not _same(self._now(), self._posted):
                self._post()

    def _list(self) -> None:
        self._order = list_sessions(self._runs_dir)
        there = {paths.root for paths in self._order}
        for gone in self._known.keys() - there:
            del self._known[gone]
            self._runs.pop(gone, None)

    def _is_live(self, paths: SessionPaths) -> bool:
        known = self._known.get(paths.root)
        return known is None or not known[0].state.ended

    def _read(self, sessions: list[SessionPaths]) -> None:
        shown_at = time.monotonic()
        for paths in sessions:
            more = True
            while more and not self.stopped.is_set():
                more = self._read_one(paths)
                if self._loading and time.monotonic() - shown_at > SLICE_SECONDS:
                    self._post()
                    shown_at = time.monotonic()

    def _read_one(self, paths: SessionPaths) -> bool:
        if paths.root not in self._known:
            self._known[paths.root] = SessionReader(paths, curves=False), data_in(_text_of(paths.config))
        reader, data = self._known[paths.root]
        more, problem = False, ""
        try:
            more = reader.poll(SLICE_SECONDS)
        except StorageError as error:
            problem = str(error)
        shown = self._runs.get(paths.root)
        if shown is None or shown.state is not reader.state or shown.problem != problem:
            self._runs[paths.root] = ListedRun(paths, reader.state, data, problem)
        return more

    def _now(self) -> tuple[ListedRun, ...]:
        return tuple(self._runs[paths.root] for paths in self._order if paths.root in self._runs)

    def _post(self) -> None:
        self._posted = self._now()
        self.post(RunsChanged(self._posted, self._loading))


def _same(some: tuple[ListedRun, ...], others: tuple[ListedRun, ...]) -> bool:
    """Whether these are the very same runs: equality would compare all that has happened in them."""
    return len(some) == len(others) and all(one is other for one, other in zip(some, others, strict=True))


def data_in(config: str) -> str:
    """Return what a run learns from; by one expression, since parsing the YAML of 2,000 sessions takes seconds."""
    found = _DATA.search(config)
    return Path(found[1]).stem if found else ""


class RunFollower(Follower):
    """Follows one session with its metric columns, config.yaml and env.json."""

    def __init__(self, target: MessagePump, paths: SessionPaths) -> None:
        super().__init__(target)
        self._paths = paths
        self._reader: SessionReader | None = None  # made by the thread: its numpy is not to delay the first paint
        self._texts_seen: tuple[int, ...] = ()

    def follow(self) -> None:
        self._reader = self._reader or SessionReader(self._paths)
        version = -1
        for _ in wakes([self._paths.root], self.stopped):
            if not self._paths.root.exists():
                raise DataError(f"{self._paths.root} is gone; what is shown here was read before")
            self._read_texts()
            more, seconds = True, SLICE_SECONDS
            while more and not self.stopped.is_set():
                more, seconds = self._reader.poll(seconds), min(4 * seconds, LONGEST_SLICE)
                if self._reader.version != version:
                    version = self._reader.version
                    self._post(self._reader, loading=more)
            self.stopped.wait(PAUSE_SECONDS)

    def _post(self, reader: SessionReader, loading: bool) -> None:
        columns = {metric: reader.series.column(*metric) for metric in reader.series.metrics()}
        self.post(RunChanged(RunView(reader.state, columns, loading)))

    def _read_texts(self) -> None:
        seen = _stamp(self._paths.config), _stamp(self._paths.env)
        if seen != self._texts_seen:
            self._texts_seen = seen
            config = _text_of(self._paths.config)
            self.post(TextsChanged(RunTexts(config, data_in(config), _object_in(self._paths.env))))


def _stamp(path: Path) -> int:
    """Return what changes with a whole file, which is only ever replaced; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _text_of(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _object_in(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}


Reach = Literal["older", "newer", "start", "end"]


class ConsoleFollower(Follower):
    """Follows console.log, and moves through it as the screen asks."""

    def __init__(self, target: MessagePump, path: Path) -> None:
        super().__init__(target)
        self._window = ConsoleWindow(path)
        self._asked: SimpleQueue[Reach] = SimpleQueue()

    def ask(self, move: Reach) -> None:
        """Have the window moved; the answer is a ConsoleChanged."""
        self._asked.put(move)

    def follow(self) -> None:
        self._window.follow()
        self._post()
        while not self.stopped.is_set():
            try:
                move = self._asked.get(timeout=POLL_SECONDS)
            except Empty:
                if self._window.follow():
                    self._post()
            else:
                self._move(move)

    def _move(self, move: Reach) -> None:
        moves: dict[Reach, Callable[[], object]] = {
            "older": self._window.older,
            "newer": self._window.newer,
            "start": self._window.to_start,
            "end": self._window.to_end,
        }
        moves[move]()
        self._post()

    def _post(self) -> None:
        window = self._window
        self.post(ConsoleChanged(window.all_lines(), window.start == 0, window.at_end))


class RunStarted(Message, bubble=False):
    def __init__(self, paths: SessionPaths) -> None:
        super().__init__()
        self.paths = paths


class RunNotStarted(Message, bubble=False):
    """A run could not be started; ``why`` is the command line's own sentence."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class RunStarter(Helper):
    """Starts a run as ``nora train --detach`` does, in a process of its own that outlives the cockpit."""

    def __init__(self, target: MessagePump, runs_dir: Path, overrides: Sequence[str]) -> None:
        super().__init__(target)
        command = [sys.executable, "-P", "-m", "nora_tui", "train", "--detach", "--json", "--runs-dir", str(runs_dir)]
        self._command = [*command, "--", *overrides]

    def run(self) -> None:
        done = subprocess.run(
            self._command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False
        )
        if done.returncode == 0:
            self.post(RunStarted(SessionPaths(Path(msgspec.json.decode(done.stdout)["path"]))))
        else:
            said = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            self.post(RunNotStarted(said[-1].removeprefix("error: ")))
