"""The vocabulary: everything that can stand in events.jsonl and supervisor.jsonl.

A line is one JSON object told apart by ``type``. Its envelope is ``v`` (schema version), ``seq`` (from 0, without gaps
in its file) and ``ts`` (UTC). Fields may be added to a type; a reader lets fields and types that it does not know pass.
Steps are counted from 1 and epochs from 1: ``step`` n is the state after n updates.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct, field

SCHEMA_VERSION = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Moment = Annotated[datetime, Meta(tz=True)]
"""A time that says its zone."""
Severity = Literal["info", "minor", "major", "critical"]
Split = Literal["train", "val", "test", "probe", "system"]
SPLITS: tuple[str, ...] = get_args(Split)
Json = dict[str, Any]
"""A JSON object. In it the strings "nan", "inf" and "-inf" stand for the floats of that name."""


class Event(Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """The envelope. ``seq`` and ``ts`` are stamped by the log (sessions/log.py); -1 and EPOCH mean "not yet".

    Events hold JSON data, which has no cycles: gc=False keeps the collector off a million of them.
    """

    v: int = SCHEMA_VERSION
    seq: int = -1
    ts: Moment = EPOCH


# --- events.jsonl: written by the worker ------------------------------------------------------------------------------


class RunStarted(Event, tag="run_started", frozen=True, kw_only=True):
    run_id: str
    name: str
    workload: str
    mode: str
    regime: str
    violation: str
    seed: int
    config_digest: str
    attempt: int
    host: str
    pid: int
    job_id: str | None = None
    resumed_from: str | None = None
    total_steps: int | None = None
    total_epochs: int | None = None
    tags: list[str] = field(default_factory=list)


class Phase(Event, tag="phase", frozen=True, kw_only=True):
    phase: str
    state: Literal["start", "end"]
    epoch: int | None = None
    seconds: float | None = None


class Metrics(Event, tag="metrics", frozen=True, kw_only=True):
    step: int
    epoch: float | None = None
    split: str
    values: dict[str, float]


class Progress(Event, tag="progress", frozen=True, kw_only=True):
    step: int
    epoch: float | None = None
    samples_per_second: float | None = None
    eta_seconds: float | None = None


class ViolationFound(Event, tag="violation", frozen=True, kw_only=True):
    id: str
    norm: str
    category: str
    severity: Severity
    step: int
    epoch: float | None = None
    message: str
    evidence: Json = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)


class Alternative(Struct, frozen=True, kw_only=True):
    action: str
    params: Json = field(default_factory=dict)
    effect: str = ""
    reversible: bool = False


class Proposal(Event, tag="proposal", frozen=True, kw_only=True):
    id: str
    violations: list[str]
    action: str
    params: Json = field(default_factory=dict)
    alternatives: list[Alternative] = field(default_factory=list)
    rationale: str = ""
    hold: Literal["pause", "continue"]
    deadline: Moment | None = None
    on_timeout: str | None = None


class Resolution(Event, tag="resolution", frozen=True, kw_only=True):
    proposal: str
    verdict: Literal["approved", "overridden", "rejected", "timed_out", "by_policy"]
    action: str
    params: Json = field(default_factory=dict)
    by: str
    via: Literal["tui", "cli", "policy"]
    reason: str | None = None
    waited_seconds: float | None = None


class Action(Event, tag="action", frozen=True, kw_only=True):
    id: str
    proposal: str | None = None
    action: str
    params: Json = field(default_factory=dict)
    state: Literal["started", "done", "failed"]
    step: int
    effect: Json | None = None
    error: str | None = None


class Outcome(Event, tag="outcome", frozen=True, kw_only=True):
    violation: str
    state: Literal["cured", "persists", "recurred"]
    step: int


class Policy(Event, tag="policy", frozen=True, kw_only=True):
    """An answer that a person wants remembered: what is to be done whenever this norm is broken again."""

    norm: str
    verdict: Literal["approved", "overridden", "rejected"]
    action: str
    """"" for rejected, and for approved where whatever is recommended is meant."""
    params: Json = field(default_factory=dict)
    by: str
    scope: Literal["run", "sweep"] = "run"


class Standing(Struct, frozen=True, kw_only=True):
    """How a norm stands; one that has not been judged yet and is not muted is left out."""

    norm: str
    state: Literal["kept", "broken", "cured", "muted"]
    value: float | None = None
    """The newest live value; of what is broken, where something is."""
    limit: float | None = None
    """What stands beside it; 0 where none may be found."""
    repeats: int = 0
    """How often it was found broken."""


class Norms(Event, tag="norms", frozen=True, kw_only=True):
    """How the norms stand: those that have changed since the last such event, in the catalogue's order."""

    step: int
    standings: list[Standing]


class RequestRefused(Event, tag="request_refused", frozen=True, kw_only=True):
    request: str
    why: str


class Checkpoint(Event, tag="checkpoint", frozen=True, kw_only=True):
    path: str
    step: int
    epoch: float | None = None
    sha256: str
    bytes: int
    kinds: list[Literal["best", "last", "periodic", "safety"]]
    complete: bool
    metrics: dict[str, float] = field(default_factory=dict)


class Artifact(Event, tag="artifact", frozen=True, kw_only=True):
    path: str
    kind: str
    sha256: str


class Log(Event, tag="log", frozen=True, kw_only=True):
    level: Literal["debug", "info", "warning", "error"]
    source: str
    text: str


class Note(Event, tag="note", frozen=True, kw_only=True):
    text: str
    by: str
    step: int | None = None


class Seal(Event, tag="seal", frozen=True, kw_only=True):
    upto_seq: int
    count: int
    root: str
    previous: str | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """Norm ids that were kept, broken, and broken but overridden by a person."""

    kept: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    overridden: list[str] = field(default_factory=list)


class RunFinished(Event, tag="run_finished", frozen=True, kw_only=True):
    status: Literal["completed", "stopped", "failed", "crashed"]
    reason: str
    exit_code: int
    summary: Json = field(default_factory=dict)
    verdict: Verdict = Verdict()


# --- supervisor.jsonl: written by the supervisor ----------------------------------------------------------------------


class SupervisorStarted(Event, tag="supervisor_started", frozen=True, kw_only=True):
    host: str
    pid: int


class WorkerStarted(Event, tag="worker_started", frozen=True, kw_only=True):
    pid: int
    attempt: int


class WorkerExited(Event, tag="worker_exited", frozen=True, kw_only=True):
    """``exit_code`` is None where a signal ended the worker; ``signal`` is then its name."""

    pid: int
    attempt: int
    exit_code: int | None
    signal: str | None = None
    clean: bool
    """Whether the worker wrote run_finished before it left."""


RunEvent = (
    RunStarted
    | Phase
    | Metrics
    | Progress
    | ViolationFound
    | Proposal
    | Resolution
    | Action
    | Outcome
    | Policy
    | Norms
    | RequestRefused
    | Checkpoint
    | Artifact
    | Log
    | Note
    | Seal
    | RunFinished
)
SupervisorEvent = SupervisorStarted | WorkerStarted | WorkerExited
AnyEvent = RunEvent | SupervisorEvent


class Unknown(Struct, frozen=True, kw_only=True):
    """An event of a type that this version does not know: kept, and shown as itself."""

    type: str
    seq: int
    ts: datetime
    fields: Json
