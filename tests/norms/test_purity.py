"""The package judges without what it judges: no torch, nothing heavy, nothing of the terminal."""

import json
import subprocess
import sys

FORBIDDEN = {
    "torch", "torchvision", "catboost", "pandas", "matplotlib", "sklearn", "numpy", "hydra", "textual", "rich", "typer",
    "engine", "nora_tui",
}  # fmt: skip


def test_importing_the_norms_loads_nothing_heavy() -> None:
    code = (
        "import sys, json, norms.judge, norms.policy, norms.user, norms.codec\n"
        "norms.judge.Judge('strict')\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(json.loads(done.stdout)) & FORBIDDEN
