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
from typing import Any

from configs.errors import NoraError, StorageError
from configs.load import digest, plain, read_config, validate
from configs.schema import AnyConfig
from engine.environment import capture
from engine.reports import write_result
from engine.siblings import Siblings
from engine.supervise import SIGNALS
from engine.watch import Restart, RunStopped, Watch
from engine.workloads import Plan, Workload, workload_for
from norms.norm import SEVERITIES
from sessions import events
from sessions.events import Json
from sessions.files import write_atomic
from sessions.log import EventLog
from sessions.paths import SessionPaths

EXIT_FAILED, EXIT_STOPPED, EXIT_BROKEN, EXIT_INTERRUPTED = 1, 6, 7, 130


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
    try:
        watch = Watch(paths, log, config)
    except NoraError as error:
        _say(error)
        return events.RunFinished(status="failed", reason=str(error), exit_code=error.exit_code)
    _obey_signals(watch)
    started = time.monotonic()
    verdict = events.Verdict()
    try:
        workload = workload_for(config)
        plan = workload.plan(config)
        log.append(_started(paths, config, plan, attempt))
        watch.environment = capture(config.seed)
        write_atomic(paths.env, json.dumps(watch.environment, indent=2).encode())
        watch.begin(plan.total_steps)
        summary = _train(workload, config, watch)
        summary |= {"seconds": time.monotonic() - started}
        verdict = watch.verdict()
    except RunStopped as stop:
        watch.stopped()
        code = EXIT_INTERRUPTED if stop.signal else EXIT_STOPPED
        return events.RunFinished(status="stopped", reason=str(stop), exit_code=code, verdict=watch.verdict())
    except NoraError as error:
        _say(error)
        return _failed(watch, str(error), error.exit_code)
    except Exception as error:  # whatever a training loop can raise is to be on record
        with contextlib.suppress(OSError):
            traceback.print_exc()
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
        return _failed(watch, f"{type(error).__name__}: {error}", StorageError.exit_code if full else EXIT_FAILED)
    code, reason = _judged(watch, config, verdict)
    return events.RunFinished(status="completed", reason=reason, exit_code=code, summary=summary, verdict=verdict)


def _train(workload: Workload, config: AnyConfig, watch: Watch) -> dict[str, Any]:
    """Run the workload to its end, from the beginning as often as it is told to."""
    while True:
        try:
            summary = workload.run(config, watch)
            if config.claim:
                Siblings(config, watch).judge_claim(summary)
            watch.finish()
            write_result(watch, config, summary)
            return summary
        except Restart as again:
            config = watch.config = _changed(config, again.changes)
        finally:
            watch.detach()


def _changed(config: AnyConfig, changes: Json) -> AnyConfig:
    """Return the configuration with some keys changed, at its top or in its sections."""
    values = plain(config)
    for key, value in changes.items():
        values[key] = values[key] | value if isinstance(value, dict) else value
    return validate(values)


def _failed(watch: Watch, reason: str, code: int) -> events.RunFinished:
    return events.RunFinished(status="failed", reason=reason, exit_code=code, verdict=watch.verdict())


def _judged(watch: Watch, config: AnyConfig, verdict: events.Verdict) -> tuple[int, str]:
    """Return exit code and reason of a run that did all of its steps, by how its norms stand."""
    severity = watch.broken()
    if config.fail_on == "never" or severity is None or SEVERITIES.index(severity) < SEVERITIES.index(config.fail_on):
        return 0, "all steps done"
    return EXIT_BROKEN, f"all steps done, but broken and not cured: {', '.join(verdict.broken)}"


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
