"""``nora doctor``: what this machine can do."""

import os
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil

from engine.environment import hardware
from sessions.tail import file_system_of, must_poll


@dataclass(frozen=True)
class Finding:
    topic: str
    state: Literal["good", "note", "missing"]
    text: str


def examine(runs_dir: Path) -> list[Finding]:
    """Return what was found, the needed first."""
    return [_python(), *_libraries(), *_processor(), *_gpus(), _memory(), *_runs_folder(runs_dir), _terminal()]


def _python() -> Finding:
    return Finding("python", "good", f"{sys.version.split()[0]} at {sys.executable}")


def _libraries() -> list[Finding]:
    found = []
    for name in ("torch", "torchvision", "catboost", "textual", "hydra-core"):
        try:
            found.append(Finding(name, "good", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding(name, "missing", f"not installed; `pip install {name}`"))
    return found


def _processor() -> list[Finding]:
    machine = hardware()
    found = [Finding("cpu", "good", f"{machine['cpu']}, {machine['threads']} threads for this process")]
    try:
        from engine.workloads.vit.train import computes_bf16, device_of
    except ImportError as error:
        return [*found, Finding("torch import", "missing", f"fails: {error}")]
    if computes_bf16(device_of("cpu")):
        return [*found, Finding("bf16 on cpu", "good", "computed natively: amp.dtype=auto takes bf16")]
    return [*found, Finding("bf16 on cpu", "note", "not native on this CPU: amp.dtype=auto keeps fp32")]


def _gpus() -> list[Finding]:
    names = ", ".join(gpu["name"] for gpu in hardware()["gpus"])
    try:
        from engine.workloads.vit.train import device_of
    except ImportError:
        return [Finding("gpu", "note", f"{names or 'none seen'}; torch cannot be imported")]
    if device_of("auto").type == "cuda":
        return [Finding("gpu", "good", names or "a CUDA device")]
    if names:
        return [Finding("gpu", "note", f"{names}: there, but the torch that is installed cannot use it")]
    return [Finding("gpu", "note", "none; runs use the CPU")]


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", "good", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")


def _runs_folder(runs_dir: Path) -> list[Finding]:
    folder = runs_dir.absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    found = [Finding("disk", "good", f"{shutil.disk_usage(there).free / 2**30:.1f} GiB free for {runs_dir}")]
    if not os.access(there, os.W_OK | os.X_OK):
        found.append(Finding("runs folder", "missing", f"{there} cannot be written; choose another with --runs-dir"))
    kind = file_system_of(there) or "unknown file system"
    how = "followed by polling" if must_poll([there]) else "followed by the kernel's notices"
    return [*found, Finding("following", "good", f"{kind}, {how}")]


def _terminal() -> Finding:
    if not sys.stdout.isatty():
        return Finding("terminal", "note", "none on standard output: runs show plain progress lines")
    size = shutil.get_terminal_size()
    state: Literal["good", "note"] = "good" if size.columns >= 60 and size.lines >= 16 else "note"
    return Finding("terminal", state, f"{size.columns}x{size.lines}, TERM={os.environ.get('TERM', '')}")


def print_findings(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    marks = {"good": ("✓", "green"), "note": ("·", "yellow"), "missing": ("✗", "red")}
    for finding in findings:
        mark, style = marks[finding.state]
        line = Text.assemble((f"{mark} ", style), (f"{finding.topic:<12} ", "bold"), finding.text)
        console.print(line, soft_wrap=True)
