import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessions.tail import LineTail, file_system_of, must_poll, wakes


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.jsonl"


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def read_all(tail: LineTail, max_bytes: int = 1 << 18) -> list[bytes]:
    lines: list[bytes] = []
    while True:
        chunk = tail.read(max_bytes)
        lines += chunk.lines
        if not chunk.more:
            return lines


def test_a_missing_file_is_not_yet_there(path: Path) -> None:
    tail = LineTail(path)
    assert tail.read().lines == []
    append(path, b"a\n")
    assert tail.read().lines == [b"a"]


def test_a_torn_last_line_is_not_yet_a_line(path: Path) -> None:
    tail = LineTail(path)
    for byte in b"one\ntwo\n":
        append(path, bytes([byte]))
        lines = tail.read().lines
        assert lines == ([b"one"] if byte == ord("\n") and tail.offset == 4 else [b"two"] if byte == ord("\n") else [])


@settings(max_examples=60, deadline=None)
@given(
    pieces=st.lists(st.binary(max_size=30), max_size=8),
    max_bytes=st.integers(1, 20),
)
def test_chunking_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], max_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("tail") / "file"
    tail = LineTail(path)
    lines = []
    for piece in pieces:
        append(path, piece)
        lines += read_all(tail, max_bytes)
    assert lines == b"".join(pieces).split(b"\n")[:-1]


def test_a_line_longer_than_the_chunk_is_read_whole(path: Path) -> None:
    append(path, b"x" * 10_000_000 + b"\nshort\n")
    assert [len(line) for line in read_all(LineTail(path))] == [10_000_000, 5]


def test_a_file_cut_short_is_read_from_its_beginning(path: Path) -> None:
    tail = LineTail(path)
    append(path, b"old 1\nold 2\n")
    tail.read()
    path.write_bytes(b"new\n")
    chunk = tail.read()
    assert (chunk.restarted, chunk.lines) == (True, [b"new"])


def test_a_file_replaced_by_a_longer_one_is_read_from_its_beginning(path: Path) -> None:
    tail = LineTail(path)
    append(path, b"old\n")
    tail.read()
    other = path.with_name("other")
    other.write_bytes(b"brand\nnew\nfile\n")
    os.replace(other, path)
    chunk = tail.read()
    assert (chunk.restarted, chunk.lines) == (True, [b"brand", b"new", b"file"])


def test_a_file_rewritten_in_place_beyond_the_old_end_is_noticed(path: Path) -> None:
    tail = LineTail(path)
    append(path, b"old\n")
    tail.read()
    with path.open("r+b") as file:
        file.write(b"NEW\nand more\n")
    chunk = tail.read()
    assert (chunk.restarted, chunk.lines) == (True, [b"NEW", b"and more"])


def test_a_file_that_vanishes_and_comes_back_is_read_anew(path: Path) -> None:
    tail = LineTail(path)
    append(path, b"a\n")
    tail.read()
    path.unlink()
    assert tail.read().lines == []
    append(path, b"b\n")
    assert tail.read().lines == [b"b"]


def test_a_file_cut_while_it_is_read_is_not_read_for_ever(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(path, b"x" * 1000 + b"\n")
    tail = LineTail(path)
    pread = os.pread

    def cut_first(file: int, length: int, offset: int) -> bytes:
        os.truncate(path, 0)
        return pread(file, length, offset)

    monkeypatch.setattr(os, "pread", cut_first)
    assert tail.read().lines == []


def test_no_descriptor_stays_open(path: Path) -> None:
    append(path, b"a\n")
    tails = [LineTail(path) for _ in range(50)]
    before = len(os.listdir("/proc/self/fd"))
    for tail in tails:
        tail.read()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("poll", ["0", "1"])
def test_an_append_wakes_by_notice_and_by_polling(path: Path, monkeypatch: pytest.MonkeyPatch, poll: str) -> None:
    monkeypatch.setenv("NORA_POLL", poll)
    assert must_poll([path.parent]) == (poll == "1")
    stop = threading.Event()
    seen = threading.Event()
    ready = threading.Event()

    def follow() -> None:
        tail = LineTail(path)
        for _ in wakes([path.parent], stop):
            if b"done" in tail.read().lines:
                seen.set()
            ready.set()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        assert ready.wait(5)
        time.sleep(0.3)
        append(path, b"done\n")
        assert seen.wait(5)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()


def test_the_file_system_of_a_folder_is_known() -> None:
    assert file_system_of(Path("/proc")) == "proc"
