"""Provenance: what a run was made with, for env.json."""

import hashlib
import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

GIT_SECONDS = 10


def capture(seed: int) -> dict[str, Any]:
    """Return commit and dirty patch of the current folder, interpreter, packages, hardware and seed, for JSON."""
    return {
        "git": git_state(),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": packages(),
        "hardware": hardware(),
        "seeds": {"seed": seed},
        "environment": {
            name: os.environ[name]
            for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "PYTHONHASHSEED", "SLURM_JOB_ID")
            if name in os.environ
        },
    }


def packages() -> dict[str, str]:
    """Return name and version of every installed package; the remains of broken installations have no name."""
    named = [(d.metadata["Name"], d.version) for d in metadata.distributions() if d.metadata["Name"]]
    return dict(sorted(named))


def git_state() -> dict[str, Any] | None:
    """Return commit, and the SHA-256 of the uncommitted patch; None outside a repository or without git."""
    try:
        commit = _git("rev-parse", "HEAD").strip().decode()
        patch = _git("diff", "HEAD", "--binary")
        untracked = _git("ls-files", "--others", "--exclude-standard").decode().splitlines()
    except (OSError, subprocess.SubprocessError):
        return None
    return {
        "commit": commit,
        "dirty": bool(patch),
        "patch_sha256": hashlib.sha256(patch).hexdigest() if patch else None,
        "untracked": len(untracked),
    }


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True, timeout=GIT_SECONDS).stdout


def hardware() -> dict[str, Any]:
    """Return host, CPU, memory and GPUs, without loading torch."""
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def gpus() -> list[dict[str, Any]]:
    """Return name and memory of each NVIDIA GPU that the driver shows; none without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [{"name": pynvml.nvmlDeviceGetName(h), "memory_bytes": _memory_of(h)} for h in handles]
    finally:
        pynvml.nvmlShutdown()


def _memory_of(handle: Any) -> int | None:
    """Return the bytes of memory of a GPU; None where it shares the machine's and reports none of its own."""
    import pynvml

    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError:
        return None
