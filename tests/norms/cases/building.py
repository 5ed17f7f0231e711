"""How cases are written: short ways to make signals."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from norms.signals import (
    AnySignal,
    Candidate,
    CheckpointSaved,
    Claim,
    Cohort,
    EpochEnd,
    Evaluation,
    Generator,
    LayerUnits,
    LossInput,
    PhaseTime,
    Preflight,
    Resources,
    RunEnd,
    Step,
    Timings,
    Unchanged,
    Update,
)
from sessions.events import Severity

Kind = Literal["broken", "healthy", "nan"]
NAN, INF = math.nan, math.inf
Expected = tuple[Severity | None, Severity | None, Severity | None]
KEPT: Expected = (None, None, None)


class Case(NamedTuple):
    norm: str
    aspect: str
    what: str
    signals: Sequence[AnySignal]
    expected: Expected
    """The severity in strict, balanced and exploratory; None where the norm must be kept."""
    kind: Kind = "broken"


def everywhere(severity: Severity, exploratory: Severity | None = None) -> Expected:
    """Broken in every regime; in exploratory possibly of a lighter severity."""
    return (severity, severity, exploratory or severity)


def not_exploratory(severity: Severity) -> Expected:
    return (severity, severity, None)


def strict_only(severity: Severity) -> Expected:
    return (severity, None, None)


def steps(count: int, start: int = 1, **facts: Any) -> list[Step]:
    """Return steps with the same facts; a callable is given the step's number."""
    return [
        Step(step=i, **{name: fact(i) if callable(fact) else fact for name, fact in facts.items()})
        for i in range(start, start + count)
    ]


def updates(count: int, start: int = 1, **facts: Any) -> list[Update]:
    return [Update(step=i, **facts) for i in range(start, start + count)]


def preflight(**facts: Any) -> list[Preflight]:
    return [Preflight(step=0, **facts)]


def evaluation(split: str = "val", step: int = 1000, epoch: float | None = 20.0, **facts: Any) -> Evaluation:
    return Evaluation(split=split, step=step, epoch=epoch, **facts)


def noisy(i: int, level: float = 1.0, spread: float = 0.2) -> float:
    """Return a positive value around ``level`` whose logarithm swings by ``spread``, without a random generator."""
    return level * math.exp(spread * math.sin(i * 2.39996))


def stuck(lr: float = 0.1, grad_max: float = 0.5, weight_max: float = 1.0) -> tuple[Unchanged, ...]:
    return (Unchanged(name="head.weight", lr=lr, grad_max=grad_max, weight_max=weight_max),)


def loss_input(function: str, inputs: tuple[int, ...], targets: tuple[int, ...], **facts: Any) -> dict[str, Any]:
    return {"loss_inputs": (LossInput(function=function, input_shape=inputs, target_shape=targets, **facts),)}


TEN = (0.1,) * 10
MOSTLY_ONE = (0.6, *(0.4 / 9,) * 9)
NEARLY_ONE = (0.97, *(0.03 / 9,) * 9)
SKEWED = (0.883, 0.117)
SOFTMAX = {"row_sums": (0.99999, 1.00001), "lowest": 0.001, "highest": 0.9}
LOGITS = {"row_sums": (-3.0, 4.0), "lowest": -5.0, "highest": 6.0}
PARTS = ("model", "optimizer", "scheduler", "rng_torch", "sampler", "step")
CALM_STEPS = steps(100, loss=noisy, grad_norm=noisy)


def checkpoint(**facts: Any) -> list[CheckpointSaved]:
    return [CheckpointSaved(step=10, path="checkpoints/step-00000010", **facts)]


def epochs(*facts: dict[str, Any]) -> list[EpochEnd]:
    return [EpochEnd(step=100 * i, epoch=float(i), **each) for i, each in enumerate(facts, 1)]


def units(dead: int, samples: int = 1000, zero_input: float | None = None) -> dict[str, Any]:
    return {"units": (LayerUnits(layer="fc1", units=100, dead=dead, samples=samples, zero_input=zero_input),)}


def generators(*unseeded: str) -> tuple[Generator, ...]:
    return tuple(Generator(name=name, seeded=name not in unseeded) for name in ("python", "numpy", "torch", "loader"))


def candidate(accuracy: float, ece: float) -> list[RunEnd]:
    return [RunEnd(step=9, candidate=Candidate(split="test", accuracy=accuracy, ece=ece))]


def claims(seeds: int, interval: bool) -> list[RunEnd]:
    return [RunEnd(step=9, claims=(Claim(text="B beats A", seeds=seeds, interval=interval),))]


def timings(**times: float) -> list[Timings]:
    usual = {"count": 200, "mean_ms": 50.0, "p95_ms": 100.0, "p99_ms": 200.0}
    return [Timings(step=9, phases=(PhaseTime(phase="checkpoint", **(usual | times)),))]  # type: ignore[arg-type]


def cohorts(accuracy: float, rows: int = 5000, **facts: Any) -> list[RunEnd]:
    reference = Cohort(name="all", rows=20_000, accuracy=0.9, recall=0.5, positives=2000, ece=0.01)
    return [RunEnd(step=9, cohorts=(reference, Cohort(name="newest", rows=rows, accuracy=accuracy, **facts)))]


def looks(count: int, **facts: Any) -> list[Resources]:
    return [
        Resources(step=i, **{k: fact(i) if callable(fact) else fact for k, fact in facts.items()}) for i in range(count)
    ]
