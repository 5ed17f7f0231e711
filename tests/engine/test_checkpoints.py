"""Checkpoints: whole or not there at all, loadable without pickle, and only the best and the last of them."""

import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import StorageError
from engine import checkpoints

STATE: dict[str, Any] = {
    "model": {"weight": torch.arange(6.0).view(2, 3)},
    "optimizers": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    "scheduler": {"step": 3, "total": 10},
    "scaler": {},
    "rng": checkpoints.rng_state(),
    "sampler": {"seed": 42, "epoch": 1, "batch": 3},
}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size`` bytes: a disk that is full, as this process sees it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())


def test_a_state_comes_back_as_it_was_without_pickle(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    saved = checkpoints.save(folder, STATE, 3, 0.5, ["last"], {"val/loss": 0.25})
    assert (saved.path, saved.step, saved.epoch, saved.kinds) == ("checkpoints/step-00000003", 3, 0.5, ("last",))
    assert saved.complete
    path = tmp_path / saved.path / "state.pt"
    assert (saved.sha256, saved.bytes) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)
    state = torch.load(path, weights_only=True)
    assert torch.equal(state["model"]["weight"], STATE["model"]["weight"])
    assert state["sampler"] == STATE["sampler"]
    assert state.keys() - {"format"} == set(checkpoints.CONTENTS)


def test_the_manifest_describes_the_state(tmp_path: Path) -> None:
    saved = checkpoints.save(tmp_path / "checkpoints", STATE, 3, 0.5, ["best", "last"], {"val/loss": float("nan")})
    text = (tmp_path / saved.path / "MANIFEST.json").read_text()
    manifest = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert manifest["sha256"] == saved.sha256
    assert manifest["bytes"] == saved.bytes
    assert manifest["kinds"] == ["best", "last"]
    assert manifest["complete"] is True
    assert manifest["contents"] == sorted(checkpoints.CONTENTS)
    assert (manifest["step"], manifest["epoch"]) == (3, 0.5)
    assert manifest["metrics"] == {"val/loss": "nan"}


def test_a_state_that_lacks_something_is_not_called_complete(tmp_path: Path) -> None:
    partial = {name: value for name, value in STATE.items() if name != "rng"}
    assert not checkpoints.save(tmp_path / "checkpoints", partial, 1, None, ["last"]).complete


def test_only_the_best_and_the_last_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for step, kinds in ((1, ["best", "last"]), (2, ["best", "last"]), (3, ["last"]), (4, ["last"])):
        checkpoints.save(folder, STATE, step, None, kinds)  # type: ignore[arg-type]
    assert folders(folder) == ["step-00000002", "step-00000004"]
    assert (folder / "best").read_text().strip() == "step-00000002"
    assert (folder / "last").read_text().strip() == "step-00000004"
    checkpoints.save(folder, STATE, 5, None, ["periodic"])
    assert folders(folder) == ["step-00000002", "step-00000004", "step-00000005"]


def test_a_second_checkpoint_of_a_step_stands_beside_the_first(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    checkpoints.save(folder, STATE, 7, None, ["best", "last"])
    second = checkpoints.save(folder, STATE, 7, None, ["last"])
    assert second.path == "checkpoints/step-00000007-2"
    assert folders(folder) == ["step-00000007", "step-00000007-2"]


def test_foreign_files_among_the_checkpoints_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    (folder / "mine").mkdir(parents=True)
    checkpoints.save(folder, STATE, 1, None, ["last"])
    assert (folder / "mine").exists()


def test_what_a_killed_run_left_unfinished_is_cleared_away(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    for name in (".unfinished-00000001", ".unfinished-step-00000001"):
        (folder / name).mkdir(parents=True)
        (folder / name / "state.pt").write_bytes(b"half")
    checkpoints.save(folder, STATE, 1, None, ["last"])
    assert sorted(entry.name for entry in folder.iterdir()) == ["last", "step-00000001"]


def test_a_full_disk_is_a_storage_error_and_spoils_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    first = checkpoints.save(folder, STATE, 1, None, ["best", "last"])
    with largest_file(1024), pytest.raises(StorageError, match="cannot be written"):
        checkpoints.save(folder, STATE, 2, None, ["best", "last"])
    assert sorted(entry.name for entry in folder.iterdir()) == ["best", "last", "step-00000001"]
    assert (folder / "last").read_text().strip() == "step-00000001"
    assert hashlib.sha256((tmp_path / first.path / "state.pt").read_bytes()).hexdigest() == first.sha256


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        checkpoints.save(tmp_path / "file" / "checkpoints", STATE, 1, None, ["last"])


def test_the_generators_go_on_where_the_state_was_taken() -> None:
    state = checkpoints.rng_state()
    drawn = (random.random(), np.random.rand(), torch.rand(3).tolist())
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == drawn


SAVE_FOR_EVER = """
import sys, torch
from pathlib import Path
from engine import checkpoints
state = {name: {} for name in checkpoints.CONTENTS} | {"model": {"weight": torch.rand(200_000)}}
print("ready", flush=True)
for step in range(1, 100_000):
    checkpoints.save(Path(sys.argv[1]), state, step, None, ["best", "last"] if step % 3 == 0 else ["last"])
"""


@pytest.mark.parametrize("after", [0.05, 0.11, 0.23])
def test_a_kill_at_any_instant_leaves_whole_checkpoints(tmp_path: Path, after: float) -> None:
    folder = tmp_path / "checkpoints"
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOR_EVER, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    until = time.monotonic() + 30
    while not (folder / "last").exists():
        assert time.monotonic() < until
    time.sleep(after)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    for pointer in ("best", "last"):
        if (folder / pointer).exists():
            pointed = folder / (folder / pointer).read_text().strip()
            assert pointed.is_dir()
    for name in folders(folder):
        if name.startswith("step-"):
            manifest = json.loads((folder / name / "MANIFEST.json").read_text())
            assert hashlib.sha256((folder / name / "state.pt").read_bytes()).hexdigest() == manifest["sha256"]
