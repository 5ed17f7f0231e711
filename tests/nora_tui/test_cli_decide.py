"""Decisions from the command line, with real runs: a scripted NaN makes the run ask, another process answers."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sessions.paths import SessionPaths
from sessions.store import SessionReader
from tests.e2e.terminal import Terminal, needs_tmux
from tests.engine.runs import ended, start, wait_until
from tests.nora_tui.test_cli import nora

SCRIPT = ("workload=fake", "script.nan_at=5", "script.step_seconds=0.01", "train.steps=30", "train.epochs=1")


def asks(runs: Path, *overrides: str) -> SessionPaths:
    """Start a run whose loss is NaN at step 5, and return once it waits for an answer."""
    paths = start(runs / "runs", *SCRIPT, *overrides, name="held")
    wait_until(paths, lambda state: len(state.proposals) > len(state.resolutions))
    return paths


def shown(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(nora(folder, "show", "held", "--json").stdout)
    return found


def verdicts(reader: SessionReader) -> list[tuple[str, str]]:
    return [(resolution.verdict, resolution.action) for resolution in reader.state.resolutions]


def test_approved_the_run_does_what_it_recommended_and_goes_on(tmp_path: Path) -> None:
    paths = asks(tmp_path)
    before = shown(tmp_path)
    assert (before["phase"], before["waiting"], before["step"]) == ("hold", ["p1"], 5)
    done = nora(tmp_path, "decide", "held", "approve", "--reason", "once is no harm")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(": skip_step (once is no harm)\n")
    reader = ended(paths)
    assert verdicts(reader) == [("approved", "skip_step")]
    assert (reader.state.status, reader.state.exit_code) == ("completed", 0)
    after = shown(tmp_path)
    assert [(each["norm"], each["outcome"]) for each in after["violations"]] == [("non-finite", "cured")]
    assert [(each["action"], each["state"]) for each in after["actions"]] == [
        ("skip_step", "started"),
        ("skip_step", "done"),
    ]


def test_overridden_the_run_does_the_other_thing_with_the_given_parameters(tmp_path: Path) -> None:
    paths = asks(tmp_path)
    done = nora(tmp_path, "decide", "held", "p1", "override", "--action", "set_lr", "--set", "factor=0.25", "--json")
    answer = json.loads(done.stdout)
    assert (answer["verdict"], answer["action"], answer["params"]) == ("overridden", "set_lr", {"factor": 0.25})
    reader = ended(paths)
    assert verdicts(reader)[0] == ("overridden", "set_lr")
    effect = next(action.effect for action in reader.state.actions if action.state == "done")
    assert effect == {"before": {"lr": 0.1}, "after": {"lr": 0.025}}


def test_rejected_the_run_goes_on_as_it_is(tmp_path: Path) -> None:
    paths = asks(tmp_path)
    done = nora(tmp_path, "decide", "held", "reject", "--reason", "known", "--no-wait")
    assert (done.returncode, done.stdout) == (0, "held was asked to reject p1\n")
    reader = ended(paths)
    assert verdicts(reader) == [("rejected", "none")]
    assert reader.state.resolutions[0].reason == "known"
    assert (reader.state.status, reader.state.actions) == ("completed", ())


def test_unanswered_the_run_does_as_its_regime_says_when_time_is_up(tmp_path: Path) -> None:
    paths = start(tmp_path / "runs", *SCRIPT, "norms.deadline_seconds=1", name="held")
    reader = ended(paths)
    assert verdicts(reader) == [("timed_out", "skip_step")]
    late = nora(tmp_path, "decide", "held", "p1", "approve")
    assert (late.returncode, "held has ended already (completed)" in late.stderr) == (2, True)


def test_unanswered_a_strict_run_stops_and_ends_with_6(tmp_path: Path) -> None:
    done = nora(tmp_path, "train", *SCRIPT, "regime=strict", "norms.deadline_seconds=0.5", "--name", "held")
    assert done.returncode == 6, done.stderr
    lines = done.stderr.splitlines()
    assert any("v1 critical non-finite at step 5" in line for line in lines)
    (waits,) = (line for line in lines if line.startswith("p1 waits for you"))
    assert "then the run stops" in waits
    assert "nora decide held p1 approve|override|reject — skip_step" in waits
    assert any(line.startswith("p1 timed out: stop") for line in lines)
    assert "held stopped" in lines[-1]


def test_ctrl_c_ends_a_run_that_waits_for_an_answer(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nora_tui", "train", *SCRIPT, "--name", "held"]
    train = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert train.stderr is not None
    next(line for line in train.stderr if line.startswith("p1 waits for you"))
    train.send_signal(signal.SIGINT)
    said = train.communicate(timeout=30)[1]
    assert (train.returncode, "held stopped" in said) == (130, True), said
    reader = ended(SessionPaths(tmp_path / "runs" / "held"))
    assert (reader.state.exit_code, reader.state.resolutions) == (130, ())


def test_ctrl_c_on_decide_leaves_the_question_with_the_run(tmp_path: Path) -> None:
    paths = start(tmp_path / "runs", "workload=fake", "script.hang_at=3", name="held")
    worker = wait_until(paths, lambda state: state.step >= 2).state.pid
    assert worker is not None
    pausing = subprocess.Popen(
        [sys.executable, "-m", "nora_tui", "pause", "held"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    until = time.monotonic() + 30
    while not paths.requests.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    time.sleep(0.3)
    pausing.send_signal(signal.SIGINT)
    said = pausing.communicate(timeout=30)[1]
    assert (pausing.returncode, said) == (130, "left; held was asked and will answer, `nora show held` says how\n")
    os.kill(worker, signal.SIGKILL)
    ended(paths)


@needs_tmux
def test_in_a_terminal_what_waits_stands_above_the_bar_and_in_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nora_tui", "train", *SCRIPT, "--name", "held"]
    terminal = Terminal(command, tmp_path, 100, 24)
    try:
        terminal.wait_for("p1 waits for you (")
        screen = terminal.wait_for("p1 waits for you, ")
        assert "v1 critical non-finite at step 5" in screen
        assert "nora decide held p1 approve|override|reject" in " ".join(screen.split())
        assert nora(tmp_path, "decide", "held", "approve").returncode == 0
    finally:
        ended(SessionPaths(tmp_path / "runs" / "held"))
        terminal.kill()


def test_what_a_run_cannot_do_is_refused_and_it_still_waits(tmp_path: Path) -> None:
    paths = asks(tmp_path)
    done = nora(tmp_path, "decide", "held", "override", "--action", "roll_back", "--set", "steps=1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: held refuses: this run cannot do roll_back")
    assert shown(tmp_path)["waiting"] == ["p1"]
    stopped = nora(tmp_path, "stop", "held")
    assert (stopped.returncode, stopped.stdout) == (0, "held stopped\n")
    assert ended(paths).state.exit_code == 6


def test_two_at_once_the_first_wins_and_the_other_is_told(tmp_path: Path) -> None:
    paths = asks(tmp_path)
    command = [sys.executable, "-m", "nora_tui", "decide", "held", "p1"]
    options: dict[str, Any] = {"cwd": tmp_path, "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen([*command, verdict], **options) for verdict in ("approve", "reject")]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 2]
    assert "p1 is decided already" in "".join(said) or "held has ended already" in "".join(said)
    assert len(ended(paths).state.resolutions) == 1


def test_always_answers_for_the_rest_of_the_run(tmp_path: Path) -> None:
    paths = asks(tmp_path, "script.nan_steps=3", "train.steps=60")
    done = nora(tmp_path, "decide", "held", "approve", "--always")
    assert (done.returncode, "whenever this norm is broken" in done.stdout) == (0, True), done.stderr
    reader = ended(paths)
    assert [(policy.norm, policy.verdict) for policy in reader.state.policies] == [("non-finite", "approved")]
    assert reader.state.status == "completed"


def test_pause_note_and_resume_steer_a_run_that_asked_nothing(tmp_path: Path) -> None:
    paths = start(tmp_path / "runs", "workload=fake", "script.step_seconds=0.01", "train.steps=2000", name="held")
    wait_until(paths, lambda state: state.step > 3)
    paused = nora(tmp_path, "pause", "held")
    assert (paused.returncode, paused.stdout.startswith("held: pause done")) == (0, True), paused.stderr
    assert shown(tmp_path)["phase"] == "hold"
    again = nora(tmp_path, "pause", "held")
    assert (again.returncode, "held refuses: this run cannot do pause" in again.stderr) == (2, True)
    assert nora(tmp_path, "note", "held", "why so slow?").returncode == 0
    lowered = nora(tmp_path, "tell", "held", "set_lr", "--set", "factor=0.5", "--json")
    assert json.loads(lowered.stdout)["effect"] == {"before": {"lr": 0.1}, "after": {"lr": 0.05}}
    held = shown(tmp_path)
    assert [note["text"] for note in held["notes"]] == ["why so slow?"]
    assert nora(tmp_path, "resume", "held").returncode == 0
    wait_until(paths, lambda state: state.step > held["step"] + 5)
    muted = nora(tmp_path, "tell", "held", "mute", "--set", "norm=spike", "--reason", "noisy data")
    assert muted.returncode == 0, muted.stderr
    nora(tmp_path, "stop", "held")


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        pytest.param(["--approve", "record"], 7, id="record"),
        pytest.param(["--approve", "record", "--fail-on", "major"], 7, id="major"),
        pytest.param(["--approve", "record", "--fail-on", "never"], 0, id="never"),
        pytest.param(["--approve", "auto"], 0, id="auto"),
        pytest.param(["norms.muted=[non-finite]"], 0, id="muted"),
        pytest.param(["norms.thresholds.non-finite.level=off"], 0, id="off"),
    ],
)
def test_a_critical_norm_broken_to_the_end_is_exit_code_7(tmp_path: Path, flags: list[str], code: int) -> None:
    done = nora(tmp_path, "train", *SCRIPT, "script.nan_steps=100", "--name", "held", *flags)
    assert done.returncode == code, done.stderr
    assert shown(tmp_path)["exit_code"] == code
    assert ("but broken and not cured: non-finite" in done.stderr) == (code == 7)
