"""Proposals, verdicts and commands, through the real processes of a scripted run."""

from pathlib import Path
from typing import Any

import pytest

from sessions.events import Action, Proposal
from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, Command, Decide, Stop, WriteNote, ask
from sessions.state import SessionState
from tests.engine.runs import ended, start, wait_until

RUN = ("workload=fake", "train.epochs=1", "train.steps=60", "script.step_seconds=0.01", "script.nan_at=5")
LASTING = (*RUN, "script.nan_steps=40")
"""The loss is not a number until a remedy ends that: leaving updates out does not."""


def waiting(state: SessionState) -> bool:
    return bool(open_proposals(state))


def open_proposals(state: SessionState) -> list[Proposal]:
    decided = {resolution.proposal for resolution in state.resolutions}
    return [proposal for proposal in state.proposals if proposal.id not in decided]


def asked(runs: Path, *overrides: str) -> tuple[SessionPaths, SessionState]:
    """Return a run that waits for a verdict."""
    paths = start(runs, *overrides)
    return paths, wait_until(paths, waiting).state


def answered(paths: SessionPaths, request: AnyRequest) -> SessionState:
    """Ask, and return the state once the run has answered with a refusal or an end to what it was asked."""
    ask(paths, request)
    return wait_until(paths, lambda state: any(each.request == request.id for each in state.refused)).state


def done(state: SessionState) -> list[Action]:
    return [action for action in state.actions if action.state == "done"]


def verdict(state: SessionState) -> tuple[str, str, str]:
    resolution = state.resolutions[0]
    return resolution.verdict, resolution.action, resolution.via


def test_a_held_run_waits_and_obeys_an_approval_within_the_step(tmp_path: Path) -> None:
    paths, state = asked(tmp_path, *RUN)
    proposal = state.proposals[0]
    assert (proposal.action, proposal.hold, proposal.on_timeout) == ("skip_step", "pause", "recommended")
    assert state.phase is not None
    assert (state.phase.name, state.step) == ("hold", 5)
    ask(paths, Decide(via="cli", proposal=proposal.id, verdict="approve", reason="a bad batch"))
    state = ended(paths).state
    assert (state.status, state.exit_code) == ("completed", 0)
    assert verdict(state) == ("approved", "skip_step", "cli")
    assert state.resolutions[0].reason == "a bad batch"
    action = done(state)[0]
    assert (action.step, action.effect) == (5, {"before": {"update": 5}, "after": {"left_out": 5}})
    assert state.outcomes == {"v1": "cured"}
    assert state.verdict is not None
    assert state.verdict.kept == ["non-finite"]


def test_an_override_takes_another_action(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING)
    ask(paths, Decide(via="tui", proposal="p1", verdict="override", action="amp_off"))
    state = ended(paths).state
    assert verdict(state) == ("overridden", "amp_off", "tui")
    assert done(state)[0].effect == {"before": {"amp": True}, "after": {"amp": False}}
    assert state.outcomes == {"v1": "cured"}
    assert len(state.proposals) == 1


def test_an_override_changes_parameters_of_what_is_proposed(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING, "mode=agentic")
    ask(paths, Decide(via="cli", proposal="p1", verdict="override", params={"lr": 0.02}))
    state = wait_until(paths, lambda state: bool(done(state))).state
    assert state.proposals[0].params == {"factor": 0.5}
    assert done(state)[0].effect == {"before": {"lr": 0.1}, "after": {"lr": 0.02}}
    ask(paths, Stop(via="cli"))
    ended(paths)


def test_a_remedy_that_does_not_help_is_followed_by_the_next(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING)
    ask(paths, Decide(via="cli", proposal="p1", verdict="approve"))
    state = wait_until(paths, lambda state: len(state.proposals) == 2).state
    assert (state.proposals[1].action, state.outcomes) == ("amp_off", {"v1": "persists"})
    assert "did not help" in state.proposals[1].rationale
    ask(paths, Decide(via="cli", proposal="p2", verdict="approve"))
    state = ended(paths).state
    assert (state.status, state.exit_code, state.outcomes) == ("completed", 0, {"v1": "cured"})


