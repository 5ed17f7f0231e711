from datetime import timedelta
from pathlib import Path

from nora_tui.app import NoraApp
from nora_tui.screens.confirm import ConfirmScreen
from nora_tui.screens.new_run import NewRunScreen
from nora_tui.screens.run import RunScreen
from nora_tui.screens.runs import RunsScreen
from nora_tui.widgets.runs_table import RunsTable, laid_out
from sessions import events
from sessions.codec import encode
from sessions.requests import Stop, decode_request
from tests.nora_tui import made
from tests.nora_tui.pilots import screen_text, until, until_shown

ALL = [f"vit-digits-{kind}" for kind in ("live", "completed", "stopped", "crashed", "nan")]


def listed(app: NoraApp) -> list[str]:
    lines = screen_text(app).splitlines()
    return [word for line in lines for word in line.split() if word.startswith("vit-digits-")]


def selected(app: NoraApp) -> str:
    run = app.screen.query_one(RunsTable).selected
    return run.state.run_id if run else ""


async def test_runs_are_listed_newest_first_each_with_a_word_for_its_state(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(200, 50)) as pilot:
        await until_shown(pilot, *ALL)
        assert listed(app) == ALL
        text = screen_text(app)
        for words in ("● running", "✓ completed", "■ stopped", "✗ crashed", "✗ failed", "1 running", "5 runs"):
            assert words in text
        assert "250/400" in text and "val accuracy 0.9621" in text and "vit · digits" in text and "62%" in text


async def test_moving_selects_and_enter_opens(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        for key, expected in [
            ("down", 1),
            ("j", 2),
            ("up", 1),
            ("k", 0),
            ("end", 4),
            ("home", 0),
            ("pagedown", 4),
            ("pageup", 0),
            ("down", 1),
        ]:
            await pilot.press(key)
            await pilot.pause()
            assert selected(app) == ALL[expected], key
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        await until_shown(pilot, "vit-digits-completed", "loss")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert selected(app) == ALL[1]


async def test_a_filter_narrows_stays_and_goes(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        await pilot.press("slash", *"FAILED vit")
        await until(pilot, lambda: listed(app) == ["vit-digits-nan"])
        assert "1 of 5 runs" in screen_text(app)
        await pilot.press("enter")
        await until_shown(pilot, "new run")
        assert listed(app) == ["vit-digits-nan"]
        await pilot.press("escape")
        await until(pilot, lambda: listed(app) == ALL)
        await pilot.press("slash", *"nowhere")
        await until_shown(pilot, "No run holds nowhere", "Esc shows all again")
        await pilot.press("escape")
        await until(pilot, lambda: listed(app) == ALL)


async def test_a_run_is_stopped_only_by_a_deliberate_key(runs: Path) -> None:
    app = NoraApp(runs)
    requests = runs / "vit-digits-live" / "requests.jsonl"
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        for leave in ("n", "escape"):
            await pilot.press("x")
            await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
            await until_shown(pilot, "Stop vit-digits-live?")
            await pilot.press("enter", leave)
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            assert not requests.exists()
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("y")
        await until(pilot, requests.exists)
        await until_shown(pilot, "stops after its")
    (line,) = requests.read_bytes().splitlines()
    request = decode_request(line)
    assert isinstance(request, Stop) and request.via == "tui"


async def test_a_run_that_has_ended_cannot_be_stopped(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        assert "x stop" in screen_text(app)
        await pilot.press("down")
        await until(pilot, lambda: "x stop" not in screen_text(app))
        await pilot.press("x")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)


async def test_a_read_only_cockpit_neither_starts_nor_stops(runs: Path) -> None:
    app = NoraApp(runs, read_only=True)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL, "read-only")
        assert "n new run" not in screen_text(app) and "x stop" not in screen_text(app)
        await pilot.press("n", "x")
        await pilot.pause()
        assert isinstance(app.screen, RunsScreen)


async def test_an_empty_folder_says_how_to_begin_and_sees_the_first_run(empty: Path) -> None:
    app = NoraApp(empty)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "No runs here yet", "nora demo")
        assert "open" not in screen_text(app)
        made.alive(made.write(empty / "first", made.running("first")))
        await until_shown(pilot, "first", "● running")
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen))


