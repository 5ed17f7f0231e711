import math
from pathlib import Path

import msgspec
import pytest

from nora_tui.app import NoraApp
from nora_tui.screens.confirm import ConfirmScreen
from nora_tui.screens.help import HelpScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.widgets.chart import Chart
from nora_tui.widgets.console import Console
from nora_tui.widgets.metric_grid import MetricGrid, shape_for
from sessions import events
from sessions.codec import encode
from sessions.paths import SessionPaths
from tests.nora_tui import made
from tests.nora_tui.pilots import screen_text, until, until_shown


def cockpit(runs: Path, name: str, **options: bool) -> NoraApp:
    return NoraApp(runs, SessionPaths(runs / name), **options)


def append(paths: SessionPaths, *happenings: events.AnyEvent) -> None:
    seq = len(paths.events.read_bytes().splitlines())
    with paths.events.open("ab") as file:
        for number, event in enumerate(happenings):
            file.write(encode(msgspec.structs.replace(event, seq=seq + number, ts=made.BEGAN)))


async def test_a_run_shows_who_it_is_how_far_it_is_and_its_curves(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(200, 50)) as pilot:
        await until_shown(pilot, "grad_norm", "samples/s")
        text = screen_text(app)
        for words in (
            "vit-digits-live",
            "● running for 13s",
            "vit on digits · pipeline · balanced · seed 42 · node-7",
            "step 250/400",
            "epoch 6.25/10",
            "2,543 samples/s",
            "8s left",
            "62%",
            "train 0.",
            "val 0.8911",
            "14 charts  page 1/2",
        ):
            assert words in text, words


async def test_a_live_run_is_followed(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-live")
    paths = SessionPaths(runs / "vit-digits-live")
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "step 250/400", "14 charts")
        append(paths, events.Metrics(step=251, split="train", epoch=6.3, values={"loss": math.nan, "new": 1.0}))
        await until_shown(pilot, "step 251/400", "15 charts", "train nan")
        append(paths, made.finished("stopped", "stopped by ada: enough"))
        await until_shown(pilot, "■ stopped", "Stopped at step 251 of 400 by ada: enough")
        assert "x stop" not in screen_text(app)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit-digits-completed", "✓ completed in 20s"),
        ("vit-digits-stopped", "Stopped at step 120 of 400 by ada: the learning rate is too high"),
        ("vit-digits-crashed", "Crashed at step 120 of 400: the worker ended by signal SIGKILL"),
        ("vit-digits-nan", "Failed at step 400 of 400: the loss is nan"),
    ],
)
async def test_an_ended_run_says_how_and_why(runs: Path, name: str, words: str) -> None:
    app = cockpit(runs, name)
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, words)


