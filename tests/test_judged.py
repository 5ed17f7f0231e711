"""The tables of docs/judged.md, over sessions written by hand."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from configs.errors import StorageError
from configs.load import compose
from docs.judged import Judged, injected_row, page, summary
from docs.judged_runs import INJECTIONS, SEEDS, Case, clean, injected, name_of, run, twin, wanted
from norms.norm import catalogue
from sessions import events
from sessions.events import AnyEvent
from sessions.state import SessionState
from sessions.store import read_session
from tests.nora_tui import made

OVERFLOW = events.Log(level="info", source="injection", text="planted: the logits overflow from update 15 on")


def broken(norm: str, step: int, number: int = 1, severity: events.Severity = "critical") -> events.ViolationFound:
    return events.ViolationFound(
        id=f"v{number}", norm=norm, category="stability", severity=severity, step=step, message="it is so"
    )


def done(action: str, violation: str = "v1", number: int = 1, **params: object) -> list[AnyEvent]:
    """Return a proposal that a rule approved, and its action."""
    return [
        events.Proposal(id=f"p{number}", violations=[violation], action=action, params=params, hold="continue"),
        events.Resolution(
            proposal=f"p{number}", verdict="by_policy", action=action, params=params, by="approve=auto", via="policy"
        ),
        events.Action(id=f"a{number}", proposal=f"p{number}", action=action, params=params, state="started", step=15),
        events.Action(id=f"a{number}", proposal=f"p{number}", action=action, params=params, state="done", step=15),
    ]


def outcome(state: str, number: int = 1) -> events.Outcome:
    return events.Outcome(violation=f"v{number}", state=state, step=16)


def ended(folder: Path, happened: Sequence[AnyEvent] = (), accuracy: float | None = 0.9) -> SessionState:
    """Return a run of 4 epochs of 10 steps in which this happened, read from its folder."""
    scores = {} if accuracy is None else {"test": {"accuracy": accuracy}}
    finished = events.RunFinished(
        status="completed", reason="all steps done", exit_code=0, summary=scores, verdict=events.Verdict(kept=["spike"])
    )
    first = made.started(folder.name, total_steps=40, total_epochs=4)
    return read_session(
        made.write(folder, [(float(at), each) for at, each in enumerate([first, *happened, finished])])
    ).state


def judged(folder: Path, what: str, happened: Sequence[AnyEvent], mode: str = "norm_aware", seed: int = 42) -> Judged:
    return Judged(Case(what, mode, "strict", seed), ended(folder / f"run-{seed}", happened), None)


@pytest.mark.parametrize(
    ("what", "step", "in_time"),
    [
        ("nondeterminism", 0, True),
        ("nondeterminism", 1, True),
        ("nondeterminism", 2, False),
        ("amp_nan", 14, False),
        ("amp_nan", 15, True),
        ("amp_nan", 16, True),
        ("amp_nan", 17, False),
        ("eval_mode_bug", 9, False),
        ("eval_mode_bug", 10, True),
        ("eval_mode_bug", 20, True),
        ("eval_mode_bug", 21, False),
        ("checkpoint_incomplete", 10, True),
        ("reporting_single_run", 39, False),
        ("reporting_single_run", 40, True),
    ],
)
def test_in_time_is_within_a_step_or_an_epoch_of_the_trigger(
    tmp_path: Path, what: str, step: int, in_time: bool
) -> None:
    one = judged(tmp_path, what, [OVERFLOW, broken(INJECTIONS[what].norm, step)])
    assert one.in_time is in_time
    assert f"{int(in_time)} of 1" in summary([one])[0]


def test_another_norm_is_not_the_right_one(tmp_path: Path) -> None:
    one = judged(tmp_path, "amp_nan", [OVERFLOW, broken("spike", 15, severity="major"), broken("drift", 15, 2, "info")])
    assert (one.in_time, one.outcome) == (False, "not found")
    lines = "\n".join(summary([one]))
    assert "Not found in time: run-42 (spike (major), drift (info))." in lines
    assert "another norm above info as well: 1 of 1" in lines
    assert "Another norm: run-42: spike (major) at step 15: it is so." in lines
    assert "drift (info) at" not in lines


def test_a_row_says_what_was_done_and_how_far_the_result_is_from_the_clean_one(tmp_path: Path) -> None:
    cured = [broken("non-finite", 15), *done("skip_step"), *done("set_lr", number=2, factor=0.5), outcome("cured")]
    persists = [broken("non-finite", 16), *done("set_lr", factor=0.5), *done("set_lr", number=2, factor=0.5)]
    accuracies = (0.9, 0.8, None)
    happened = (cured, [*persists, outcome("persists")], [broken("non-finite", 15), outcome("cured")])
    rows = [
        Judged(
            Case("amp_nan", "norm_aware", "strict", seed),
            ended(tmp_path / f"run-{seed}", [OVERFLOW, *each], accuracy),
            ended(tmp_path / f"twin-{seed}", accuracy=0.91),
        )
        for seed, each, accuracy in zip(SEEDS, happened, accuracies, strict=True)
    ]
    assert injected_row(rows) == (
        "| amp_nan | strict | non-finite (critical) | 15 | 15 / 16 / 15 "
        "| skip_step, by approve=auto; set_lr factor=0.5, by approve=auto / set_lr factor=0.5, by approve=auto ×2 "
        "/ nothing | cured / persists / cured | 90.00, 80.00, – | -6.00 (worst -11.00) | 0 |"
    )


def test_a_run_is_cured_only_if_all_its_violations_are(tmp_path: Path) -> None:
    two = [OVERFLOW, broken("non-finite", 15), broken("non-finite", 16, 2), outcome("cured")]
    assert judged(tmp_path, "amp_nan", two).outcome == "none"
    assert judged(tmp_path / "both", "amp_nan", [*two, outcome("cured", 2)]).outcome == "cured"


@pytest.mark.parametrize(("norm", "count"), [("eval-mode", 1), ("non-finite", 0)])
def test_what_was_done_about_no_symptom_is_counted(tmp_path: Path, norm: str, count: int) -> None:
    one = judged(tmp_path, "eval_mode_bug", [broken(norm, 10), *done("roll_back")], mode="agentic")
    assert f"Acted on: 1 of 1; on something that is no symptom: {count}." in "\n".join(summary([one]))


def environment(dirty: bool) -> dict[str, object]:
    return {
        "git": {"commit": "0123456789abcdef", "dirty": dirty},
        "hardware": {"cpu": "Test CPU", "threads": 2},
        "packages": {"torch": "2.15.0"},
    }


def test_the_page_counts_clean_runs_with_a_violation_above_info(tmp_path: Path) -> None:
    cases = [case for case in clean() if case.what == "vit"][:3]
    found = ([broken("spike", 3, severity="minor")], [broken("determinism", 0, severity="info")], [])
    ends = {case: ended(tmp_path / f"run-{n}", each) for n, (case, each) in enumerate(zip(cases, found, strict=True))}
    ends[twin("eval_mode_bug", 42)] = ended(tmp_path / "twin", [broken("spike", 3)])
    text = page(ends, [environment(dirty=True)], "make judged")
    assert "With a violation above info: **1 of 3** (30 are asked for); of the 1 further clean runs" in text
    assert "twins of runs above: 1." in text
    assert "| 42 | 90.00 | 1 | spike (minor) at step 3 | nothing | 0 |" in text
    assert "| vit model.dropout=0.1 | norm_aware | balanced | 42 |" in text
    assert "the same in every mode and regime: yes" in text
    assert "from 4 runs (commit 0123456 with changes not committed), on Test CPU, 2 cores, torch 2.15.0" in text
    assert text.count("Not run yet.") == 3


def test_the_page_says_where_clean_results_differ(tmp_path: Path) -> None:
    cases = [case for case in clean() if (case.what, case.seed) == ("vit", 42)][:2]
    ends = {case: ended(tmp_path / f"run-{n}", accuracy=0.9 + n / 10) for n, case in enumerate(cases)}
    assert "the same in every mode and regime: NO" in page(ends, [environment(dirty=False)], "make judged")


def test_the_page_says_how_far_seeds_move_the_clean_result(tmp_path: Path) -> None:
    ends = {twin("aug_leak", seed): ended(tmp_path / f"run-{seed}", accuracy=0.9 + seed / 1e4) for seed in SEEDS}
    text = page(ends, [environment(dirty=False)], "make judged")
    assert "Over 3 seeds, the clean ViT has 90.42 to 94.56% on the test split." in text


def test_the_page_compares_a_run_with_its_own_twin(tmp_path: Path) -> None:
    case = Case("eval_mode_bug", "pipeline", "balanced", 123)
    ends = {case: ended(tmp_path / "run", [broken("eval-mode", 10)], 0.9)}
    ends |= {twin("aug_leak", 123): ended(tmp_path / "other", accuracy=0.5)}
    ends |= {twin("eval_mode_bug", 123): ended(tmp_path / "twin", accuracy=0.88)}
    assert "| none | 90.00 | +2.00 (worst +2.00) | 0 |" in page(ends, [environment(dirty=False)], "make judged")


def test_every_injection_and_every_clean_run_that_is_asked_for_is_there() -> None:
    cases = wanted(SEEDS)
    assert len(injected("norm_aware")) == 54
    assert len(clean()) == len(set(clean())) == 30
    assert {norm.norm for norm in INJECTIONS.values()} <= set(catalogue())
    assert {*clean(), *injected("pipeline"), *injected("agentic")} < set(cases)
    assert all(twin(case.what, case.seed) in cases for case in cases if case.what in INJECTIONS)


def test_a_run_that_has_ended_is_not_run_again(tmp_path: Path) -> None:
    case = Case("vit", "norm_aware", "strict", 42)
    config = compose(case.overrides)
    assert (config.approve, config.mode, config.regime, config.seed) == ("auto", "norm_aware", "strict", 42)
    name = name_of(case, config)
    assert name != name_of(case, compose([*case.overrides, "train.epochs=2"]))
    there = ended(tmp_path / name)
    assert run(config, tmp_path, name) == there


def test_a_run_that_crashed_stands_in_no_table(tmp_path: Path) -> None:
    config = compose(["workload=fake"])
    made.write(tmp_path / "gone", [(0.0, made.started("gone", host="node-7"))])
    for path in (tmp_path / "gone").iterdir():  # written long ago: nothing runs it any more
        os.utime(path, (0, 0))
    with pytest.raises(StorageError, match=r"gone is lost; read its console\.log"):
        run(config, tmp_path, "gone")
