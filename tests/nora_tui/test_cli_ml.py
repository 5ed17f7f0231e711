"""`nora ml` as people type it: output, files and exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nora_tui.cli import app
from tests.engine.tables import small_csv

SMALL_FIT = ("train.iterations=30", "runtime.threads=1")


def nora(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["ml", *map(str, arguments)], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return small_csv(tmp_path)


def test_the_four_steps_follow_each_other_with_their_defaults(data: Path, tmp_path: Path) -> None:
    checked = nora("validate", data)
    assert checked.exit_code == 0, checked.output
    assert "3015 rows keep the schema" in checked.output
    built = nora("build-features", f"data={data}", "seed=5")
    assert built.exit_code == 0, built.output
    assert "15 features, without duration" in built.output
    trained = nora("train", *SMALL_FIT)
    assert trained.exit_code == 0, trained.output
    assert "stratified test" in trained.output
    assert "date test" in trained.output
    evaluated = nora("evaluate", "--output", "evaluation.json")
    assert evaluated.exit_code == 0, evaluated.output
    assert "predicted" in evaluated.output
    assert {path.name for path in tmp_path.iterdir()} == {
        "small.csv",
        "features.parquet",
        "features.json",
        "model",
        "evaluation.json",
    }
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"model.cbm", "model-date.cbm", "metrics.json"}


def test_json_is_one_document_on_standard_output(data: Path) -> None:
    assert json.loads(nora("validate", data, "--json").stdout)["valid"] is True
    assert json.loads(nora("build-features", f"data={data}", "--json").stdout)["data"]["rows"] == 3_015
    metrics = json.loads(nora("train", *SMALL_FIT, "--json").stdout)
    result = json.loads(nora("evaluate", "--model", "model/model-date.cbm", "--split", "val", "--json").stdout)
    assert result["scores"] == metrics["date"]["val"]


def test_broken_data_ends_with_3_and_says_where(data: Path) -> None:
    data.write_text(data.read_text().replace('"married"', '"wed\x1b[2J"', 1))
    done = nora("validate", data)
    assert done.exit_code == 3
    assert "column 'marital': 'wed" in done.output
    assert "\x1b" not in done.output
    broken = nora("validate", data, "--json")
    assert broken.exit_code == 3
    assert json.loads(broken.stdout)["problem_count"] == 1


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("validate", "gone.csv"), 3, "gone.csv cannot be read: No such file or directory"),
        (("build-features", "data=gone.csv"), 3, "gone.csv cannot be read"),
        (("build-features", "features.exclude=[agee]"), 2, "did you mean 'age'?"),
        (("build-features", "train.iterations=5"), 2, "train.iterations: `nora ml build-features` reads only data,"),
        (("build-features", "train.val_fraction=0.9"), 2, "train.val_fraction + train.test_fraction"),
        (("build-features", "seed=x"), 2, "seed=x: expected a whole number"),
        (("build-features", "--output", "/proc/x/f.parquet"), 4, "/proc/x cannot be created"),
        (("train", "features.exclude=[]"), 2, "features.exclude: `nora ml train` reads only seed,"),
        (("train", "model.depht=3"), 2, "did you mean 'model.depth'?"),
        (("train", "runtime.device=cuda:99"), 2, "runtime.device=cuda:99: this machine has"),
        (("train",), 3, "features.parquet cannot be read"),
        (("evaluate",), 3, "features.parquet cannot be read"),
        (("evaluate", "--split", "nothing"), 2, "'nothing'"),
    ],
)
def test_exit_codes_and_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = nora(*arguments)
    assert (done.exit_code, sentence in done.output) == (code, True), done.output
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten_unless_forced(data: Path, tmp_path: Path) -> None:
    assert nora("build-features", f"data={data}").exit_code == 0
    before = (tmp_path / "features.parquet").read_bytes()
    refused = nora("build-features", f"data={data}", "seed=9")
    assert refused.exit_code == 2
    assert "--force" in refused.output
    assert (tmp_path / "features.parquet").read_bytes() == before
    assert nora("build-features", f"data={data}", "seed=9", "--force").exit_code == 0
    assert (tmp_path / "features.parquet").read_bytes() != before
