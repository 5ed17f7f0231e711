"""One frozen value that says how a session stands, and the one fold from events to it.

A live run, a batch run, a SLURM job and a replay differ only in where the events come from. Metric columns live beside
this in series.py, so that whoever needs no curves never loads them.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import reduce
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from sessions import events
from sessions.events import AnyEvent, Json, Unknown, Verdict

Status = Literal["starting", "running", "stopping", "completed", "stopped", "failed", "crashed", "lost"]
ENDED: frozenset[Status] = frozenset({"completed", "stopped", "failed", "crashed", "lost"})
KEPT_LOGS = 500
"""Log events kept in the state; all of them stand in events.jsonl."""


class PhaseState(Struct, frozen=True):
    name: str
    epoch: int | None
    started_at: datetime


class SessionState(Struct, frozen=True):
    run_id: str = ""
    name: str = ""
    workload: str = ""
    mode: str = ""
    regime: str = ""
    violation: str = ""
    seed: int | None = None
    config_digest: str = ""
    attempt: int = 0
    host: str = ""
    pid: int | None = None
    supervisor_host: str = ""
    supervisor_pid: int | None = None
    job_id: str | None = None
    resumed_from: str | None = None
    tags: tuple[str, ...] = ()
    total_steps: int | None = None
    total_epochs: int | None = None

    status: Status = "starting"
    reason: str = ""
    exit_code: int | None = None
    summary: Json = field(default_factory=dict)
    verdict: Verdict | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None
    finished_at: datetime | None = None

    step: int = 0
    epoch: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None
    phase: PhaseState | None = None
    phase_seconds: dict[str, float] = field(default_factory=dict)
    latest: dict[str, dict[str, float]] = field(default_factory=dict)
    """The newest value of each metric, by split and name."""

    violations: tuple[events.ViolationFound, ...] = ()
    proposals: tuple[events.Proposal, ...] = ()
    resolutions: tuple[events.Resolution, ...] = ()
    actions: tuple[events.Action, ...] = ()
    outcomes: dict[str, str] = field(default_factory=dict)
    """The newest outcome of each violation, by its id."""
    policies: tuple[events.Policy, ...] = ()
    standings: dict[str, events.Standing] = field(default_factory=dict)
    """How each norm stands, by its id."""
    refused: tuple[events.RequestRefused, ...] = ()
    checkpoints: tuple[events.Checkpoint, ...] = ()
    artifacts: tuple[events.Artifact, ...] = ()
    notes: tuple[events.Note, ...] = ()
    logs: tuple[events.Log, ...] = ()
    unknown: dict[str, int] = field(default_factory=dict)
    """How many events of each type that this version does not know."""

    malformed: int = 0
    gaps: int = 0
    """Lines that are no event, and places where ``seq`` jumps: counted by the reader, shown to people."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def fraction(self) -> float | None:
        """How much of the run is done, from 0 to 1, where that can be said."""
        if self.status == "completed":
            return 1.0
        if self.total_steps:
            return min(1.0, self.step / self.total_steps)
        return None


def apply(state: SessionState, event: AnyEvent | Unknown) -> SessionState:
    """Return the state after ``event``."""
    return _HANDLERS[type(event)](state, event)


def fold(state: SessionState, batch: Iterable[AnyEvent | Unknown]) -> SessionState:
    return reduce(apply, batch, state)


MetricsKey = tuple[Any, ...]
"""Split, whether there is no epoch, and the names: metrics events of one key overwrite the same parts of the state."""


def grouped(batch: Iterable[AnyEvent | Unknown]) -> tuple[dict[MetricsKey, list[events.Metrics]], list[Any]]:
    """Return the metrics events by key, and the other events; each in order."""
    metrics: dict[MetricsKey, list[events.Metrics]] = {}
    rest = []
    for event in batch:
        if isinstance(event, events.Metrics):
            key = (event.split, event.epoch is None, *event.values)
            if (group := metrics.get(key)) is None:
                metrics[key] = [event]
            else:
                group.append(event)
        else:
            rest.append(event)
    return metrics, rest


def fold_grouped(
    state: SessionState, metrics: dict[MetricsKey, list[events.Metrics]], rest: Iterable[AnyEvent | Unknown]
) -> SessionState:
    """Return what ``fold`` would for events in ascending ``seq``, taken apart by ``grouped``.

    Of the metrics events of one key only the newest matters to the state, which makes a million of them cheap. This
    rests on no other handler reading what ``_metrics`` writes (step, epoch, latest).
    """
    newest = [group[-1] for group in metrics.values()]
    return reduce(apply, sorted([*newest, *rest], key=lambda event: event.seq), state)


def _run_started(state: SessionState, event: events.RunStarted) -> SessionState:
    return replace(
        state,
        run_id=event.run_id,
        name=event.name,
        workload=event.workload,
        mode=event.mode,
        regime=event.regime,
        violation=event.violation,
        seed=event.seed,
        config_digest=event.config_digest,
        attempt=event.attempt,
        host=event.host,
        pid=event.pid,
        job_id=event.job_id,
        resumed_from=event.resumed_from,
        tags=tuple(event.tags),
        total_steps=event.total_steps,
        total_epochs=event.total_epochs,
        status="running",
        reason="",
        exit_code=None,
        started_at=state.started_at or event.ts,
        finished_at=None,
    )


