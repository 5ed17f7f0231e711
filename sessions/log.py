"""Append events to a file: one writer, one line an event, nothing half-written left behind."""

import contextlib
import fcntl
import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec

from configs.errors import StorageError
from sessions.codec import CodecError, decode, encode
from sessions.events import AnyEvent, Checkpoint, Policy, Resolution, RunFinished, RunStarted, WorkerExited
from sessions.files import PRIVATE_FILE

E = TypeVar("E", bound=AnyEvent)

DURABLE = (RunStarted, Resolution, Policy, Checkpoint, RunFinished, WorkerExited)
"""What others act on: on disk before ``append`` returns. The rest survives any process, but not a power cut."""


class EventLog:
    """The one writer of an events file.

    An event is written with one system call and no buffer of ours, so that it outlives the process from the moment
    that ``append`` returns, and costs the training thread microseconds (tests/bench/bench_sessions.py).

    Raises:
        StorageError: The file cannot be written, or another process is writing it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
        except OSError as error:
            raise StorageError(f"{path} cannot be opened for writing: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise StorageError(f"{path} is being written by another process") from error
        self._size, self._next_seq = _repair(self._file)

    def append(self, event: E) -> E:
        """Write the event, and return it with its number and time.

        Raises:
            StorageError: Nothing of the event was kept, for example because the disk is full.
        """
        with self._lock:
            stamped = msgspec.structs.replace(event, seq=self._next_seq, ts=datetime.now(UTC))
            line = encode(stamped)
            try:
                written = os.write(self._file, line)
                while written < len(line):
                    written += os.write(self._file, line[written:])
                if isinstance(event, DURABLE):
                    os.fsync(self._file)
            except OSError as error:
                with contextlib.suppress(OSError):  # a torn tail is repaired by the next writer all the same
                    os.ftruncate(self._file, self._size)
                raise StorageError(f"{self._path} cannot be written: {error.strerror}") from error
            self._size += len(line)
            self._next_seq += 1
        return stamped

    def close(self) -> None:
        os.close(self._file)


def _repair(file: int) -> tuple[int, int]:
    """Cut off a torn last line, which its writer never acknowledged; return the size and the next ``seq``.

    Only the end of the file is read: the last line that decodes says where to go on.
    """
    size = os.fstat(file).st_size
    block = 1 << 16
    while True:
        start = max(0, size - block)
        lines = os.pread(file, size - start, start).split(b"\n")
        torn = lines.pop()
        for line in reversed(lines):
            try:
                event = decode(line)
            except CodecError:
                continue  # also the first piece of the block, where it starts within a line
            os.ftruncate(file, size - len(torn))
            return size - len(torn), event.seq + 1
        if start == 0:
            os.ftruncate(file, size - len(torn))
            return size - len(torn), 0
        block *= 8
