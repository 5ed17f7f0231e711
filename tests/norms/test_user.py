"""Norms of users: found in a file or a package; what is broken is left out and said, and the run goes on."""

from importlib import metadata
from pathlib import Path

import pytest

from norms.judge import Judge
from norms.signals import Evaluation, Step
from norms.user import ENTRY_POINTS, load_user_norms

ENTRY = """
- id: {id}
  category: stability
  severity: major
  title: The loss stays below 9
  what: The loss is 9 or more.
  why: It should not be.
  judged: [step, evaluation]
  measures: the loss
  limits:
    loss: {{means: the loss, strict: 9, balanced: 9, exploratory: 90}}
  advice: Look at the data.
  evidence: {{loss: the loss}}
  detector: "{detector}"
"""
CODE = """
from norms.finding import Finding

def high_loss(signal, limits, windows):
    if signal.loss is None:
        return None
    if signal.loss < limits["loss"]:
        return signal.loss
    return Finding(value=signal.loss, message=f"the loss is {signal.loss}", evidence={"loss": signal.loss})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "my_norms.py").write_text(CODE)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "norms.yaml"
    path.write_text(text)
    return path


def test_a_norm_in_a_file_beside_its_function(folder: Path) -> None:
    found = load_user_norms(write(folder, ENTRY.format(id="high-loss", detector="my_norms:high_loss")))
    assert found.problems == ()
    judge = Judge("balanced", user_norms=found.norms)
    assert not judge.feed(Step(step=1, loss=1.0)).violations
    assert [v.norm for v in judge.feed(Step(step=2, loss=10.0)).violations] == ["high-loss"]
    assert [v.place for v in judge.feed(Evaluation(split="val", step=2, loss=10.0)).violations if v.norm == "high-loss"]
    assert not Judge("exploratory", user_norms=found.norms).feed(Step(step=2, loss=10.0)).violations


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- [", "is not YAML"),
        (ENTRY.format(id="high-loss", detector="my_norms:gone"), "my_norms:gone cannot be loaded"),
        (ENTRY.format(id="high-loss", detector="no_such_module:f"), "cannot be loaded"),
        (ENTRY.format(id="high-loss", detector="my_norms:Finding.x"), "cannot be loaded"),
        (ENTRY.format(id="high-loss", detector=""), "has no `detector`"),
        (ENTRY.format(id="spike", detector="my_norms:high_loss"), "that id is taken"),
        (ENTRY.format(id="high-loss", detector="my_norms:high_loss").replace("major", "grave"), "severity"),
    ],
)
def test_a_broken_norm_is_left_out_and_said_in_one_sentence(folder: Path, text: str, said: str) -> None:
    found = load_user_norms(write(folder, text))
    assert found.norms == ()
    (problem,) = found.problems
    assert said in problem and "left out" in problem and str(folder) in problem


def test_the_good_ones_of_a_file_stay(folder: Path) -> None:
    good = ENTRY.format(id="good", detector="my_norms:high_loss")
    found = load_user_norms(write(folder, good + ENTRY.format(id="bad", detector="my_norms:gone") + good))
    assert [user.norm.id for user in found.norms] == ["good"]
    assert len(found.problems) == 2


def test_a_module_that_raises_is_left_out(folder: Path) -> None:
    (folder / "rough.py").write_text("1 / 0")
    found = load_user_norms(write(folder, ENTRY.format(id="rough", detector="rough:f")))
    assert found.norms == () and "division by zero" in found.problems[0]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (problem,) = load_user_norms(tmp_path / "none.yaml").problems
    assert "cannot be read" in problem


def test_norms_of_installed_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "a_package.py"
    path = write(folder, ENTRY.format(id="packaged", detector="my_norms:high_loss"))
    package.write_text(f"NORMS = {str(path)!r}")
    monkeypatch.syspath_prepend(folder)
    points = metadata.EntryPoints(
        [
            metadata.EntryPoint("good", "a_package:NORMS", ENTRY_POINTS),
            metadata.EntryPoint("bad", "a_package:GONE", ENTRY_POINTS),
        ]
    )
    monkeypatch.setattr(metadata, "entry_points", lambda group: points.select(group=group))
    found = load_user_norms()
    assert [user.norm.id for user in found.norms] == ["packaged"]
    assert "norms of package bad are left out" in found.problems[0]
    assert load_user_norms(installed=False).norms == ()
