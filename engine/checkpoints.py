"""Checkpoints: whole folders, hashed, and published by rename.

    checkpoints/
      step-00001200/   state.pt, MANIFEST.json
      best, last       text files: the name of a folder

``state.pt`` loads with ``torch.load(…, weights_only=True)``: it holds tensors, numbers, words, lists and dictionaries.
Of all checkpoints the best and the last are kept, so that a long run does not fill the disk.
"""

import hashlib
import io
import json
import os
import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from configs.errors import StorageError
from sessions.codec import spell
from sessions.files import PRIVATE_DIR, sync_dir, write_atomic

FORMAT = 1
STATE, MANIFEST = "state.pt", "MANIFEST.json"
CONTENTS = ("model", "optimizers", "scheduler", "scaler", "rng", "sampler")
"""What a state must hold for its run to go on as if it had never stopped."""
_UNFINISHED = ".unfinished-"

Kind = Literal["best", "last", "periodic", "safety"]


@dataclass(frozen=True)
class Saved:
    """A checkpoint that is on disk."""

    path: str
    """Of its folder, relative to the session's."""
    step: int
    epoch: float | None
    sha256: str
    """Of state.pt."""
    bytes: int
    """Size of state.pt."""
    kinds: tuple[Kind, ...]
    complete: bool
    """Whether it holds all of CONTENTS."""
    metrics: dict[str, float] = field(default_factory=dict)


def save(
    folder: Path,
    state: dict[str, Any],
    step: int,
    epoch: float | None,
    kinds: Sequence[Kind],
    metrics: dict[str, float] | None = None,
) -> Saved:
    """Write a checkpoint into ``folder`` (a session's checkpoints/), then drop those that are neither best nor last.

    Args:
        folder: Made if it is not there.
        state: What to keep, under the names of CONTENTS.
        step: Updates done.
        epoch: Epochs done, with a fraction within one.
        kinds: What the checkpoint is; "best" and "last" move the pointer of that name to it.
        metrics: Values that describe it, by ``split/name``; non-finite ones are kept as the words nan, inf and -inf.

    Raises:
        StorageError: It cannot be written; those before it stand as they were.
    """
    try:
        folder.mkdir(mode=PRIVATE_DIR, exist_ok=True)
        unfinished = folder / f"{_UNFINISHED}{step:08d}"
        shutil.rmtree(unfinished, ignore_errors=True)  # a killed run's, never published
        try:
            unfinished.mkdir(mode=PRIVATE_DIR)
            digest, size = _write_state(unfinished / STATE, state)
            target = _free_name(folder, step)
            saved = Saved(
                path=f"{folder.name}/{target.name}",
                step=step,
                epoch=epoch,
                sha256=digest,
                bytes=size,
                kinds=tuple(kinds),
                complete=all(name in state for name in CONTENTS),
                metrics=dict(metrics or {}),
            )
            write_atomic(unfinished / MANIFEST, _manifest(saved, sorted(state)))
            os.rename(unfinished, target)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync_dir(folder)
        for kind in kinds:
            if kind in ("best", "last"):
                write_atomic(folder / kind, f"{target.name}\n".encode())
        _prune(folder, keep=target.name)
    except OSError as error:
        raise StorageError(
            f"a checkpoint cannot be written to {folder}: {error.strerror}; make space, or resume elsewhere"
        ) from error
    return saved


def rng_state() -> dict[str, Any]:
    """Return the state of every random number generator, as tensors and plain numbers."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _write_state(path: Path, state: dict[str, Any]) -> tuple[str, int]:
    """Write the state, on disk to the last byte; return its SHA-256 and size."""
    buffer = io.BytesIO()  # torch reports a disk that fills while it writes as a RuntimeError without the cause
    torch.save({"format": FORMAT} | state, buffer)
    content = buffer.getbuffer()
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest(), len(content)


def _manifest(saved: Saved, contents: list[str]) -> bytes:
    values = asdict(saved) | {
        "format": FORMAT,
        "file": STATE,
        "contents": contents,
        "metrics": spell(saved.metrics),
        "torch": torch.__version__,
        "written": datetime.now(UTC).isoformat(),
    }
    return json.dumps(values, indent=2, allow_nan=False).encode()


def _free_name(folder: Path, step: int) -> Path:
    """Return the name for a step's checkpoint; a second one of that step never replaces the first in place."""
    target = folder / f"step-{step:08d}"
    number = 1
    while target.exists():
        number += 1
        target = folder / f"step-{step:08d}-{number}"
    return target


def _prune(folder: Path, keep: str) -> None:
    pointers = (folder / "best", folder / "last")
    kept = {keep} | {pointer.read_text().strip() for pointer in pointers if pointer.exists()}
    for entry in list(folder.iterdir()):
        if entry.is_dir() and entry.name not in kept and entry.name.startswith(("step-", _UNFINISHED)):
            doomed = folder / f"{_UNFINISHED}{entry.name}"  # so that one removed by half is taken for no checkpoint
            entry.rename(doomed)
            shutil.rmtree(doomed)