def _phase(state: SessionState, event: events.Phase) -> SessionState:
    if event.state == "start":
        return replace(state, phase=PhaseState(event.phase, event.epoch, event.ts))
    seconds = state.phase_seconds.get(event.phase, 0.0) + (event.seconds or 0.0)
    ended = state.phase is not None and state.phase.name == event.phase
    return replace(
        state,
        phase=None if ended else state.phase,
        phase_seconds=state.phase_seconds | {event.phase: seconds},
    )


def _metrics(state: SessionState, event: events.Metrics) -> SessionState:
    latest = state.latest | {event.split: state.latest.get(event.split, {}) | event.values}
    if event.split != "train":  # an evaluation may speak of an earlier step, such as the best one
        return replace(state, latest=latest)
    epoch = state.epoch if event.epoch is None else event.epoch
    return replace(state, step=event.step, epoch=epoch, latest=latest)


def _progress(state: SessionState, event: events.Progress) -> SessionState:
    return replace(
        state,
        step=event.step,
        epoch=state.epoch if event.epoch is None else event.epoch,
        samples_per_second=event.samples_per_second,
        eta_seconds=event.eta_seconds,
    )


def _action(state: SessionState, event: events.Action) -> SessionState:
    stops = event.action == "stop" and event.state == "started" and state.status == "running"
    return replace(state, actions=(*state.actions, event), status="stopping" if stops else state.status)


def _finished(state: SessionState, event: events.RunFinished) -> SessionState:
    return replace(
        state,
        status=event.status,
        reason=event.reason,
        exit_code=event.exit_code,
        summary=event.summary,
        verdict=event.verdict,
        finished_at=event.ts,
        eta_seconds=None,
        phase=None,
    )


def _supervisor_started(state: SessionState, event: events.SupervisorStarted) -> SessionState:
    return replace(state, supervisor_host=event.host, supervisor_pid=event.pid)


def _worker_exited(state: SessionState, event: events.WorkerExited) -> SessionState:
    """A worker that left without a word crashed; one that wrote run_finished has said all there is to say."""
    if event.clean or state.status in ENDED:
        return state
    how = f"signal {event.signal}" if event.signal else f"exit code {event.exit_code}"
    return replace(
        state,
        status="crashed",
        reason=f"the worker ended by {how}; console.log says more",
        exit_code=event.exit_code or 1,
        finished_at=event.ts,
        eta_seconds=None,
        phase=None,
    )


def _append(name: str) -> Callable[[SessionState, Any], SessionState]:
    def handler(state: SessionState, event: Any) -> SessionState:
        return replace(state, **{name: (*getattr(state, name), event)})

    return handler


def _log(state: SessionState, event: events.Log) -> SessionState:
    return replace(state, logs=(*state.logs[1 - KEPT_LOGS :], event))


def _outcome(state: SessionState, event: events.Outcome) -> SessionState:
    return replace(state, outcomes=state.outcomes | {event.violation: event.state})


def _norms(state: SessionState, event: events.Norms) -> SessionState:
    changed = {standing.norm: standing for standing in event.standings}
    return replace(state, standings=state.standings | changed)


def _unknown(state: SessionState, event: Unknown) -> SessionState:
    return replace(state, unknown=state.unknown | {event.type: state.unknown.get(event.type, 0) + 1})


def _unchanged(state: SessionState, _: AnyEvent) -> SessionState:
    return state


def _timed(handler: Callable[[SessionState, Any], SessionState]) -> Callable[[SessionState, Any], SessionState]:
    def timed(state: SessionState, event: Any) -> SessionState:
        state = handler(state, event)
        return replace(state, updated_at=event.ts)

    return timed


_PLAIN: dict[type, Callable[[SessionState, Any], SessionState]] = {
    events.RunStarted: _run_started,
    events.Phase: _phase,
    events.Metrics: _metrics,
    events.Progress: _progress,
    events.ViolationFound: _append("violations"),
    events.Proposal: _append("proposals"),
    events.Resolution: _append("resolutions"),
    events.Action: _action,
    events.Outcome: _outcome,
    events.Policy: _append("policies"),
    events.Norms: _norms,
    events.RequestRefused: _append("refused"),
    events.Checkpoint: _append("checkpoints"),
    events.Artifact: _append("artifacts"),
    events.Log: _log,
    events.Note: _append("notes"),
    events.Seal: _unchanged,
    events.RunFinished: _finished,
    events.SupervisorStarted: _supervisor_started,
    events.WorkerStarted: _unchanged,
    events.WorkerExited: _worker_exited,
    Unknown: _unknown,
}
_HANDLERS = {kind: _timed(handler) for kind, handler in _PLAIN.items()}
