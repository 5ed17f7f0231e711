"""The commands as people type them: real processes, real exit codes."""

import csv
import io
import json
import math
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from configs.load import compose, validate
from sessions.paths import SessionPaths
from tests.engine.runs import ended, wait_until

FAKE = ("train", "workload=fake")
SLOW = (*FAKE, "script.step_seconds=0.02", "train.steps=2000", "--detach", "--name", "slow")


def nora(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nora_tui", *arguments],
        cwd=folder,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_train_runs_to_the_end_and_says_how_it_went(tmp_path: Path) -> None:
    done = nora(tmp_path, *FAKE, "--name", "mine")
    assert done.returncode == 0
    assert done.stdout == ""
    assert "mine completed" in done.stderr
    assert "val accuracy 0.99" in done.stderr
    assert (tmp_path / "runs" / "mine" / "events.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((*FAKE, "script.crash_at=3"), 1, "scripted crash at step 3"),
        ((*FAKE, "script.kill_at=3"), 1, "SIGKILL"),
        ((*FAKE, "train.epoch=3"), 2, "error: there is no key 'train.epoch'"),
        ((*FAKE, "norms.thresholds.spik.sigma=3"), 2, "error: there is no norm 'spik'; did you mean 'spike'?"),
        ((*FAKE, "norms.thresholds={spike:{sigmas:3}}"), 2, "error: norm spike has no limit 'sigmas'; did you mean"),
        ((*FAKE, "norms.thresholds.spike.level=of"), 2, "error: norm spike: level=of: allowed is violate, warn"),
        ((*FAKE, "norms.muted=[spikes]"), 2, "error: there is no norm 'spikes'; did you mean 'spike'?"),
        ((*FAKE, "norms.file=mine.yaml"), 2, "mine.yaml is no file that can be read"),
        ((*FAKE, "--approve", "auto", "approve=ask"), 2, "error: --approve auto and approve=ask differ"),
        ((*FAKE, "--fail-on", "never", "fail_on=major"), 2, "error: --fail-on never and fail_on=major differ"),
        ((*FAKE, "--fail-on", "minor"), 2, "Invalid value for '--fail-on'"),
        ((*FAKE, "--name", "a/b"), 2, "error: 'a/b' cannot name a run"),
        (("train", "--multirun"), 2, "No such option"),
        (("dance",), 2, "No such command"),
        (("show", "nothing"), 2, "error: no run 'nothing' in runs"),
        (("watch", "nothing"), 2, "error: no run 'nothing' in runs"),
        (("logs", "nothing"), 2, "error: no run 'nothing' in runs"),
        (("stop", "nothing"), 2, "error: no run 'nothing' in runs"),
        ((*FAKE, "--cockpit"), 2, "error: the cockpit needs a terminal"),
        ((*FAKE, "--cockpit", "--detach"), 2, "error: --cockpit goes with neither"),
        (("cockpit",), 2, "error: the cockpit needs a terminal"),
        ((), 2, "error: the cockpit needs a terminal"),
        ((*FAKE, "--runs-dir", "/proc/runs"), 4, "error: /proc/runs cannot hold a new run"),
    ],
)
def test_exit_codes_and_sentences(tmp_path: Path, arguments: tuple[str, ...], code: int, sentence: str) -> None:
    done = nora(tmp_path, *arguments)
    assert (done.returncode, sentence in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_cfg_prints_what_would_run_and_starts_nothing(tmp_path: Path) -> None:
    done = nora(tmp_path, *FAKE, "seed=9", "--cfg")
    assert "seed: 9" in done.stdout
    assert json.loads(nora(tmp_path, *FAKE, "seed=9", "--cfg", "--json").stdout)["seed"] == 9
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workload", ["vit", "catboost", "fake"])
def test_what_cfg_prints_is_a_configuration_again(tmp_path: Path, workload: str) -> None:
    changes = ("norms.thresholds={spike:{sigma:inf}}", "--approve", "auto", "--fail-on", "major")
    config = validate(yaml.safe_load(nora(tmp_path, "train", f"workload={workload}", *changes, "--cfg").stdout))
    assert (config.approve, config.fail_on, config.norms.thresholds) == (
        "auto",
        "major",
        {"spike": {"sigma": math.inf}},
    )
    assert config == compose([f"workload={workload}", changes[0], "approve=auto", "fail_on=major"])


def test_a_flag_and_an_override_may_say_the_same(tmp_path: Path) -> None:
    done = nora(tmp_path, *FAKE, "approve=auto", "--approve", "auto", "--cfg", "--json")
    assert json.loads(done.stdout)["approve"] == "auto"


def test_train_as_json_prints_the_final_state(tmp_path: Path) -> None:
    done = nora(tmp_path, *FAKE, "script.nan_at=100", "--json", "--approve", "record", "--fail-on", "never")
    state = json.loads(done.stdout)
    assert (state["status"], state["exit_code"], state["step"]) == ("completed", 0, 100)
    assert state["metrics"]["train"]["loss"]["last"] == "nan"
    assert state["metrics"]["train"]["loss"]["best"] == pytest.approx(1 / 99)
    assert done.stderr == ""


def test_ls_and_show_in_every_format(tmp_path: Path) -> None:
    assert "no runs in runs; `nora demo` starts one" in nora(tmp_path, "ls").stdout
    nora(tmp_path, *FAKE, "--name", "one")
    nora(tmp_path, *FAKE, "--name", "two", "script.crash_at=7")
    rows = json.loads(nora(tmp_path, "ls", "--json").stdout)
    assert [(row["run"], row["status"]) for row in rows] == [("two", "failed"), ("one", "completed")]
    table = list(csv.DictReader(io.StringIO(nora(tmp_path, "ls", "--format", "csv").stdout)))
    assert [row["step"] for row in table] == ["7", "100"]
    text = nora(tmp_path, "ls").stdout
    assert text.index("two") < text.index("one")
    assert "scripted crash" in nora(tmp_path, "show", "two").stdout
    shown = json.loads(nora(tmp_path, "show", "one", "--json").stdout)
    assert shown["metrics"]["val"]["accuracy"] == {"last": 1 - 1 / 101, "best": 1 - 1 / 101, "step": 100}


def test_logs_are_harmless_unless_asked_for_raw(tmp_path: Path) -> None:
    nora(tmp_path, *FAKE, "--name", "one")
    hostile = b"\x1b[31mred\x1b[0m\n10%\r20%\rdone\n\x1b]0;title\x07\x1b[2J\nlast without newline"
    (tmp_path / "runs" / "one" / "console.log").write_bytes(hostile)
    out = nora(tmp_path, "logs", "one").stdout
    assert out == "red\ndone\n\\x1b]0;title\\x07\nlast without newline\n"
    assert nora(tmp_path, "logs", "one", "-n", "1").stdout == "last without newline\n"
    assert nora(tmp_path, "logs", "one", "-n", "2").stdout.startswith("\\x1b]0")
    assert nora(tmp_path, "logs", "one", "--raw").stdout.encode().startswith(hostile[:10])
    assert json.loads(nora(tmp_path, "logs", "one", "--json").stdout.splitlines()[0]) == {"line": "\x1b[31mred\x1b[0m"}


def test_detach_then_watch_then_stop(tmp_path: Path) -> None:
    started = nora(tmp_path, *SLOW, "--json")
    paths = SessionPaths(Path(json.loads(started.stdout)["path"]))
    watcher = subprocess.Popen(
        [sys.executable, "-m", "nora_tui", "watch", "slow", "--json"], cwd=tmp_path, stdout=subprocess.PIPE
    )
    wait_until(paths, lambda state: state.step > 3)
    stopped = nora(tmp_path, "stop", "slo", "--reason", "seen enough")
    assert (stopped.returncode, stopped.stdout) == (0, "slow stopped\n")
    out, _ = watcher.communicate(timeout=20)
    events = [json.loads(line) for line in out.splitlines()]
    assert watcher.returncode == 6
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == "run_finished"
    again = nora(tmp_path, "stop", "slow")
    assert (again.returncode, "has ended already" in again.stderr) == (2, True)


def test_ctrl_c_on_train_interrupts_the_run_and_ends_with_130(tmp_path: Path) -> None:
    arguments = [part for part in SLOW if part != "--detach"]
    train = subprocess.Popen([sys.executable, "-m", "nora_tui", *arguments], cwd=tmp_path, stderr=subprocess.PIPE)
    paths = SessionPaths(tmp_path / "runs" / "slow")
    wait_until(paths, lambda state: state.step > 3)
    time.sleep(0.5)  # until the progress is being followed
    train.send_signal(signal.SIGINT)
    _, err = train.communicate(timeout=20)
    assert train.returncode == 130, err
    assert (ended(paths).state.status, ended(paths).state.exit_code) == ("stopped", 130)


def test_ctrl_c_on_watch_leaves_the_run_alone(tmp_path: Path) -> None:
    paths = SessionPaths(Path(json.loads(nora(tmp_path, *SLOW, "--json").stdout)["path"]))
    watcher = subprocess.Popen(
        [sys.executable, "-m", "nora_tui", "watch", "slow"], cwd=tmp_path, stderr=subprocess.PIPE
    )
    state = wait_until(paths, lambda state: state.step > 3).state
    time.sleep(1)
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=20)
    assert watcher.returncode == 130
    assert b"goes on" in err
    wait_until(paths, lambda later: later.step > state.step + 20)
    nora(tmp_path, "stop", "slow")


