"""``nora norms``: the list, an explanation, JSON, and an id that nobody knows."""

import json

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from configs.errors import ConfigError
from nora_tui.cli.norms import norms_command
from norms import user
from norms.norm import catalogue
from norms.user import UserNorm, UserNorms

app = typer.Typer()
app.command()(norms_command)


def output(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "100", "NO_COLOR": "1"}, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_list_has_every_norm_under_its_category() -> None:
    text = output()
    places = [text.index(f"  {norm.id} ") for norm in catalogue().values()]
    assert places == sorted(places)
    assert text.index("reproducibility") < text.index("seeding") < text.index("reporting")


@pytest.mark.parametrize("norm_id", catalogue())
def test_a_norm_is_explained(norm_id: str) -> None:
    norm = catalogue()[norm_id]
    text = " ".join(output(norm_id).split())
    for part in (norm.title, norm.what, norm.why, norm.advice, *norm.pitfalls):
        assert part in text
    for remedy in norm.remedies:
        assert remedy.action in text
    for regime in ("strict", "balanced", "exploratory"):
        assert regime in text


def test_for_programs() -> None:
    assert [entry["id"] for entry in json.loads(output("--json"))] == list(catalogue())
    limit = json.loads(output("sla", "--json"))["limits"]["p95_ms"]
    assert (limit["strict"], limit["balanced"], limit["exploratory"]) == (220.0, 220.0, "inf")


def test_norms_of_packages_are_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = msgspec.structs.replace(catalogue()["spike"], id="mine", title="Mine holds")
    monkeypatch.setattr(user, "load_user_norms", lambda: UserNorms((UserNorm(mine, ()),), ("a norm is left out",)))
    done = CliRunner().invoke(app, [], env={"COLUMNS": "100"}, catch_exceptions=False)
    assert "Mine holds" in done.stdout
    assert done.stderr == "warning: a norm is left out\n"


def test_an_unknown_norm_is_an_error_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no norm 'spik'; did you mean 'spike'"):
        CliRunner().invoke(app, ["spik"], catch_exceptions=False)
