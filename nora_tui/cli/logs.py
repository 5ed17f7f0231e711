"""``nora logs``: the console of a run, harmless to the terminal it is shown in."""

import sys
import threading
from collections.abc import Iterator
from typing import Literal

import msgspec

from configs.errors import DataError, StorageError
from nora_tui.cli.output import harmless
from sessions.paths import SessionPaths
from sessions.store import SessionReader
from sessions.tail import LineTail, wakes

Form = Literal["text", "json", "raw"]
_TAIL_BLOCK = 1 << 16


def print_log(paths: SessionPaths, *, follow: bool, lines: int, form: Form) -> None:
    """Print console.log, its last ``lines`` lines (0: all), and with ``follow`` what comes until the run ends.

    Raises:
        DataError: The session has no console.log.
        StorageError: It cannot be read.
    """
    if not paths.console.exists():
        raise DataError(f"{paths.console} is not there: this session has kept no console")
    try:
        tail = LineTail(paths.console, _start_of_last(paths, lines))
        for line in _lines(paths, tail, follow):
            _print(line, form)
    except (PermissionError, FileNotFoundError) as error:
        raise StorageError(f"{paths.console} cannot be read: {error.strerror}") from error


def _print(line: bytes, form: Form) -> None:
    if form == "text":
        line = harmless(line.decode(errors="replace")).encode()
    elif form == "json":
        line = msgspec.json.encode({"line": line.decode(errors="replace")})
    sys.stdout.buffer.write(line + b"\n")


def _lines(paths: SessionPaths, tail: LineTail, follow: bool) -> Iterator[bytes]:
    if follow:
        reader = SessionReader(paths, curves=False)
        for _ in wakes([paths.root], threading.Event()):
            reader.poll()
            ended = reader.state.ended  # looked at before reading, so that the last lines are not missed
            yield from _whole_lines(tail)
            sys.stdout.flush()
            if ended:
                break
    yield from _whole_lines(tail)
    with paths.console.open("rb") as file:  # a last line without a newline is shown too: nothing will complete it now
        file.seek(tail.offset)
        if rest := file.read():
            yield rest


def _whole_lines(tail: LineTail) -> Iterator[bytes]:
    more = True
    while more:
        chunk = tail.read()
        yield from chunk.lines
        more = chunk.more


def _start_of_last(paths: SessionPaths, lines: int) -> int:
    """Return where the last ``lines`` lines begin, reading no more than is needed from the end; 0 lines means all."""
    if lines == 0:
        return 0
    with paths.console.open("rb") as file:
        position = end = file.seek(0, 2)
        found = 0
        while position > 0:
            step = min(_TAIL_BLOCK, position)
            position -= step
            file.seek(position)
            block = file.read(step)
            at = step
            while (at := block.rfind(b"\n", 0, at)) >= 0:
                if position + at == end - 1:
                    continue  # the newline that ends the last line begins none
                found += 1
                if found == lines:
                    return position + at + 1
    return 0
