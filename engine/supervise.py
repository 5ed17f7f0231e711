"""The process over a worker: ``python -m engine.supervise RUN_DIR [--detach]``. It alone writes supervisor.jsonl.

It starts the worker with the session's console.log as its output, says when and how the worker ended, and shows by the
time stamp of its file that somebody still watches over the run. It imports nothing heavy and outlives any terminal.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from configs.errors import StorageError
from sessions import events
from sessions.files import PRIVATE_FILE
from sessions.log import EventLog
from sessions.paths import SessionPaths

HEARTBEAT_SECONDS = 5.0
WORKER_ENVIRONMENT = {
    # glibc gives big blocks back to the kernel at every free; keeping them is worth 13% of a ViT step on CPU.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    # Threads that spin while they wait starve whatever else uses a core, the cockpit first.
    "OMP_WAIT_POLICY": "PASSIVE",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    "PYTHONUNBUFFERED": "1",
}


SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})


def main(folder: Path, begun: Callable[[], None] = lambda: None) -> int:
    """Run the session in ``folder`` and return the worker's exit code; ``begun`` is called once the worker runs.

    Raises:
        StorageError: The folder cannot be written; no worker was started.
    """
    # Held until both processes have their handlers (a child inherits the mask): none is lost or kills in between.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    paths = SessionPaths(folder)
    log = EventLog(paths.supervisor)
    log.append(events.SupervisorStarted(host=socket.gethostname(), pid=os.getpid()))
    attempt = 1
    worker = _start(paths, attempt)
    _pass_on_signals(worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with contextlib.suppress(StorageError):  # the run is what counts; its own events tell of it
        log.append(events.WorkerStarted(pid=worker.pid, attempt=attempt))
    begun()
    while True:
        try:
            code = worker.wait(HEARTBEAT_SECONDS)
            break
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):  # a full or vanished disk must not end the run; readers see the silence
                os.utime(paths.supervisor)
    killed_by = signal.Signals(-code).name if code < 0 else None
    exited = events.WorkerExited(
        pid=worker.pid,
        attempt=attempt,
        exit_code=None if killed_by else code,
        signal=killed_by,
        clean=_finished(paths),
    )
    with contextlib.suppress(StorageError):  # on a full disk readers see that the processes are gone
        log.append(exited)
    return 1 if killed_by else code


def _start(paths: SessionPaths, attempt: int) -> subprocess.Popen[bytes]:
    console = os.open(paths.console, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "engine.worker", str(paths.root), str(attempt)],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=WORKER_ENVIRONMENT | os.environ,
        )
    finally:
        os.close(console)


def _pass_on_signals(worker: subprocess.Popen[bytes]) -> None:
    def pass_on(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            worker.send_signal(number)

    for number in SIGNALS:
        signal.signal(number, pass_on)


def _finished(paths: SessionPaths) -> bool:
    """Whether the last event of the worker is run_finished."""
    try:
        with paths.events.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 20)))
            lines = file.read().split(b"\n")
    except OSError:
        return False
    return len(lines) > 1 and lines[-1] == b"" and lines[-2].startswith(b'{"type":"run_finished"')


def _detach() -> Callable[[], None]:
    """Leave the launching process behind, which need not wait for this one nor keep its remains.

    The parent stays until what this returns is called, and then exits with 0; with 4 if this process ends before.
    """
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        os._exit(0 if os.read(reading, 1) else StorageError.exit_code)
    os.close(reading)

    def begun() -> None:
        os.write(writing, b".")
        os.close(writing)

    return begun


if __name__ == "__main__":
    try:
        if "--detach" in sys.argv:
            sys.exit(main(Path(sys.argv[1]), _detach()))
        sys.exit(main(Path(sys.argv[1])))
    except StorageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
