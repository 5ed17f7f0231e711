from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from nora_tui import clock
from tests.nora_tui import made


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runs folder with a run of every kind, named by a relative path; it is four hours after they began."""
    monkeypatch.chdir(tmp_path)
    now = made.BEGAN + timedelta(hours=4)
    monkeypatch.setattr(clock, "now", lambda: now)
    folder = Path("runs")
    made.write_demo(folder, now)
    yield folder


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder that is not there yet."""
    monkeypatch.chdir(tmp_path)
    return Path("runs")
