"""What the tests of the cockpit share: waiting for what threads bring, and reading the screen as a person does."""

import asyncio
import time
from collections.abc import Callable

from textual.app import App
from textual.pilot import Pilot

from nora_tui.screens.decide import DecideScreen
from nora_tui.widgets.waiting_panel import WaitingPanel

WAIT_SECONDS = 60.0


async def until(pilot: Pilot[None], condition: Callable[[], bool]) -> None:
    """Let the cockpit work until the condition holds."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        await pilot.pause()
        if condition():
            return
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {WAIT_SECONDS} s; the screen shows:\n{screen_text(pilot.app)}")
        await asyncio.sleep(0.02)


async def until_shown(pilot: Pilot[None], *texts: str) -> None:
    await until(pilot, lambda: all(text in screen_text(pilot.app) for text in texts))


def screen_text(app: App[None]) -> str:
    """Return what stands on the screen, line by line."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())


async def until_heard(pilot: Pilot[None]) -> None:
    """Wait until a proposal has been on the screen for so long that keys are meant for it."""
    await until(pilot, lambda: pilot.app.screen.query_one(WaitingPanel).hears)


async def open_proposal(pilot: Pilot[None]) -> None:
    """Open the proposal that waits, and wait until it can be answered."""
    await until_heard(pilot)
    await pilot.press("a")
    await until(pilot, lambda: isinstance(screen := pilot.app.screen, DecideScreen) and screen.hears)
