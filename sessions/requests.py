"""What people ask of a run: lines of requests.jsonl, appended by anyone who may steer it, answered by the worker."""

import fcntl
import getpass
import os
import uuid
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct, field

from configs.errors import StorageError
from sessions.codec import spell, unspell
from sessions.events import Json
from sessions.files import PRIVATE_FILE
from sessions.paths import SessionPaths


class Request(Struct, frozen=True, kw_only=True, tag_field="type"):
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    ts: datetime = field(default_factory=lambda: datetime.now(UTC))
    by: str = field(default_factory=getpass.getuser)
    via: Literal["tui", "cli"]
    reason: str | None = None


class Stop(Request, frozen=True, kw_only=True, tag="stop"):
    """End the run after the current step, with a checkpoint."""


class Command(Request, frozen=True, kw_only=True, tag="command"):
    """Carry out an action (norms/actions.py) that nobody proposed: pause, resume, set_lr, roll_back, mute, …"""

    action: str
    params: Json = field(default_factory=dict)


class Decide(Request, frozen=True, kw_only=True, tag="decide"):
    """Answer a proposal."""

    proposal: str
    verdict: Literal["approve", "override", "reject"]
    action: str | None = None
    """For override: another action than the recommended one; None keeps it, with other parameters."""
    params: Json = field(default_factory=dict)
    """For override: with another action all of its parameters, else those that change."""
    always: bool = False
    """Whether the answer holds for this norm for the rest of the run."""


class WriteNote(Request, frozen=True, kw_only=True, tag="note"):
    """Write a note into the session."""

    text: str


AnyRequest = Stop | Command | Decide | WriteNote

_decoder = msgspec.json.Decoder(AnyRequest)


class RequestError(ValueError):
    """A line that is no request."""


def encode_request(request: AnyRequest) -> bytes:
    """Return the request as one JSON line, newline included; non-finite floats as in events."""
    return msgspec.json.encode(spell(request)) + b"\n"


def decode_request(line: bytes) -> AnyRequest:
    """Return the request in one line.

    Raises:
        RequestError: The line is no request that this version knows.
    """
    try:
        request: AnyRequest = _decoder.decode(line)
        if isinstance(request, Command | Decide):
            return msgspec.structs.replace(request, params=unspell(request.params))
        return request
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(str(error)) from error


def ask(paths: SessionPaths, request: AnyRequest) -> None:
    """Append the request, whole, among any number of askers.

    Raises:
        StorageError: The session folder cannot be written.
    """
    line = encode_request(request)
    try:
        file = os.open(paths.requests, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # an asker was killed within its line
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise StorageError(f"{paths.requests} cannot be written: {error.strerror}") from error
