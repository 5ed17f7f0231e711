"""The cockpit stays light: none of its screens brings what only a training process needs."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, json, sys
from pathlib import Path
from nora_tui.app import NoraApp
from tests.nora_tui.pilots import until_shown

async def main():
    app = NoraApp(Path(sys.argv[1]))
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "vit-digits-completed")
        await pilot.press("down", "enter")
        await until_shown(pilot, "grad_norm")
        for key in "123456":
            await pilot.press(key)
            await pilot.pause(0.2)
        await pilot.press("question_mark", "escape", "escape", "n")
        await until_shown(pilot, "overrides")

asyncio.run(main())
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_no_screen_loads_what_only_training_needs(runs: Path) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(runs.absolute())], cwd=root, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert not loaded & {"hydra", "omegaconf", "torch", "torchvision", "catboost", "pandas", "matplotlib", "engine"}
    assert "numpy" in loaded, "else the charts were not drawn"
