"""Open the cockpit, where there is a terminal to open it in."""

import sys
from pathlib import Path

from configs.errors import ConfigError
from sessions.paths import SessionPaths


def open_cockpit(runs_dir: Path, run: SessionPaths | None = None, *, read_only: bool = False) -> None:
    """Show the cockpit until the person leaves it; runs go on.

    Raises:
        ConfigError: There is no terminal.
    """
    need_terminal()
    from nora_tui.app import NoraApp

    NoraApp(runs_dir=runs_dir, run=run, read_only=read_only).run()


def need_terminal() -> None:
    """Raises ConfigError where there is no terminal to open the cockpit in."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigError("the cockpit needs a terminal; `nora ls`, `nora show` and `nora watch` work without one")
