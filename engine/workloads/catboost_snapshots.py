"""What a CatBoost fit can be put back to: hashed copies of its snapshots, published by rename.

    checkpoints/
      step-00000400/   snapshot.cbsnapshot, MANIFEST.json
      last             text file: the name of a folder

CatBoost replaces its snapshot as it goes. From one that is cut off it begins at zero without a word (it says so on
stderr), so none is used that does not have the SHA-256 in its manifest.
"""

import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from configs.errors import StorageError
from norms.signals import CheckpointSaved
from sessions.files import PRIVATE_DIR, sync_dir, write_atomic

SNAPSHOT, MANIFEST = "snapshot.cbsnapshot", "MANIFEST.json"
CONTENTS = ("model", "optimizer", "rng", "step")
"""What a snapshot holds: trees, the approximations that they are fitted to, generator and history of metrics."""
KEPT = 3
"""Copies of a fit that are kept, the newest ones."""
_UNFINISHED = ".unfinished-"
_ONE_TEST = b"\x01\x00\x00\x00\x02\x00\x00\x00"
_HISTORY = _ONE_TEST + b"\x07\x00\x00\x00Logloss"
_HISTORY_BYTES = 42

Writer = Callable[[Path, bytes], None]
Kind = Literal["best", "last", "periodic", "safety"]


@dataclass(frozen=True)
class Kept:
    """A copy that is on disk. Fields as in engine.checkpoints.Saved."""

    path: str
    """Of its folder, relative to the session's."""
    step: int
    sha256: str
    """Of the snapshot as CatBoost wrote it."""
    bytes: int
    kinds: tuple[Kind, ...]
    complete: bool
    """Whether the copy, read back, is the snapshot."""
    iteration: int
    """Within its fit."""
    epoch: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)


def position(content: bytes) -> int | None:
    """Return how many iterations a snapshot holds; None where it is cut off, or of a kind that is not known here.

    CatBoost has no function that tells. Towards its end a snapshot of the CPU has the metrics on one validation set: a
    count, then for every iteration two names with a float64 each.
    """
    start = content.find(_HISTORY)
    if start < 4:
        return None
    (count,) = struct.unpack_from("<I", content, start - 4)
    last = start + _HISTORY_BYTES * (int(count) - 1)
    return int(count) if content[last : last + len(_HISTORY)] == _HISTORY else None


class Snapshots:
    """The copies of one fit.

    Args:
        folder: The session's checkpoints/.
        train_dir: Where CatBoost keeps its snapshot.
        after: Steps that were taken before this fit.
        write: Puts bytes into a file.
    """

    def __init__(self, folder: Path, train_dir: Path, after: int, write: Writer = write_atomic) -> None:
        self.live = train_dir / SNAPSHOT
        self.kept: list[Kept] = []
        """Oldest first."""
        self.write = write
        self._folder = folder
        self.after = after

    def keep(self, iteration: int, kinds: tuple[Kind, ...]) -> Kept | None:
        """Copy the snapshot as it is now; None where CatBoost has written none yet.

        Args:
            iteration: What it is taken to hold where it does not say so itself.
            kinds: What the copy is; "last" moves the pointer of that name to it.

        Raises:
            StorageError: It cannot be read or written; the copies before it stand as they were.
        """
        try:
            content = self.live.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StorageError(f"{self.live} cannot be read: {error.strerror}") from error
        found = position(content)
        try:
            return self._publish(content, iteration if found is None else found, kinds)
        except OSError as error:
            raise StorageError(
                f"a checkpoint cannot be written to {self._folder}: {error.strerror}; make space"
            ) from error

    def _publish(self, content: bytes, iteration: int, kinds: tuple[Kind, ...]) -> Kept:
        step = self.after + iteration
        unfinished = self._folder / f"{_UNFINISHED}{step:08d}"
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            unfinished.mkdir(mode=PRIVATE_DIR)
            self.write(unfinished / SNAPSHOT, content)
            digest = hashlib.sha256(content).hexdigest()
            target = _free_name(self._folder, step)
            kept = Kept(
                path=f"{self._folder.name}/{target.name}",
                step=step,
                sha256=digest,
                bytes=len(content),
                kinds=kinds,
                complete=_digest(unfinished / SNAPSHOT) == digest,
                iteration=iteration,
            )
            write_atomic(unfinished / MANIFEST, _manifest(kept))
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync_dir(self._folder)
        if "last" in kinds:
            write_atomic(self._folder / "last", f"{target.name}\n".encode())
        self.kept.append(kept)
        self.prune(KEPT)
        return kept

    def prune(self, count: int) -> None:
        """Remove all but the newest copies."""
        while len(self.kept) > count:
            _remove(self._path(self.kept.pop(0)))

    def signal(self, kept: Kept) -> CheckpointSaved:
        """Return what the copy is, read back from the disk."""
        try:
            content = (self._path(kept) / SNAPSHOT).read_bytes()
            source = self.live.read_bytes()
        except OSError as error:
            raise StorageError(f"{error.filename} cannot be read: {error.strerror}") from error
        told = position(source) is not None
        whole = position(content) is not None
        return CheckpointSaved(
            step=kept.step,
            path=kept.path,
            contents=(CONTENTS if whole else ()) if told else None,
            expected=CONTENTS,
            hash_matches=hashlib.sha256(content).hexdigest() == kept.sha256,
        )

    def before(self, step: int, checkpoint: str | None = None) -> Kept | None:
        """Return the newest whole copy of ``step`` or earlier, or the one at the path ``checkpoint``."""
        fitting = [
            kept
            for kept in self.kept
            if kept.step <= step
            and (kept.path == checkpoint or (checkpoint is None and "safety" not in kept.kinds))
            and _digest(self._path(kept) / SNAPSHOT) == kept.sha256
        ]
        return fitting[-1] if fitting else None

    def put_back(self, kept: Kept) -> None:
        """Have CatBoost go on from the copy, and forget those of later steps, but for safety copies."""
        write_atomic(self.live, (self._path(kept) / SNAPSHOT).read_bytes())
        for later in [each for each in self.kept if each.step > kept.step and "safety" not in each.kinds]:
            self.kept.remove(later)
            _remove(self._path(later))

    def _path(self, kept: Kept) -> Path:
        return self._folder.parent / kept.path


def clear(folder: Path, train_dirs: tuple[Path, ...]) -> None:
    """Remove copies and CatBoost's own files: what is fitted next is another model."""
    for train_dir in train_dirs:
        shutil.rmtree(train_dir, ignore_errors=True)
    for entry in folder.glob("step-*"):
        _remove(entry)
    (folder / "last").unlink(missing_ok=True)


def _remove(path: Path) -> None:
    doomed = path.with_name(f"{_UNFINISHED}{path.name}")  # so that one removed by half is taken for no checkpoint
    path.rename(doomed)
    shutil.rmtree(doomed)


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _free_name(folder: Path, step: int) -> Path:
    """Return the name for a step's copy; a second one of that step never replaces the first in place."""
    target = folder / f"step-{step:08d}"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"step-{step:08d}-{number}"
    return target


def _manifest(kept: Kept) -> bytes:
    values = asdict(kept) | {
        "file": SNAPSHOT,
        "contents": CONTENTS if kept.complete else (),
        "written": datetime.now(UTC).isoformat(),
    }
    return json.dumps(values, indent=2, allow_nan=False).encode()
