"""A real terminal: tmux runs a command, and says what stands on the screen."""

import contextlib
import os
import shlex
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """One command in a terminal of its own size and tmux server."""

    def __init__(self, command: list[str], folder: Path, columns: int = 80, lines: int = 24) -> None:
        self._socket = f"nora-{uuid.uuid4().hex[:8]}"
        environment = os.environ | {"TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        self._tmux(
            *("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines), "-c", str(folder)),
            shlex.join(command),
            env=environment,
        )

    def _tmux(self, *arguments: str, env: dict[str, str] | None = None) -> str:
        command = ["tmux", "-u", "-L", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    def send(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def wait_for(self, text: str, seconds: float = 30) -> str:
        until = time.monotonic() + seconds
        screen = ""
        while time.monotonic() < until:
            screen = self.screen()
            if text in screen:
                return screen
            time.sleep(0.05)
        raise AssertionError(f"{text!r} did not appear within {seconds} s on\n{screen}")

    def kill(self) -> None:
        """End the terminal as a lost connection would; one whose command has ended is gone by itself."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._tmux("kill-server")