def test_a_rejection_lets_the_run_go_on_and_is_on_record(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING, "script.nan_steps=100")
    ask(paths, Decide(via="cli", proposal="p1", verdict="reject", reason="expected here"))
    state = ended(paths).state
    assert verdict(state) == ("rejected", "none", "cli")
    assert (state.status, state.exit_code, done(state)) == ("completed", 0, [])
    assert state.verdict is not None
    assert state.verdict.overridden == ["non-finite"]


def test_always_is_remembered_and_answers_the_next_question(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING)
    ask(paths, Decide(via="cli", by="ann", proposal="p1", verdict="approve", always=True))
    state = ended(paths).state
    assert [(policy.norm, policy.verdict, policy.by) for policy in state.policies] == [
        ("non-finite", "approved", "ann")
    ]
    assert [resolution.verdict for resolution in state.resolutions] == ["approved", "by_policy"]
    assert "ann" in state.resolutions[1].by
    assert [action.action for action in done(state)] == ["skip_step", "amp_off"]


@pytest.mark.parametrize(
    ("regime", "status", "code", "action"),
    [
        ("balanced", "completed", 0, "skip_step"),
        ("strict", "stopped", 6, "stop"),
        ("exploratory", "completed", 7, "none"),
    ],
)
def test_when_nobody_answers_the_regime_decides(
    tmp_path: Path, regime: str, status: str, code: int, action: str
) -> None:
    lasting = 1 if action == "skip_step" else 100
    paths = start(tmp_path, *RUN, f"script.nan_steps={lasting}", f"regime={regime}", "norms.deadline_seconds=0.3")
    state = ended(paths).state
    assert (state.status, state.exit_code) == (status, code)
    assert verdict(state) == ("timed_out", action, "policy")
    assert state.resolutions[0].waited_seconds is not None
    assert state.resolutions[0].waited_seconds >= 0.3


def test_what_is_not_cured_ends_with_exit_code_7(tmp_path: Path) -> None:
    never = (*RUN, "script.nan_steps=100", "mode=pipeline")
    state = ended(start(tmp_path, *never)).state
    assert (state.status, state.exit_code, state.proposals) == ("completed", 7, ())
    assert "non-finite" in state.reason
    assert state.verdict is not None
    assert state.verdict.broken == ["non-finite"]
    assert ended(start(tmp_path, *never, "fail_on=never")).state.exit_code == 0


