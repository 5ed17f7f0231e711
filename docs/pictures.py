"""Draw the picture of the README from a real session: ``python docs/pictures.py RUN_FOLDER [docs/cockpit.svg]``."""

import argparse
import asyncio
from pathlib import Path

from nora_tui.app import NoraApp
from nora_tui.screens.run import RunScreen
from sessions.paths import SessionPaths

SIZE = 120, 34
WAIT_SECONDS = 30.0


async def picture(session: Path) -> str:
    """Return the run screen of a session, all of it loaded, as SVG.

    Raises:
        TimeoutError: The session was not loaded in time.
    """
    app = NoraApp(session.parent, SessionPaths(session), read_only=False)
    async with app.run_test(size=SIZE) as pilot, asyncio.timeout(WAIT_SECONDS):
        while not (isinstance(app.screen, RunScreen) and app.screen.loaded):
            await pilot.pause(0.1)
        await pilot.pause(0.5)
        return app.export_screenshot(title="nora", simplify=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("session", type=Path, help="the folder of a run")
    parser.add_argument("picture", type=Path, nargs="?", default=Path(__file__).with_name("cockpit.svg"))
    options = parser.parse_args()
    options.picture.write_text(asyncio.run(picture(options.session.resolve())))


if __name__ == "__main__":
    main()
