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
import pickle
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


def load(folder: Path) -> dict[str, Any]:
    """Return the state in a checkpoint's folder, on the CPU.

    Raises:
        StorageError: It cannot be read, is not what its manifest says, or lacks what a run needs to go on.
    """
    try:
        content = (folder / STATE).read_bytes()
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise StorageError(f"checkpoint {folder} cannot be read: {error}; resume from another one") from error
    if hashlib.sha256(content).hexdigest() != manifest.get("sha256"):
        raise StorageError(
            f"checkpoint {folder} does not have the SHA-256 in its manifest: it was damaged or changed after it was "
            "written; resume from another one"
        )
    state = decode_state(content)
    if missing := [name for name in CONTENTS if name not in state]:
        raise StorageError(f"checkpoint {folder} lacks {', '.join(missing)}; resume from one that is complete")
    return state


def decode_state(content: bytes) -> dict[str, Any]:
    """Return the state in the bytes of a state.pt, on the CPU; nothing in it is executed.

    Raises:
        StorageError: They hold something else.
    """
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (RuntimeError, ValueError, LookupError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise StorageError(f"a {STATE} does not hold a checkpoint: {reason}; use another one") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise StorageError(f"a {STATE} is not of format {FORMAT}; read it with the version that wrote it")
    return {name: value for name, value in state.items() if name != "format"}


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


def seed_all(seed: int) -> None:
    """Seed every random number generator."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def parts_of(state: dict[str, Any]) -> tuple[str, ...]:
    """Return which parts of a run's state are there, by the names that norm checkpoint-integrity goes by."""
    named = {"model": "model", "optimizers": "optimizer", "scheduler": "scheduler", "scaler": "scaler"}
    parts = [part for name, part in named.items() if state.get(name)]
    parts += [f"rng_{name}" for name, value in state.get("rng", {}).items() if len(value)]
    return (*parts, *(["sampler"] if state.get("sampler") else []), "step")


def restore_rng(state: dict[str, Any]) -> None:
    """Put every random number generator back to where ``rng_state`` found it.

    On fewer GPUs than there were, those that are here get theirs.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available():
        for device, generator in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
            torch.cuda.set_rng_state(generator.cpu(), device)


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