def test_a_held_run_answers_a_stop(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *RUN)
    ask(paths, Stop(via="cli", reason="enough"))
    state = ended(paths).state
    assert (state.status, state.exit_code) == ("stopped", 6)


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (Decide(via="cli", proposal="p9", verdict="approve"), "unknown proposal p9; p1 waits"),
        (Decide(via="cli", proposal="p1", verdict="override"), "override needs another action"),
        (
            Decide(via="cli", proposal="p1", verdict="override", action="set_lr", params={"factor": 0}),
            "factor=0 is not possible; allowed is a number above 0 up to 1000",
        ),
        (Decide(via="cli", proposal="p1", verdict="override", action="drop_column"), "needs columns"),
        (Decide(via="cli", proposal="p1", verdict="override", action="save_again"), "this run cannot do save_again"),
        (Decide(via="cli", proposal="p1", verdict="approve", params={"factor": 2}), "use override"),
        (Command(via="cli", action="resume"), "it is not paused"),
        (Command(via="cli", action="dance"), "there is no action 'dance'"),
        (Command(via="cli", action="mute", params={"norm": "spyke", "reason": "x"}), "did you mean 'spike'?"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_is_refused_and_the_proposal_waits_on(tmp_path: Path, request_: Any, why: str) -> None:
    paths, _ = asked(tmp_path, *RUN)
    state = answered(paths, request_)
    assert why in state.refused[-1].why
    assert waiting(state)
    ask(paths, Stop(via="cli"))
    ended(paths)


def test_the_first_valid_verdict_wins(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING)
    ask(paths, Decide(via="tui", by="ann", proposal="p1", verdict="override", action="amp_off"))
    late = Decide(via="cli", by="bob", proposal="p1", verdict="reject")
    state = answered(paths, late)
    assert "p1 is decided already: overridden by ann" in state.refused[0].why
    assert ended(paths).state.resolutions[0].by == "ann"


def test_a_person_pauses_sets_the_rate_writes_a_note_and_resumes(tmp_path: Path) -> None:
    paths = start(tmp_path, "workload=fake", "train.steps=400", "train.epochs=1", "script.step_seconds=0.01")
    wait_until(paths, lambda state: state.step > 2)
    ask(paths, Command(via="tui", action="pause"))
    held = wait_until(paths, lambda state: state.phase is not None and state.phase.name == "hold").state
    ask(paths, Command(via="tui", action="set_lr", params={"factor": 0.5}))
    ask(paths, WriteNote(via="tui", by="ann", text="half the rate"))
    state = wait_until(paths, lambda state: bool(state.notes)).state
    assert (state.notes[0].text, state.notes[0].by, state.notes[0].step) == ("half the rate", "ann", held.step)
    assert state.step == held.step
    ask(paths, Command(via="tui", action="resume"))
    state = ended(paths).state
    assert state.status == "completed"
    effects = {action.action: action.effect for action in done(state)}
    assert effects["set_lr"] == {"before": {"lr": 0.1}, "after": {"lr": 0.05}}
    assert effects["resume"] == {"before": {"held": True}, "after": {"held": False}}


def test_muting_a_norm_settles_what_was_asked_about_it(tmp_path: Path) -> None:
    paths, _ = asked(tmp_path, *LASTING)
    ask(paths, Command(via="cli", action="mute", params={"norm": "non-finite", "reason": "a test of mine"}))
    state = ended(paths).state
    assert verdict(state) == ("rejected", "none", "cli")
    assert (state.status, state.exit_code) == ("completed", 0)
    assert state.standings["non-finite"].state == "muted"


def test_auto_takes_what_is_recommended_and_record_changes_nothing(tmp_path: Path) -> None:
    auto = ended(start(tmp_path, *LASTING, "approve=auto")).state
    assert [resolution.by for resolution in auto.resolutions] == ["approve=auto", "approve=auto"]
    assert (auto.exit_code, auto.outcomes) == (0, {"v1": "cured"})
    record = ended(start(tmp_path, *LASTING, "script.nan_steps=100", "approve=record")).state
    assert done(record) == []
    assert (record.status, record.exit_code) == ("completed", 7)


def test_a_broken_norm_of_a_user_is_reported_and_the_run_goes_on(tmp_path: Path) -> None:
    norms = tmp_path / "mine.yaml"
    norms.write_text("- id: mine\n  category: validity\n")
    state = ended(start(tmp_path, *RUN, "approve=auto", f"norms.file={norms}")).state
    assert state.status == "completed"
    assert any("mine" in log.text and log.source == "norms" for log in state.logs)


def test_a_norm_of_a_user_is_judged_and_its_remedy_carried_out(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        """
- id: rate-too-high
  category: stability
  severity: major
  title: The learning rate is small
  what: It is not.
  why: Somebody here has been bitten.
  judged: [step]
  measures: the learning rate
  limits:
    lr: {means: learning rate, strict: 0.06, balanced: 0.06, exploratory: 1}
  remedies:
    - {action: set_lr, params: {factor: 0.5}}
  advice: Lower it.
  detector: "mine:rate_too_high"
"""
    )
    (tmp_path / "mine.py").write_text(
        """
from norms.finding import Finding

def rate_too_high(signal, limits, windows):
    if signal.lr is None or signal.lr <= limits["lr"]:
        return signal.lr
    return Finding(value=signal.lr, message=f"the learning rate is {signal.lr}", evidence={"lr": signal.lr})
"""
    )
    run = ("workload=fake", "train.epochs=1", "train.steps=20", f"norms.file={tmp_path / 'mine.yaml'}")
    state = ended(start(tmp_path / "runs", *run)).state
    assert [(each.norm, each.message) for each in state.violations] == [("rate-too-high", "the learning rate is 0.1")]
    assert done(state)[0].effect == {"before": {"lr": 0.1}, "after": {"lr": 0.05}}
    assert state.outcomes == {"v1": "cured"}
    changed = "norms.thresholds={rate-too-high:{lr:1}}"
    assert ended(start(tmp_path / "runs", *run, changed)).state.violations == ()
