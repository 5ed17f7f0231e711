"""What people ask of a run, and whether they may: requests.jsonl, read between two steps."""

import os
import stat

from sessions.paths import SessionPaths
from sessions.requests import AnyRequest, RequestError, decode_request
from sessions.tail import LineTail


class Inbox:
    """Takes the requests that people have appended since the last look.

    A look costs one stat call. On a shared file system that caches attributes a request can be seen some seconds late.
    """

    def __init__(self, paths: SessionPaths) -> None:
        self._path = paths.requests
        self._tail = LineTail(paths.requests)
        self._refused = ""

    def poll(self) -> tuple[list[AnyRequest], list[str]]:
        """Return the new requests, and why each line that is none, or once why the whole file, was refused."""
        try:
            why = self._distrust()
            lines = self._tail.read().lines if why is None else []
        except FileNotFoundError:
            return [], []
        except OSError as error:
            why, lines = f"requests.jsonl cannot be read: {error.strerror}", []
        if why is not None:
            again, self._refused = why == self._refused, why
            return [], [] if again else [why]
        self._refused = ""
        requests: list[AnyRequest] = []
        refused: list[str] = []
        for line in lines:
            if not line:
                continue
            try:
                requests.append(decode_request(line))
            except RequestError as error:
                refused.append(f"not a request: {error}")
        return requests, refused

    def _distrust(self) -> str | None:
        """Return why the file cannot be from this user, or None: whoever can write it steers the run."""
        found = os.stat(self._path)
        if found.st_uid != os.geteuid():
            return f"requests.jsonl belongs to uid {found.st_uid}, the run to uid {os.geteuid()}"
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return "requests.jsonl can be written by others; `chmod go-w` it"
        return None
