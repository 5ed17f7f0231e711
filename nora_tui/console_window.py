"""A stretch of a console file of any size as lines that are safe to show, holding no more of it than a window."""

import os
import re
from collections import deque
from pathlib import Path
from typing import NamedTuple

BLOCK_BYTES = 1 << 16
MAX_LINES, MAX_BYTES = 20_000, 4 << 20
MAX_LINE_BYTES = 1 << 14
"""A longer line is shown in pieces of this size."""
TAB = 4

_DRAWING = re.compile(r"\x1b\[[0-9;:?]*[mABCDEFGHJKfhl]|\x1b[()][A-Z0-9]|\x1b[=>78]")
"""Colours, cursor moves and erasing: what progress bars and loggers decorate with."""


class Line(NamedTuple):
    offset: int
    """Where in the file it begins, in bytes."""
    text: str


def drawn(data: bytes) -> str:
    """Return one line as it would stand on a screen: of what carriage returns redrew the last drawing, without colours.

    Other control characters are left for whoever shows the line to make visible.
    """
    text = _last_drawing(data).decode(errors="replace")
    return (_DRAWING.sub("", text) if "\x1b" in text else text).expandtabs(TAB)


def _last_drawing(data: bytes) -> bytes:
    """Return what stands behind the last carriage return, or ``data`` itself where there is none."""
    return data.rstrip(b"\r").rpartition(b"\r")[2] if b"\r" in data else data


class ConsoleWindow:
    """The lines between two offsets of a file; ``older``, ``newer`` and ``follow`` move them, ``to_end`` jumps.

    At most ``MAX_LINES`` lines of ``MAX_BYTES`` are held: what is taken in at one end falls off at the
    other. All methods raise OSError where the file is there and cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode = 0
        self.lines: deque[Line] = deque()
        self.end = 0
        """Behind the last byte taken in."""
        self.open_line = b""
        """What follows the last newline: a line that is not finished yet."""
        self.at_end = True
        """Whether the newest line is in the window."""

    @property
    def start(self) -> int:
        return self.lines[0].offset if self.lines else self.end - len(self.open_line)

    def all_lines(self) -> list[Line]:
        """Return the lines that are held, at the end of the file with one that is not finished yet."""
        if not (self.at_end and self.open_line):
            return list(self.lines)
        return [*self.lines, Line(self.end - len(self.open_line), drawn(self.open_line))]

    def follow(self) -> bool:
        """Take in what was appended; return whether anything changed. A file that was cut is read anew."""
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return False
        if stat.st_ino != self._inode or stat.st_size < self.end:
            self._inode = stat.st_ino
            self.to_end()
            return True
        if stat.st_size == self.end or not self.at_end:
            return False
        if stat.st_size - self.end > 16 * BLOCK_BYTES:  # a storm: what was skipped can be scrolled to
            self.to_end()
            return True
        while self._append():
            pass
        return True

    def to_end(self) -> None:
        """Hold the newest lines."""
        size = self._size()
        self._clear(max(0, size - 4 * BLOCK_BYTES))
        while self._append():
            pass
        self.at_end = True

    def to_start(self) -> None:
        """Hold the oldest lines."""
        self._clear(0)
        self.at_end = not any(self._append() for _ in range(4)) or self.end >= self._size()

    def newer(self) -> bool:
        """Take in later lines, and let as many early ones go; return whether there were any."""
        if self.at_end:
            return False
        self.at_end = not self._append()
        return True

    def older(self) -> int:
        """Take in lines before the first one; return how many."""
        start = self.start
        if start == 0:
            return 0
        begin = max(0, start - BLOCK_BYTES)
        data = self._read(begin, start - begin)
        if begin > 0:  # the first line of the block may have begun before it
            cut = data.find(b"\n", 0, len(data) - 1) + 1
            begin, data = begin + cut, data[cut:]
        lines = list(_lines(begin, data.removesuffix(b"\n")))
        self.lines.extendleft(reversed(lines))
        self._shorten_end()
        return len(lines)

    def _append(self) -> bool:
        """Take in the next block; return whether there was one."""
        data = self._read(self.end, BLOCK_BYTES)
        if not data:
            return False
        begin = self.end - len(self.open_line)
        self.end += len(data)
        whole, newline, rest = (self.open_line + data).rpartition(b"\n")
        if newline:
            self.lines.extend(_lines(begin, whole))
            begin += len(whole) + 1
        if b"\r" in rest:
            rest = rest[rest.rstrip(b"\r").rfind(b"\r") + 1 :]  # a last return stays: what follows it draws over this
        elif len(rest) > MAX_LINE_BYTES:
            *pieces, last = _lines(begin, rest)
            self.lines.extend(pieces)
            rest = rest[last.offset - begin :]
        self.open_line = rest
        while self._too_much():
            self.lines.popleft()
        return True

    def _too_much(self) -> bool:
        return len(self.lines) > MAX_LINES or self.end - self.start > MAX_BYTES + len(self.open_line)

    def _shorten_end(self) -> None:
        while self._too_much():
            self.end = self.lines.pop().offset
            self.open_line = b""
            self.at_end = False

    def _clear(self, offset: int) -> None:
        """Begin anew at the first line that begins at or after ``offset``."""
        self.lines.clear()
        self.open_line = b""
        if offset > 0:
            offset += self._read(offset, BLOCK_BYTES).find(b"\n") + 1
        self.end = offset

    def _size(self) -> int:
        try:
            return os.stat(self._path).st_size
        except FileNotFoundError:
            return 0

    def _read(self, offset: int, length: int) -> bytes:
        try:
            file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return b""
        try:
            return os.pread(file, length, offset)
        finally:
            os.close(file)


def _lines(offset: int, data: bytes) -> list[Line]:
    """Return whole lines, the first of which begins at ``offset``; very long ones in pieces."""
    lines = []
    for raw in data.split(b"\n"):
        if len(raw) <= MAX_LINE_BYTES or b"\r" in raw:
            lines.append(Line(offset, drawn(raw)))
        else:
            pieces = range(0, len(raw), MAX_LINE_BYTES)
            lines += [Line(offset + at, drawn(raw[at : at + MAX_LINE_BYTES])) for at in pieces]
        offset += len(raw) + 1
    return lines
