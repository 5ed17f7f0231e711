"""Follow files that others write: appends, torn tails, truncation, rotation; by notification or by polling."""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import watchfiles

CHUNK_BYTES = 1 << 18
_ANCHOR_BYTES = 64
NOTIFY_STEP_MS = 20
POLL_SECONDS = 0.1
IDLE_SECONDS = 1.0
NETWORK_FILE_SYSTEMS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "gfs2", "glusterfs", "gpfs", "lustre"}
    | {"nfs", "nfs4", "ocfs2", "panfs", "pvfs2", "smb3", "smbfs", "virtiofs", "wekafs"}
)
"""File systems on which another host may write, unseen by inotify."""


@dataclass(frozen=True)
class Chunk:
    """What came since the last read."""

    data: bytes = b""
    """Whole lines, each with its newline."""
    restarted: bool = False
    """The file was cut or replaced: what was read before is void, and these lines are from its beginning."""
    more: bool = False
    """There is more to read at once."""

    @property
    def lines(self) -> list[bytes]:
        """The lines without their newline."""
        return self.data[:-1].split(b"\n") if self.data else []


@dataclass
class LineTail:
    """Reads one growing file by whole lines.

    A last line without a newline is "not yet". No descriptor is held between reads, so that thousands of files can be
    followed, and a network file system shows its newest state (it promises that on open).
    """

    path: Path
    offset: int = 0
    _inode: int = field(default=0, init=False)
    _anchor: bytes = field(default=b"", init=False)  # what stood right before offset: tells a rewritten file
    _seen: tuple[int, int] = field(default=(-1, -1), init=False)  # size and mtime at the last read

    def read(self, max_bytes: int = CHUNK_BYTES) -> Chunk:
        """Return the whole lines in about the next ``max_bytes``; none where the file is missing or unchanged.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            stat = os.stat(self.path)
        except FileNotFoundError:
            return Chunk()
        if (stat.st_size, stat.st_mtime_ns) == self._seen and stat.st_ino == self._inode:
            return Chunk()
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return Chunk()
        try:
            return self._read(file, max_bytes)
        finally:
            os.close(file)

    def _read(self, file: int, max_bytes: int) -> Chunk:
        stat = os.fstat(file)
        restarted = self._inode != 0 and self.offset > 0 and not self._continues(file, stat)
        if restarted:
            self.offset, self._anchor = 0, b""
        self._inode = stat.st_ino
        data = os.pread(file, max_bytes, self.offset)
        while (end := data.rfind(b"\n") + 1) == 0 and data and self.offset + len(data) < stat.st_size:
            data = os.pread(file, 4 * len(data), self.offset)  # one line longer than the chunk
        more = bool(data) and self.offset + len(data) < stat.st_size  # no data: cut short since it was looked at
        self._seen = (-1, -1) if more else (stat.st_size, stat.st_mtime_ns)
        if end == 0:
            return Chunk(restarted=restarted)
        self.offset += end
        self._anchor = (self._anchor + data[:end])[-_ANCHOR_BYTES:]
        return Chunk(data[:end], restarted, more)

    def _continues(self, file: int, stat: os.stat_result) -> bool:
        if stat.st_ino != self._inode or stat.st_size < self.offset:
            return False
        return os.pread(file, len(self._anchor), self.offset - len(self._anchor)) == self._anchor


def wakes(folders: Iterable[Path], stop: threading.Event, *, recursive: bool = False) -> Iterator[None]:
    """Yield at once, then whenever a file in ``folders`` may have changed, until ``stop`` is set.

    It also yields every ``IDLE_SECONDS`` without a notice, so that nothing is missed where a notice got lost. Polls
    instead where notices do not come: with NORA_POLL=1, on a network file system, or when the kernel has no watches
    left to give.
    """
    folders = list(folders)
    yield
    if must_poll(folders):
        yield from _polls(stop)
        return
    try:
        for _ in watchfiles.watch(
            *folders,
            watch_filter=None,
            step=NOTIFY_STEP_MS,
            debounce=5 * NOTIFY_STEP_MS,
            rust_timeout=int(IDLE_SECONDS * 1000),
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=True,
            recursive=recursive,
            ignore_permission_denied=True,
        ):
            yield
    except OSError:
        yield from _polls(stop)


def _polls(stop: threading.Event) -> Iterator[None]:
    while not stop.wait(POLL_SECONDS):
        yield


def must_poll(folders: Iterable[Path]) -> bool:
    """Whether changes in any of the folders can come unseen by inotify."""
    return os.environ.get("NORA_POLL") == "1" or any(
        file_system_of(folder) in NETWORK_FILE_SYSTEMS for folder in folders
    )


def file_system_of(path: Path) -> str | None:
    """Return the type of the file system that holds ``path``, or None where the system does not tell (not Linux)."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return None
    target = path.resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        mount = Path(left.split()[4].encode().decode("unicode_escape"))
        # A later mount on the same point covers the earlier one, hence >=.
        if target.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), right.split()[0]
    return kind
