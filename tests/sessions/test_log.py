import os
from pathlib import Path

import pytest

from configs.errors import StorageError
from sessions.codec import decode, encode
from sessions.events import Log, Note
from sessions.log import EventLog


def note(text: str) -> Note:
    return Note(text=text, by="me")


def events_in(path: Path) -> list[Note]:
    return [decode(line) for line in path.read_bytes().splitlines()]  # type: ignore[misc]


def test_numbers_are_without_gap_across_writers(tmp_path: Path) -> None:
    for _ in range(3):
        log = EventLog(tmp_path / "events.jsonl")
        log.append(note("a"))
        log.append(note("b"))
        log.close()
    assert [event.seq for event in events_in(tmp_path / "events.jsonl")] == list(range(6))


def test_an_event_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    stamped = log.append(note("now"))
    assert events_in(tmp_path / "events.jsonl") == [stamped]


def test_a_tail_torn_at_any_byte_is_cut_off_and_written_over(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    whole = encode(Note(seq=0, text="first", by="me"))
    torn = encode(Note(seq=1, text="second", by="me"))
    for cut in range(len(torn)):
        path.write_bytes(whole + torn[:cut])
        log = EventLog(path)
        log.append(note("third"))
        log.close()
        assert [(event.seq, event.text) for event in events_in(path)] == [(0, "first"), (1, "third")]


def test_the_number_goes_on_behind_a_malformed_end_and_a_long_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode(Note(seq=6, text="x" * 300_000, by="me")) + b"not an event\n")
    log = EventLog(path)
    assert log.append(note("next")).seq == 7


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(StorageError, match="another process"):
        EventLog(tmp_path / "events.jsonl")
    log.close()
    EventLog(tmp_path / "events.jsonl").close()


def test_a_full_disk_keeps_what_was_there_and_says_so(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(note("kept"))
    size = path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))  # room for a piece of the next line only
    try:
        with pytest.raises(StorageError, match="cannot be written"):
            log.append(Log(level="info", source="test", text="does not fit"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.stat().st_size == size
    assert log.append(note("fits again")).seq == 1
    assert [event.seq for event in events_in(path)] == [0, 1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="cannot be opened"):
        EventLog(tmp_path / "events.jsonl")