async def test_panes_by_number_and_tab_and_mouse(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    (runs / "vit-digits-completed" / "console.log").write_text("hello from the run\n")
    inside = {
        "1": "grad_norm",
        "2": "optimizer-coverage",
        "3": "nothing was broken",
        "4": "hello from the run",
        "5": "batch_size: 128",
        "6": "test accuracy",
    }
    async with app.run_test(size=(100, 30)) as pilot:
        for key, words in inside.items():
            await pilot.press(key)
            await until_shown(pilot, words)
        for words in inside.values():
            await pilot.press("tab")
            await until_shown(pilot, words)
        await pilot.press("shift+tab")
        await until_shown(pilot, inside["5"])
        await pilot.click("TabBar", offset=(14, 0))
        await until_shown(pilot, inside["2"])


async def test_info_tells_results_checkpoints_machine_and_code(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(120, 80)) as pilot:
        await pilot.press("6")
        await until_shown(pilot, "Record", "checkpoints/step-00000400")
        text = screen_text(app)
        for words in ("0.9611", "best last", "1.2 MB", "Test CPU", "16.0 GB", "0123456789ab with uncommitted changes"):
            assert words in text, words
        assert "worker: the [red]learning rate[/red] is high" in text


async def test_a_chart_is_selected_enlarged_and_made_logarithmic(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "▸ loss", "page 1/4")
        for key, name in [("right", "accuracy"), ("down", "grad_norm"), ("left", "lr"), ("k", "loss"), ("j", "lr")]:
            await pilot.press(key)
            await until_shown(pilot, f"▸ {name}")
        await pilot.press("l")
        await until_shown(pilot, "lr log")
        await pilot.press("l", "L")
        await until_shown(pilot, "lr log", "loss log", "accuracy log", "grad_norm log")
        await pilot.press("enter")
        await until_shown(pilot, "page 3/14")
        assert "grad_norm" not in screen_text(app)
        await pilot.press("right")
        await until_shown(pilot, "▸ grad_norm")
        await pilot.press("escape")
        await until_shown(pilot, "page 1/4")


async def test_pages_show_all_charts_and_only_those_in_view_are_drawn(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "page 1/4")
        grid = app.screen.query_one(MetricGrid)
        seen: set[str] = set()
        for page in range(4):
            text = screen_text(app)
            seen |= {chart.name for chart in grid._found if f" {chart.name} " in text}
            assert len([chart for chart in app.screen.query(Chart) if chart.display]) == 4
            await pilot.press("pagedown")
            await pilot.pause()
            if page < 3:
                await until_shown(pilot, f"page {page + 2}/4")
        assert seen == {chart.name for chart in grid._found}
        await pilot.press("home")
        await until_shown(pilot, "page 1/4")
        await pilot.press("end")
        await until_shown(pilot, "▸ accuracy/9", "page 4/4")
        await pilot.press("pageup")
        await until_shown(pilot, "page 3/4")


async def test_a_click_selects_a_chart(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "▸ loss")
        await pilot.click(MetricGrid, offset=(60, 3))
        await until_shown(pilot, "▸ accuracy")


async def test_charts_are_filtered(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await until_shown(pilot, "14 charts")
        await pilot.press("slash", *"accuracy")
        await until_shown(pilot, "filter accuracy", "11 of 14 charts")
        await pilot.press("enter")
        await pilot.press("right")
        await until_shown(pilot, "▸ accuracy/0")
        await pilot.press("escape")
        await until_shown(pilot, "14 charts")
        assert "filter accuracy" not in screen_text(app)


async def test_escape_steps_out_one_layer_at_a_time(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "page 1/4")
        await pilot.press("enter", "slash", "l")
        await pilot.press("escape")
        await until_shown(pilot, "page 1/14")
        await pilot.press("escape")
        await until_shown(pilot, "page 1/4")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await until_shown(pilot, "Show one chart alone")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        await until_shown(pilot, "vit-digits-nan")


async def test_the_console_follows_lets_go_on_scroll_and_takes_up_again(runs: Path) -> None:
    log = runs / "vit-digits-live" / "console.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(500)))
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await until_shown(pilot, "line 499", "following")
        with log.open("ab") as file:
            file.write(b"\x1b[31mred\x1b[0m [b]bold[/b] \x07\n 10%\r 90%")
        await until_shown(pilot, "red [b]bold[/b] ␇", " 90%")
        await pilot.press("pageup")
        await until_shown(pilot, "not following", "line 480")
        with log.open("ab") as file:
            file.write(b"\nlater\n")
        await pilot.pause(0.4)
        assert "later" not in screen_text(app)
        await pilot.press("end")
        await until_shown(pilot, "later")
        assert app.screen.query_one(Console).following
        await pilot.press("f", "home")
        await until_shown(pilot, "not following", "line 0")
        await pilot.press("down", "right", "left")
        await until_shown(pilot, "line 1")
        await pilot.press("f")
        await until_shown(pilot, "later")


async def test_a_big_console_is_walked_from_end_to_end(runs: Path) -> None:
    log = runs / "vit-digits-live" / "console.log"
    log.write_bytes(b"".join(b"line %d %s\n" % (number, b"x" * 60) for number in range(40_000)))
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await pilot.press("4")
        await until_shown(pilot, "line 39999 ")
        await pilot.press("home")
        await until_shown(pilot, "line 0 ")
        await pilot.press("end")
        await until_shown(pilot, "line 39999 ")
        console = app.screen.query_one(Console)
        await pilot.press("pageup")
        for _ in range(3):
            first = console._held[0].offset
            console.scroll_to(y=0, animate=False, force=True)
            await until(pilot, lambda first=first: console._held[0].offset < first)


async def test_metric_names_are_data(empty: Path) -> None:
    values = {"[red]x": 1.0, "a\x1b[31mb": 2.0, "漢字" * 30: 3.0, "": 4.0}
    metrics = [(s / 10, events.Metrics(step=s, split="train", values=values)) for s in range(1, 20)]
    made.write(empty / "odd", [(0, made.started("odd")), *metrics, (3, made.finished("completed"))])
    app = cockpit(empty, "odd")
    async with app.run_test(size=(100, 60)) as pilot:
        await until_shown(pilot, "[red]x", "a␛[31mb", "漢字")
        await pilot.press("6")
        await until_shown(pilot, "Record")
        await pilot.press("end")
        await until_shown(pilot, "[red]x", "a␛[31mb")


async def test_values_that_cannot_be_drawn_are_said(empty: Path) -> None:
    values = {"never": math.nan, "negative": -1.0}
    metrics = [(s / 10, events.Metrics(step=s, split="train", values=values)) for s in range(1, 20)]
    made.write(empty / "odd", [(0, made.started("odd")), *metrics, (3, made.finished("completed"))])
    app = cockpit(empty, "odd")
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "every value is nan or infinite")
        await pilot.press("L")
        await until_shown(pilot, "no positive values to show on a log scale")


async def test_five_hundred_metrics_are_paged(empty: Path) -> None:
    values = {f"layer{number}/norm": float(number) for number in range(500)}
    metrics = [(s / 10, events.Metrics(step=s, split="train", values=values)) for s in range(1, 20)]
    made.write(empty / "wide", [(0, made.started("wide")), *metrics, (3, made.finished("completed"))])
    app = cockpit(empty, "wide")
    async with app.run_test(size=(200, 50)) as pilot:
        await until_shown(pilot, "500 charts  page 1/56")
        assert len([chart for chart in app.screen.query(Chart) if chart.display]) == 9
        await pilot.press("end")
        await until_shown(pilot, "▸ layer499/norm")


async def test_a_session_that_vanishes_is_said_what_was_read_stays_and_it_may_come_back(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "grad_norm")
        (runs / "vit-digits-completed").rename(runs.parent / "elsewhere")
        await until_shown(pilot, "is gone", "grad_norm")
        (runs.parent / "elsewhere").rename(runs / "vit-digits-completed")
        await until(pilot, lambda: "is gone" not in screen_text(app))


async def test_a_session_that_is_begun_anew_is_read_anew(runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-live")
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(100, 30)) as pilot:
        await until_shown(pilot, "step 250/400")
        lines = paths.events.read_bytes().splitlines(keepends=True)
        paths.events.write_bytes(b"".join(lines[:40]))
        await until(pilot, lambda: "step 250/400" not in screen_text(app))


async def test_lines_that_are_no_events_are_counted(runs: Path) -> None:
    paths = SessionPaths(runs / "vit-digits-completed")
    lines = paths.events.read_bytes().splitlines(keepends=True)
    paths.events.write_bytes(b"".join([*lines[:9], b"garbage\n", *lines[12:]]))
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(100, 60)) as pilot:
        await pilot.press("6")
        await pilot.press("end")
        await until_shown(pilot, "unreadable      1 line", "1 gap in the numbering")


