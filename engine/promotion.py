"""Where models go that ask to be promoted: current if they are good enough, else among the candidates.

versions/NAME/RUN/    the model and promotion.json: those that are current or previous
current/NAME          link to the version in use; replaced in one step, so that there always is one
previous/NAME         link to the version before it
candidates/NAME/RUN/  the same two files of a model that was not promoted
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from configs.errors import StorageError
from sessions.codec import spell
from sessions.events import Json
from sessions.files import PRIVATE_DIR, sha256_of, sync_dir, write_atomic

REPORT = "promotion.json"


def promote(model: Path, folder: Path, name: str, run_id: str, *, good: bool, report: Json) -> Path:
    """Put a model where it belongs, with a report beside it, and return its folder.

    Args:
        model: The file.
        folder: Holds current/ and candidates/; made if it is not there.
        name: What the model is a version of.
        run_id: The run that made it.
        good: Whether it may be used in place of the one that is current.
        report: What is known of it; model, sha256, run, verdict and time are added.

    Raises:
        StorageError: It cannot be written; what was current still is.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            target = folder / ("versions" if good else "candidates") / name / run_id
            before = _linked(folder / "current" / name)
            content = report | {
                "model": model.name,
                "sha256": sha256_of(model),
                "run": run_id,
                "verdict": "promoted" if good else "kept as a candidate",
                "replaces": before.name if good and before is not None and before != target else None,
                "written": datetime.now(UTC).isoformat(),
            }
            _publish(model, target, content)
            if good:
                _make_current(folder, name, target, before)
    except OSError as error:
        raise StorageError(
            f"promotion.folder={folder}: no model can be put there ({error.strerror}); make space, or choose another"
        ) from error
    return target


def _publish(model: Path, target: Path, report: Json) -> None:
    """Fill a folder under another name, then rename it: nobody sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=PRIVATE_DIR)
        write_atomic(unfinished / model.name, model.read_bytes())
        write_atomic(unfinished / REPORT, json.dumps(spell(report), indent=2, allow_nan=False).encode() + b"\n")
        if target.exists():  # the same run, once more
            old = target.with_name(f".{target.name}.old")
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
            unfinished.rename(target)
            shutil.rmtree(old)
        else:
            unfinished.rename(target)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_dir(target.parent)


def _make_current(folder: Path, name: str, target: Path, before: Path | None) -> None:
    if before is not None and before != target:
        _link(folder / "previous" / name, before)
    _link(folder / "current" / name, target)
    kept = {target, _linked(folder / "previous" / name)}
    for version in target.parent.iterdir():
        if version not in kept and not version.name.startswith("."):
            shutil.rmtree(version)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(exist_ok=True)
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(os.path.relpath(target, link.parent))
    os.replace(new, link)
    sync_dir(link.parent)


def _linked(link: Path) -> Path | None:
    """Return the folder that a link leads to, as its path under the same root; None without one."""
    return (
        link.parent.parent / "versions" / link.name / os.readlink(link).rpartition("/")[2]
        if link.is_symlink()
        else None
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one run at a time change what is current."""
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
