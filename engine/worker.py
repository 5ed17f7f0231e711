"""The training process: ``python -m engine.worker RUN_DIR [ATTEMPT]``. It alone writes events.jsonl."""

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from types import FrameType

from configs.errors import NoraError, StorageError
from configs.load import digest, read_config
from configs.schema import AnyConfig
from engine.controls import Controls
from engine.environment import capture
from engine.supervise import SIGNALS
from engine.watch import RunStopped, Watch
from engine.workloads import Plan, workload_for
from sessions import events
from sessions.files import write_atomic
from sessions.log import EventLog
from sessions.paths import SessionPaths

EXIT_FAILED, EXIT_STOPPED, EXIT_INTERRUPTED = 1, 6, 130


def main(folder: Path, attempt: int) -> int:
    """Run the session in ``folder`` to its end, whatever that is, and return the exit code."""
    paths = SessionPaths(folder)
    try:
        config = read_config(paths.config)
        log = EventLog(paths.events)
    except NoraError as error:
        _say(error)
        return error.exit_code
    try:
        end = log.append(_run(paths, config, log, attempt))
    except StorageError as error:
        _say(error)
        return error.exit_code
    return end.exit_code


def _run(paths: SessionPaths, config: AnyConfig, log: EventLog, attempt: int) -> events.RunFinished:
    """Train, and return how it ended."""
    watch = Watch(paths, log, Controls(paths))
    _obey_signals(watch)
    started = time.monotonic()
    try:
        workload = workload_for(config)
        plan = workload.plan(config)
        log.append(_started(paths, config, plan, attempt))
        write_atomic(paths.env, json.dumps(capture(config.seed), indent=2).encode())
        watch.begin(plan.total_steps)
        summary = workload.run(config, watch) | {"seconds": time.monotonic() - started}
    except RunStopped as stop:
        watch.stopped()
        code = EXIT_INTERRUPTED if stop.signal else EXIT_STOPPED
        return events.RunFinished(status="stopped", reason=str(stop), exit_code=code)
    except NoraError as error:
        _say(error)
        return events.RunFinished(status="failed", reason=str(error), exit_code=error.exit_code)
    except Exception as error:  # whatever a training loop can raise is to be on record
        with contextlib.suppress(OSError):
            traceback.print_exc()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        code = StorageError.exit_code if full else EXIT_FAILED
        return events.RunFinished(status="failed", reason=f"{type(error).__name__}: {error}", exit_code=code)
    return events.RunFinished(status="completed", reason="all steps done", exit_code=0, summary=summary)


def _say(error: NoraError) -> None:
    with contextlib.suppress(OSError):  # console.log is on the disk that may be full
        print(f"error: {error}", file=sys.stderr, flush=True)


def _started(paths: SessionPaths, config: AnyConfig, plan: Plan, attempt: int) -> events.RunStarted:
    return events.RunStarted(
        run_id=paths.run_id,
        name=paths.run_id,
        workload=config.workload,
        mode=config.mode,
        regime=config.regime,
        violation=config.violation,
        seed=config.seed,
        config_digest=digest(config),
        attempt=attempt,
        host=socket.gethostname(),
        pid=os.getpid(),
        job_id=os.environ.get("SLURM_JOB_ID"),
        total_steps=plan.total_steps,
        total_epochs=plan.total_epochs,
        tags=config.tags,
    )


def _obey_signals(watch: Watch) -> None:
    def note(number: int, _frame: FrameType | None) -> None:
        watch.interrupt(signal.Signals(number).name)

    for number in SIGNALS:
        signal.signal(number, note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # the supervisor holds them until here


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), attempt=int(sys.argv[2]) if len(sys.argv) > 2 else 1))