async def test_a_run_is_stopped_from_its_own_screen(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "62%")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, (runs / "vit-digits-live" / "requests.jsonl").exists)


async def test_a_stop_that_cannot_be_asked_for_is_said(runs: Path) -> None:
    (runs / "vit-digits-live" / "requests.jsonl").mkdir()
    app = cockpit(runs, "vit-digits-live")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "62%")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until_shown(pilot, "cannot be written")


async def test_resizing_through_every_size_breaks_nothing(runs: Path) -> None:
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "grad_norm")
        for width, height in [(60, 16), (61, 17), (300, 80), (90, 16), (60, 80), (200, 50), (20, 5), (120, 33)]:
            await pilot.resize_terminal(width, height)
            await pilot.pause()
        await until_shown(pilot, "grad_norm", "page 1/3")
        await pilot.resize_terminal(80, 24)
        await until_shown(pilot, "page 1/4")


async def test_no_color_sends_none(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = cockpit(runs, "vit-digits-completed")
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "grad_norm")
        filters = [found for found in app._filters if type(found).__name__ == "NoColor"]
        assert len(filters) == 1


@pytest.mark.parametrize(("charts", "shape"), [(0, (1, 1)), (1, (1, 1)), (2, (1, 2)), (4, (2, 2)), (14, (2, 2))])
def test_an_80_column_window_holds_up_to_four_charts(charts: int, shape: tuple[int, int]) -> None:
    assert shape_for(charts, 78, 18) == shape


@pytest.mark.parametrize("charts", range(20))
@pytest.mark.parametrize("size", [(58, 10), (78, 18), (98, 24), (198, 43), (298, 73)])
def test_charts_are_readable_and_fill_their_page(charts: int, size: tuple[int, int]) -> None:
    across, down = shape_for(charts, *size)
    assert across * down >= min(charts, 1)
    assert across == 1 or size[0] // across >= 38
    assert down == 1 or size[1] // down >= 8