async def test_the_list_lives(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(120, 24)) as pilot:
        await until_shown(pilot, "250/400")
        ending = (made.finished("completed"), 251 * 1000)
        with (runs / "vit-digits-live" / "events.jsonl").open("ab") as file:
            for event, seq in [ending]:
                import msgspec

                file.write(encode(msgspec.structs.replace(event, seq=seq, ts=made.BEGAN + timedelta(hours=4))))
        await until(pilot, lambda: screen_text(app).count("✓ completed") == 2)
        (runs / "vit-digits-nan").rename(runs.parent / "elsewhere")
        await until(pilot, lambda: "vit-digits-nan" not in screen_text(app))


async def test_what_waits_for_a_person_says_so(runs: Path) -> None:
    violation = events.ViolationFound(
        id="v1", norm="finite-loss", category="validity", severity="critical", step=5, message="the loss is nan"
    )
    proposal = events.Proposal(id="p1", violations=["v1"], action="roll_back", hold="pause")
    happenings = [*made.running("waits"), (13.0, violation), (13.0, proposal)]
    made.alive(made.write(runs / "waits", happenings, began=made.BEGAN + timedelta(hours=4)))
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "◆ 1 waiting", "1 waiting for you")
        assert "▲1" in screen_text(app)


async def test_a_broken_session_is_one_line_and_no_end(runs: Path) -> None:
    (runs / "garbage").mkdir()
    (runs / "garbage" / "config.yaml").write_bytes(b"\xff\x00: [")
    (runs / "garbage" / "events.jsonl").write_bytes(b"\x00\xffnot json\n{}\n" * 10)
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL, "garbage")


async def test_names_with_markup_and_control_characters_are_data(empty: Path) -> None:
    made.write(empty / "[red]x", made.completed("[red]x"))
    evil = "a\x1b[31mb"
    made.write(empty / evil, made.completed(evil))
    app = NoraApp(empty)
    async with app.run_test(size=(120, 24)) as pilot:
        await until_shown(pilot, "[red]x", "a␛[31mb")


async def test_a_thousand_runs_scroll(empty: Path) -> None:
    for number in range(1000):
        folder = empty / f"run-{number:04}"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("data: digits\n")
    app = NoraApp(empty)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, "1,000 runs", " time")
        first = selected(app)
        await pilot.press("end")
        await until(pilot, lambda: selected(app) in screen_text(app))
        assert selected(app) != first


def test_columns_go_from_the_right_and_never_overflow() -> None:
    before: list[str] = []
    for width in range(20, 300):
        columns = laid_out(width)
        headings = [column.heading for column, _ in columns]
        assert sum(cells for _, cells in columns) + 2 * (len(columns) - 1) <= max(width, 11)
        assert headings[: len(before)] == before
        before = headings
    assert [column.heading for column, _ in laid_out(78)][-2:] == ["metrics", "time"]


async def test_q_leaves_and_ctrl_c_says_how(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        await pilot.press("ctrl+c")
        await until_shown(pilot, "q leaves the cockpit; runs go on")
        await pilot.press("q")
        await until(pilot, lambda: app._exit)
    assert app.return_code == 0


async def test_a_small_window_gets_a_sentence(runs: Path) -> None:
    app = NoraApp(runs)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await until_shown(pilot, *ALL)
        for size in ((59, 24), (80, 15), (10, 3), (1, 1)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert "vit-digits" not in screen_text(app)
        await pilot.resize_terminal(59, 15)
        await until_shown(pilot, "NORA needs 60 x 16", "Runs go on")
        await pilot.resize_terminal(60, 16)
        await until_shown(pilot, "vit-digits-live")