def test_closing_the_terminal_stops_nothing(tmp_path: Path) -> None:
    """The terminal is real (a pty), and its end is the hang-up that a lost SSH connection sends."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "nora_tui", *[p for p in SLOW if p != "--detach"]])
    paths = SessionPaths(tmp_path / "runs" / "slow")
    state = wait_until(paths, lambda state: state.step > 3).state
    os.close(terminal)
    os.waitpid(child, 0)
    later = wait_until(paths, lambda later: later.step > state.step + 50).state
    assert later.status == "running"
    nora(tmp_path, "stop", "slow")


@pytest.mark.parametrize("seconds", [0.2, 0.35, 0.5, 0.65])
def test_ctrl_c_at_any_moment_leaves_no_run_behind(tmp_path: Path, seconds: float) -> None:
    arguments = [part for part in SLOW if part != "--detach"]
    train = subprocess.Popen([sys.executable, "-m", "nora_tui", *arguments], cwd=tmp_path, stderr=subprocess.PIPE)
    time.sleep(seconds)
    train.send_signal(signal.SIGINT)
    _, err = train.communicate(timeout=30)
    assert train.returncode in (130, -signal.SIGINT), err
    folder = tmp_path / "runs" / "slow"
    if folder.exists():
        assert ended(SessionPaths(folder)).state.status == "stopped"


def test_the_runs_folder_can_be_given_before_the_command(tmp_path: Path) -> None:
    nora(tmp_path, *FAKE, "--name", "one", "--runs-dir", "elsewhere")
    assert "one" in nora(tmp_path, "--runs-dir", "elsewhere", "ls").stdout


def test_one_session_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    nora(tmp_path, *FAKE, "--name", "one")
    (tmp_path / "runs" / "two" / "events.jsonl").mkdir(parents=True)
    (tmp_path / "runs" / "two" / "config.yaml").touch()
    done = nora(tmp_path, "ls")
    assert done.returncode == 0
    assert "one" in done.stdout
    assert "cannot be read" in done.stdout


def test_the_cockpits_way_to_start_a_run_reports_errors_in_one_sentence(tmp_path: Path) -> None:
    done = nora(tmp_path, "train", "--detach", "--json", "--runs-dir", "r", "workload=fake", "seed=x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: seed=x: expected a whole number ≥ 0 and < 4294967296\n"


def test_doctor_names_what_this_machine_has(tmp_path: Path) -> None:
    done = nora(tmp_path, "doctor", "--json")
    findings = {finding["topic"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0
    assert findings["python"]["text"].startswith(sys.version.split()[0])
    assert {"torch", "cpu", "gpu", "memory", "disk", "following"} <= findings.keys()
