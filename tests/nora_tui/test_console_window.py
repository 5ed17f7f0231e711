from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nora_tui import console_window
from nora_tui.console_window import BLOCK_BYTES, MAX_LINE_BYTES, ConsoleWindow, drawn
from nora_tui.widgets.toned import shown


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "console.log"


def texts(window: ConsoleWindow) -> list[str]:
    return [line.text for line in window.all_lines()]


def append(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"\x1b[1;32mgreen\x1b[0m", "green"),
        (b"10%\r50%\r100%", "100%"),
        (b"10%\r100%\r", "100%"),
        (b"windows\r", "windows"),
        (b"\x1b[2K\x1b[1Aup", "up"),
        (b"[bold]markup[/bold]", "[bold]markup[/bold]"),
        (b"a\tb", "a   b"),
        (b"\xff\xfe", "��"),
    ],
)
def test_a_line_is_shown_as_it_would_stand_on_a_screen(raw: bytes, text: str) -> None:
    assert drawn(raw) == text


def test_what_a_terminal_would_obey_is_shown_as_a_picture() -> None:
    assert shown(drawn(b"\x07 \x1b]0;title\x07 \x9b1m \x7f")) == "␇ ␛]0;title␇ �1m ␡"
    assert shown("a\u202egnp.exe\xa0b") == "a�gnp.exe b"


@given(st.binary(max_size=200))
def test_nothing_shown_can_command_a_terminal(raw: bytes) -> None:
    assert shown(drawn(raw)).isprintable()


def test_lines_are_followed_as_they_grow_and_an_unfinished_one_is_shown(log: Path) -> None:
    window = ConsoleWindow(log)
    assert not window.follow() and texts(window) == []
    append(log, b"one\ntw")
    assert window.follow() and texts(window) == ["one", "tw"]
    append(log, b"o\n 10%\r 20%")
    assert window.follow() and texts(window) == ["one", "two", " 20%"]
    assert not window.follow()
    append(log, b"\r100%\nend\n")
    assert window.follow() and texts(window) == ["one", "two", "100%", "end"]


def test_a_file_that_was_cut_is_read_anew(log: Path) -> None:
    append(log, b"first\nsecond\n")
    window = ConsoleWindow(log)
    window.follow()
    log.write_bytes(b"new\n")
    assert window.follow() and texts(window) == ["new"]


def numbered(lines: int) -> bytes:
    return b"".join(b"line %07d of many\n" % number for number in range(lines))


def test_of_a_big_file_only_a_window_is_held_and_every_line_can_be_reached(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_window, "MAX_LINES", 8_000)
    total = 60_000
    append(log, numbered(total))
    window = ConsoleWindow(log)
    window.follow()
    assert texts(window)[-1] == f"line {total - 1:07} of many"
    seen = set(texts(window))
    while window.older():
        assert len(window.lines) <= 8_000
        assert [line.offset for line in window.lines] == sorted({line.offset for line in window.lines})
        seen |= set(texts(window))
    assert len(seen) == total and window.start == 0 and not window.at_end
    append(log, b"more\n")
    assert not window.follow(), "who reads old lines is left in peace"
    back = set(texts(window))
    while window.newer():
        assert len(window.lines) <= 8_000
        back |= set(texts(window))
    assert len(back) == total + 1 and window.at_end
    append(log, b"again\n")
    assert window.follow() and texts(window)[-1] == "again"


def test_the_beginning_and_the_end_are_one_jump_away(log: Path) -> None:
    append(log, numbered(60_000))
    window = ConsoleWindow(log)
    window.to_start()
    assert texts(window)[0] == "line 0000000 of many" and not window.at_end
    window.to_end()
    assert texts(window)[-1] == "line 0059999 of many" and window.at_end and window.start > 0


def test_a_small_file_is_all_there_from_its_beginning(log: Path) -> None:
    append(log, b"only\n")
    window = ConsoleWindow(log)
    window.to_start()
    assert window.at_end and texts(window) == ["only"]


def test_very_long_lines_come_in_pieces_and_lose_nothing(log: Path) -> None:
    append(log, b"a\n" + b"x" * (3 * BLOCK_BYTES) + b"\nb\n" + b"y" * (2 * MAX_LINE_BYTES))
    window = ConsoleWindow(log)
    window.follow()
    while window.older():
        pass
    held = texts(window)
    assert all(len(text) <= MAX_LINE_BYTES + BLOCK_BYTES for text in held)
    assert "".join(held) == "a" + "x" * (3 * BLOCK_BYTES) + "b" + "y" * (2 * MAX_LINE_BYTES)


def test_a_progress_bar_that_never_ends_its_line_stays_one_line(log: Path) -> None:
    append(log, b"".join(b"\r%6d of 100000" % number for number in range(50_000)))
    window = ConsoleWindow(log)
    window.follow()
    assert texts(window) == [" 49999 of 100000"]
    assert len(window.open_line) < 100


def test_a_storm_is_skipped_to_its_end(log: Path) -> None:
    append(log, b"calm\n")
    window = ConsoleWindow(log)
    window.follow()
    append(log, numbered(200_000))
    assert window.follow()
    assert texts(window)[-1] == "line 0199999 of many" and len(window.lines) < 30_000


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=20))
def test_how_a_file_arrives_does_not_change_its_lines(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    log = tmp_path_factory.mktemp("log") / "console.log"
    log.touch()
    window = ConsoleWindow(log)
    window.follow()
    for chunk in chunks:
        append(log, chunk)
        window.follow()
    whole = ConsoleWindow(log)
    whole.follow()
    assert texts(window) == texts(whole)
