"""Start runs: create the session folder and, detached from any terminal, the supervisor that runs it."""

import os
import shutil
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Protocol

from configs.errors import ConfigError, StorageError
from configs.load import to_yaml
from configs.schema import AnyConfig
from engine.workloads import workload_for
from norms.judge import Judge
from norms.user import load_user_norms
from sessions.files import PRIVATE_DIR, PRIVATE_FILE, write_atomic
from sessions.paths import SessionPaths

LEAST_FREE_BYTES = 64 << 20
"""Free space without which a run is not begun."""


class Launcher(Protocol):
    def start(self, paths: SessionPaths) -> None:
        """Have the session in this folder run, and return without waiting for it.

        Raises:
            NoraError: It cannot be started; nothing of it runs.
        """


class LocalLauncher:
    """Runs a session on this machine, in a process group of its own that no closing terminal reaches."""

    def start(self, paths: SessionPaths) -> None:
        console = os.open(paths.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
        try:
            # -P: the folder that somebody happens to stand in may hold an `engine` of its own.
            subprocess.run(
                [sys.executable, "-P", "-m", "engine.supervise", str(paths.root), "--detach"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                check=True,
            )
        finally:
            os.close(console)


def launch(config: AnyConfig, runs_dir: Path, name: str | None = None) -> SessionPaths:
    """Check that the run can work, create its session and start it.

    Raises:
        NoraError: What is wrong, where, and what to do; then no session exists.
    """
    check_norms(config)
    workload_for(config).preflight(config)
    paths = create_session(config, runs_dir, name)
    launcher: Launcher = LocalLauncher()
    try:
        launcher.start(paths)
    except (OSError, subprocess.CalledProcessError) as error:
        shutil.rmtree(paths.root)
        raise StorageError(
            f"{paths.root} cannot be written by the run's processes; look at free space and inodes there"
        ) from error
    return paths


def check_norms(config: AnyConfig) -> None:
    """Check what the configuration says of norms, which the catalogue and the user's own norms must know.

    Raises:
        ConfigError: Names the norm, limit or level that is unknown, and the nearest; or the file that cannot be read.
    """
    file = Path(config.norms.file) if config.norms.file is not None else None
    if file is not None and not (file.is_file() and os.access(file, os.R_OK)):
        raise ConfigError(f"norms.file={file} is no file that can be read; give the YAML file with your norms")
    Judge(
        config.regime,
        overrides=config.norms.thresholds,
        muted=config.norms.muted,
        user_norms=load_user_norms(file).norms,
    )


def create_session(config: AnyConfig, runs_dir: Path, name: str | None = None) -> SessionPaths:
    """Create the folder of a new session with its config.yaml, all of it or nothing.

    Raises:
        ConfigError: The name is taken, or cannot name a folder.
        StorageError: The runs folder cannot be written, or its disk is full.
    """
    if name is not None:
        _check_name(name)
    if not str(runs_dir).isprintable():
        raise ConfigError(f"{str(runs_dir)!r} cannot hold runs: its name has characters that cannot be shown")
    try:
        runs_dir.mkdir(mode=PRIVATE_DIR, parents=True, exist_ok=True)
        free = shutil.disk_usage(runs_dir).free
        if free < LEAST_FREE_BYTES:
            raise StorageError(f"{runs_dir} has {free >> 20} MB left, a run needs {LEAST_FREE_BYTES >> 20}; make space")
        folder = _claim(runs_dir, config, name)
    except OSError as error:
        raise StorageError(
            f"{runs_dir} cannot hold a new run: {error.strerror}; choose another folder with --runs-dir"
        ) from error
    paths = SessionPaths(folder.resolve())
    try:
        write_atomic(paths.config, to_yaml(config).encode())
    except StorageError:
        shutil.rmtree(folder)
        raise
    return paths


def _check_name(name: str) -> None:
    if not name.isprintable() or name.startswith((".", "-")) or "/" in name or not 0 < len(name.encode()) <= 200:
        raise ConfigError(f"{name!r} cannot name a run: it names a folder, without '/' and not begun with '.' or '-'")


def _claim(runs_dir: Path, config: AnyConfig, name: str | None) -> Path:
    """Create an empty folder that nobody else has: by mkdir, which of any number of launchers lets one succeed."""
    if name is not None:
        try:
            (runs_dir / name).mkdir(mode=PRIVATE_DIR)
        except FileExistsError:
            raise ConfigError(
                f"a run named {name!r} exists in {runs_dir}; choose another --name, or remove it"
            ) from None
        return runs_dir / name
    data = Path(config.data).stem
    stem = f"{config.workload}-{data}-{datetime.now():%m%d-%H%M%S}"
    number = 1
    while True:
        folder = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        try:
            folder.mkdir(mode=PRIVATE_DIR)
        except FileExistsError:
            number += 1
        else:
            return folder
