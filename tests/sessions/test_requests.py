import multiprocessing
from pathlib import Path

import msgspec
import pytest
from hypothesis import given

from sessions.paths import SessionPaths
from sessions.requests import (
    AnyRequest,
    Command,
    Decide,
    RequestError,
    Stop,
    WriteNote,
    ask,
    decode_request,
    encode_request,
)
from tests.sessions.strategies import REQUESTS
from tests.sessions.test_codec import same

ASKED: dict[str, AnyRequest] = {
    "stop": Stop(via="cli", reason="enough"),
    "command": Command(via="tui", action="set_lr", params={"factor": 0.5}),
    "decide": Decide(via="cli", proposal="p1", verdict="override", action="set_lr", params={"lr": 1e-3}, always=True),
    "note": WriteNote(via="cli", text="looks odd\nsince step 5"),
}


@pytest.mark.parametrize("request_", ASKED.values(), ids=ASKED)
def test_a_request_comes_back_as_it_was_asked(tmp_path: Path, request_: AnyRequest) -> None:
    paths = SessionPaths(tmp_path)
    ask(paths, request_)
    assert decode_request(paths.requests.read_bytes()) == request_


@given(REQUESTS)
def test_every_request_comes_back_as_it_was(request_: AnyRequest) -> None:
    line = encode_request(request_)
    assert line.count(b"\n") == 1
    assert same(decode_request(line[:-1]), request_)
    assert msgspec.json.decode(line)["type"] == request_.__struct_config__.tag


@given(REQUESTS)
def test_a_request_truncated_at_any_byte_is_none(request_: AnyRequest) -> None:
    line = encode_request(request_)[:-1]
    for cut in range(len(line)):
        with pytest.raises(RequestError):
            decode_request(line[:cut])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"{}",
        b'{"type":"dance","via":"cli"}',
        b'{"type":"decide","via":"cli","proposal":"p1"}',
        b'{"type":"decide","via":"cli","proposal":"p1","verdict":"maybe"}',
        b'{"type":"decide","via":"mail","proposal":"p1","verdict":"approve"}',
        b'{"type":"command","via":"cli"}',
        b'{"type":"command","via":"cli","action":"pause","params":[]}',
        b'{"type":"note","via":"cli","text":3}',
        b'{"type":"note","via":"cli","text":"\xff"}',
        b"[" * 200_000,
        b'{"type":"command","via":"cli","action":"pause","params":{"a":' + b"[" * 200_000,
    ],
    ids=lambda line: line[:72].decode(errors="replace"),
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(RequestError):
        decode_request(line)


def test_a_line_that_an_asker_left_torn_spoils_no_other(tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path)
    paths.requests.write_bytes(b'{"type":"stop","id":"to')
    ask(paths, Stop(via="cli"))
    torn, whole = paths.requests.read_bytes().splitlines()
    with pytest.raises(RequestError):
        decode_request(torn)
    assert decode_request(whole).via == "cli"


def _ask_many(folder: Path) -> None:
    for _ in range(50):
        ask(SessionPaths(folder), Stop(via="cli", reason="x" * 5000))


def test_many_askers_at_once_lose_and_mix_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    askers = [context.Process(target=_ask_many, args=(tmp_path,)) for _ in range(4)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    lines = (tmp_path / "requests.jsonl").read_bytes().splitlines()
    assert len({decode_request(line).id for line in lines}) == 200
