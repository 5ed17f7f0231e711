"""A built wheel holds everything that a run needs, and works away from the source."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(folder / done.stdout.splitlines()[-1]) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_holds_configuration_style_and_embedded_data(unpacked: Path) -> None:
    for path in (
        "configs/config.yaml",
        "configs/workload/vit.yaml",
        "configs/preset/vit_cifar10.yaml",
        "engine/datasets/bank-full.csv.gz",
        "engine/datasets/bank_schema.yaml",
        "norms/catalog.yaml",
        "nora_tui/nora.tcss",
    ):
        assert (unpacked / path).is_file(), path
    assert not list(unpacked.glob("tests*"))


def test_a_run_works_from_the_wheel_alone(unpacked: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nora_tui", "train", "workload=fake", "--json"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["status"] == "completed"
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import engine; print(engine.__file__)"],
        env=os.environ | {"PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(unpacked)
