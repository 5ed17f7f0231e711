"""Several watchers on one live run, in real terminals."""

import signal
import subprocess
import sys
from pathlib import Path

from sessions.paths import SessionPaths
from sessions.requests import Stop, ask
from tests.e2e.terminal import Terminal, needs_tmux
from tests.engine.runs import ended, sequence, start, wait_until


@needs_tmux
def test_two_cockpits_and_a_watcher_follow_one_run_and_killing_them_leaves_it_alone(tmp_path: Path) -> None:
    paths = start(tmp_path, "workload=fake", "script.step_seconds=0.02", "train.steps=5000", name="shared")
    command = [sys.executable, "-m", "nora_tui", "cockpit", "shared", "--runs-dir", str(tmp_path)]
    cockpits = [Terminal(command, tmp_path, 80, 24), Terminal(command, tmp_path, 200, 50)]
    watcher = subprocess.Popen(
        [sys.executable, "-m", "nora_tui", "watch", "shared", "--json", "--runs-dir", str(tmp_path)],
        stdout=subprocess.PIPE,
    )
    assert watcher.stdout is not None
    for cockpit in cockpits:
        cockpit.wait_for("shared")
        cockpit.wait_for("running")
        cockpit.wait_for("loss")
    assert b'"run_started"' in watcher.stdout.readline()

    for cockpit in cockpits:
        cockpit.kill()
    watcher.send_signal(signal.SIGKILL)
    watcher.communicate()
    before = wait_until(paths, lambda state: state.step > 0).state
    later = wait_until(paths, lambda state: state.step > before.step + 50).state
    assert later.status == "running"

    ask(paths, Stop(via="cli"))
    reader = ended(paths)
    assert reader.state.status == "stopped"
    assert (reader.state.gaps, reader.state.malformed) == (0, 0)
    assert sequence(paths.events) == list(range(len(sequence(paths.events))))


@needs_tmux
def test_a_run_is_started_watched_and_stopped_by_keys_alone(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nora_tui", "--runs-dir", str(tmp_path)]
    cockpit = Terminal(command, tmp_path, 100, 30)
    try:
        cockpit.wait_for("No runs here yet")
        cockpit.send("n")
        cockpit.wait_for("overrides")
        cockpit.send("Right", "Right")
        cockpit.wait_for("workload=fake data=none")
        cockpit.send("Tab", "Tab")
        cockpit.wait_for("F1 help")  # where ? is text: the line of overrides has the focus
        cockpit.send("script.step_seconds=0.02 train.steps=5000")
        cockpit.wait_for("train.steps=5000")
        cockpit.send("Enter")
        cockpit.wait_for("● running")
        cockpit.wait_for("loss")
        cockpit.send("x")
        cockpit.wait_for("Stop fake-none")
        cockpit.send("y")
        cockpit.wait_for("■ stopped")
        cockpit.send("Escape")
        cockpit.wait_for("1 run")
    finally:
        cockpit.kill()
    (folder,) = tmp_path.iterdir()
    reader = ended(SessionPaths(folder))
    assert (reader.state.status, reader.state.exit_code) == ("stopped", 6)
    assert [action.params["via"] for action in reader.state.actions] == ["tui", "tui"]
