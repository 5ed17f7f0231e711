import multiprocessing
from pathlib import Path

import pytest

from sessions.paths import SessionPaths
from sessions.requests import RequestError, Stop, ask, decode_request


def test_a_request_comes_back_as_it_was_asked(tmp_path: Path) -> None:
    paths = SessionPaths(tmp_path)
    request = Stop(via="cli", reason="enough")
    ask(paths, request)
    assert decode_request(paths.requests.read_bytes()) == request


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
