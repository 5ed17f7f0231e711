"""Pictures of the screens as they should be: judged by eye when they change (CONTRIBUTING.md says how)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot

from nora_tui.app import NoraApp
from sessions.paths import SessionPaths
from tests.nora_tui import made
from tests.nora_tui.pilots import open_proposal, until_heard, until_shown

SMALL, LARGE = (80, 24), (200, 50)
Compare = Callable[..., bool]
ALL = ("vit-digits-live", "vit-digits-nan")


def after(*keys: str, shown: tuple[str, ...], first: tuple[str, ...] = ()) -> Callable[[Pilot[None]], object]:
    """Return what to do before the picture: wait for ``first``, press keys, wait until everything is ``shown``."""

    async def prepare(pilot: Pilot[None]) -> None:
        await until_shown(pilot, *first)
        if "a" in keys:
            await until_heard(pilot)
        await pilot.press(*keys)
        await until_shown(pilot, *shown)

    return prepare


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
def test_runs(snap_compare: Compare, runs: Path, size: tuple[int, int]) -> None:
    made.write_waiting(runs)
    assert snap_compare(
        NoraApp(runs), terminal_size=size, run_before=after("down", shown=(*ALL, "1 waiting"), first=ALL)
    )


def test_runs_empty(snap_compare: Compare, empty: Path) -> None:
    assert snap_compare(NoraApp(empty), terminal_size=SMALL, run_before=after(shown=("No runs here yet",)))


@pytest.mark.parametrize(
    ("run", "size", "keys", "shown"),
    [
        ("vit-digits-completed", SMALL, (), ("grad_norm", "page 1/4")),
        ("vit-digits-live", LARGE, (), ("grad_norm", "14 charts", "vit on digits")),
        ("vit-digits-nan", SMALL, ("enter",), ("page 1/14", "vit on digits")),
        ("vit-digits-stopped", SMALL, ("L", "right"), ("▸ accuracy log", "vit on digits")),
        ("vit-digits-completed", SMALL, ("4",), ("100%|", "following")),
        ("vit-digits-completed", SMALL, ("5",), ("weight_decay",)),
        ("vit-digits-completed", LARGE, ("6",), ("Test CPU", "uncommitted")),
        ("vit-digits-live", SMALL, ("question_mark",), ("Show the charts",)),
    ],
    ids=["charts", "charts-large", "nan-enlarged", "stopped-log", "console", "config", "info", "help"],
)
def test_run(
    snap_compare: Compare, runs: Path, run: str, size: tuple[int, int], keys: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    console = b"\x1b[32mloading\x1b[0m [b]digits[/b] \x07\n" + b"".join(
        b"\r%3d%%|%-20s|" % (done, b"#" * (done // 5)) for done in range(101)
    )
    (runs / run / "console.log").write_bytes(console)
    app = NoraApp(runs, SessionPaths(runs / run))
    prepare = after(*keys, shown=shown, first=("grad_norm",))
    assert snap_compare(app, terminal_size=size, run_before=prepare)


FORM = ("y approve", "waits for you", "holds for")


@pytest.mark.parametrize("size", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ((), ("9m 42s left", "page 1/")),
        (("2",), ("✗ broken      non-finite", "✗ 2 broken")),
        (("3",), ("skip_step", "◆ waits")),
        (("a",), FORM),
    ],
    ids=["proposal", "norms", "timeline", "decide"],
)
def test_a_proposal_waits(
    snap_compare: Compare, runs: Path, size: tuple[int, int], keys: tuple[str, ...], shown: tuple[str, ...]
) -> None:
    paths = made.write_waiting(runs)
    prepare = after(*keys, shown=shown, first=("waits for you", "grad_norm" if size == LARGE else "accuracy"))
    assert snap_compare(NoraApp(runs, paths), terminal_size=size, run_before=prepare)


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        (("o", "tab", "backspace", "backspace", "backspace", "x"), ("steps='x' is not possible",)),
        (("r", *"a planned spike"), ("a planned spike",)),
    ],
    ids=["override", "reject"],
)
def test_an_answer(snap_compare: Compare, runs: Path, keys: tuple[str, ...], shown: tuple[str, ...]) -> None:
    paths = made.write_waiting(runs)

    async def prepare(pilot: Pilot[None]) -> None:
        await open_proposal(pilot)
        await pilot.press(*keys)
        await until_shown(pilot, *shown)

    assert snap_compare(NoraApp(runs, paths), terminal_size=SMALL, run_before=prepare)


@pytest.mark.parametrize(
    ("key", "shown"), [("s", "The run will change"), ("m", "The run will judge")], ids=["set_lr", "mute"]
)
def test_a_command(snap_compare: Compare, runs: Path, key: str, shown: str) -> None:
    prepare = after(key, shown=(shown,), first=("grad_norm",))
    paths = SessionPaths(runs / "vit-digits-live")
    assert snap_compare(NoraApp(runs, paths), terminal_size=SMALL, run_before=prepare)


def test_a_proposal_without_colours(snap_compare: Compare, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    paths = made.write_waiting(runs)
    prepare = after("3", shown=("◆ waits",), first=("waits for you", "accuracy"))
    assert snap_compare(NoraApp(runs, paths), terminal_size=SMALL, run_before=prepare)


def test_new_run(snap_compare: Compare, empty: Path) -> None:
    prepare = after("n", shown=("workload=vit data=digits",))
    assert snap_compare(NoraApp(empty), terminal_size=SMALL, run_before=prepare)


def test_window_too_small(snap_compare: Compare, runs: Path) -> None:
    assert snap_compare(NoraApp(runs), terminal_size=(50, 12), run_before=after(shown=("NORA needs",)))


def test_without_colours(snap_compare: Compare, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(NoraApp(runs), terminal_size=SMALL, run_before=after("down", shown=ALL, first=ALL))
