"""The house rules that no linter sees: what a process really loads, and that the parts import one way."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "torchvision", "catboost", "pandas", "matplotlib"}


def modules_after(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded after running the code."""
    script = f"import sys, json\n{code}\nprint(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def command(*arguments: str) -> str:
    call = "from nora_tui.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass"
    return f"sys.argv = {['nora', *arguments]!r}\n{call}"


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        (command("--help"), HEAVY | {"textual", "hydra", "numpy", "watchfiles"}),
        (command("ls"), HEAVY | {"textual", "hydra", "numpy"}),
        ("import nora_tui.app, nora_tui.bridge", HEAVY | {"hydra", "typer"}),
        ("import engine.supervise", HEAVY | {"textual", "hydra", "numpy", "rich", "typer"}),
        ("import engine.worker, engine.workloads.fake", HEAVY | {"textual", "hydra", "rich", "typer"}),
        ("import engine.launch", {"torch", "torchvision", "catboost", "matplotlib", "textual", "rich", "typer"}),
    ],
)
def test_a_process_loads_only_what_it_needs(code: str, forbidden: set[str], tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not modules_after(code) & forbidden


@pytest.mark.parametrize("workload", ["vit", "catboost"])
def test_checking_a_run_before_it_starts_loads_no_torch(workload: str) -> None:
    code = (
        "from configs.load import compose\nfrom engine.workloads import workload_for\n"
        f"config = compose(['workload={workload}'])\nworkload = workload_for(config)\n"
        "workload.preflight(config)\nworkload.plan(config)"
    )
    assert not modules_after(code) & {"torch", "torchvision", "catboost"}
