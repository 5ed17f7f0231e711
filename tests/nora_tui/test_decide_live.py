"""A real run that holds for a person, and a person at the cockpit."""

import json
import subprocess
import sys
from pathlib import Path

from nora_tui.app import NoraApp
from nora_tui.screens.run import RunScreen
from sessions.paths import SessionPaths
from sessions.store import read_session
from tests.nora_tui.pilots import open_proposal, until, until_shown


def start(runs_dir: Path, *overrides: str) -> SessionPaths:
    command = [sys.executable, "-m", "nora_tui", "train", "--detach", "--json", "--runs-dir", str(runs_dir), "--"]
    done = subprocess.run([*command, "workload=fake", *overrides], capture_output=True, text=True, check=True)
    return SessionPaths(Path(json.loads(done.stdout)["path"]))


async def test_a_held_run_goes_on_when_the_cockpit_approves(tmp_path: Path) -> None:
    paths = start(tmp_path, "script.nan_at=5", "script.step_seconds=0.01", "train.steps=20", "train.epochs=1")
    app = NoraApp(tmp_path, paths)
    async with app.run_test(size=(100, 40), notifications=True) as pilot:
        await until_shown(pilot, "p1 waits for you", "the run waits", "non-finite", "skip_step")
        await open_proposal(pilot)
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until_shown(pilot, "✓ completed")
        await pilot.press("3")
        await until_shown(pilot, "▲ critical", "✓ approved", "▶ done")
    state = read_session(paths, curves=False).state
    (resolution,) = state.resolutions
    assert (resolution.verdict, resolution.via, resolution.action) == ("approved", "tui", "skip_step")
    assert [action.action for action in state.actions if action.state == "done"] == ["skip_step"]


async def test_a_held_run_takes_another_action_and_one_that_is_told_to_pause_waits(tmp_path: Path) -> None:
    paths = start(tmp_path, "script.nan_at=5", "script.step_seconds=0.02", "train.steps=400", "train.epochs=1")
    app = NoraApp(tmp_path, paths)
    async with app.run_test(size=(100, 40)) as pilot:
        await open_proposal(pilot)
        await pilot.press("o", "right")
        await until_shown(pilot, "● amp_off")
        await pilot.press("left", "left", "left")
        await until_shown(pilot, "● stop")
        await pilot.press("escape", "escape")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await open_proposal(pilot)
        await pilot.press("r", *"known", "ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("p")
        await until_shown(pilot, "‖ paused")
        await pilot.press("p")
        await until_shown(pilot, "● running")
        await pilot.press("n", *"looks fine", "ctrl+s", "3")
        await until_shown(pilot, "✎ note", "looks fine", "✗ rejected")
        await pilot.press("x", "y")
        await until_shown(pilot, "■ stopped")
    state = read_session(paths, curves=False).state
    assert [(found.verdict, found.reason) for found in state.resolutions[:1]] == [("rejected", "known")]
