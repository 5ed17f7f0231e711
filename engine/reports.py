"""What a run leaves beside its model: its result with intervals, its cohorts, its times, and whether it is promoted.

artifacts/result.json   metrics, seeds, the claim and what it rests on: of every completed run
artifacts/drift.json    accuracy, precision, recall and calibration by cohort, with drift.cohorts
artifacts/sla.json      mean and percentiles of phases that are held to times, with sla.phases
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from configs.load import digest
from configs.schema import AnyConfig, Local, Norms, Promotion, Sla
from engine.intervals import CONFIDENCE, bootstrapped, interquartile_mean, wilson
from engine.promotion import promote
from engine.watch import Watch
from norms.judge import Judged
from norms.signals import Candidate, Cohort, PhaseTime, RunEnd, Timings
from sessions.codec import spell
from sessions.events import Json, Verdict
from sessions.files import PRIVATE_DIR, write_atomic
from sessions.paths import SessionPaths

RESULT, DRIFT, SLA = "result.json", "drift.json", "sla.json"
ECE_RESAMPLES = 200
HEADLINES = ("test/auc", "test/accuracy")
"""What a claim is about: the first of these that the run has."""
QUANTILES = 4
"""Cohorts of a column of numbers."""
MOST_VALUES = 20
"""Cohorts of a column of words, the most frequent ones."""


def judge_end(
    watch: Watch,
    config: AnyConfig,
    end: RunEnd,
    *,
    cohorts: "Sequence[CohortReport]" = (),
    model: Path | None = None,
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Have the end of a run judged, and write its reports but for the result; promote the model if that is asked for.

    Args:
        watch: Judges, and records what is written.
        config: As the run ended.
        end: What the workload knows; its candidate is judged only where the configuration asks for promotion.
        cohorts: The reference first.
        model: The file that asks to be promoted.
        metrics: The model's figures, for its report.

    Raises:
        StorageError: A report, or the promoted model, cannot be written.
    """
    if config.sla.phases:
        times = phase_times(watch.phase_times, config.sla.phases)
        watch.feed(Timings(step=end.step, phases=times))
        _write(watch, SLA, {"phases": [structs.asdict(each) for each in times]})
    asks = config.promotion.enabled and model is not None
    if not asks:
        end = structs.replace(end, candidate=None)
    judged = watch.feed(structs.replace(end, cohorts=tuple(each.cohort for each in cohorts) or None))
    if cohorts:
        _write(watch, DRIFT, {"cohorts": [each.content() for each in cohorts], "found": _found(judged, "drift")})
    if asks and model is not None and end.candidate is not None:
        _gate(watch, config, model, end.candidate, judged, metrics or {})


def _found(judged: Judged, norm: str) -> list[str]:
    return [violation.message for violation in judged.violations if violation.norm == norm]


def _write(watch: Watch, name: str, content: Json) -> None:
    path = watch.paths.artifacts / name
    path.parent.mkdir(mode=PRIVATE_DIR, exist_ok=True)
    write_atomic(path, json.dumps(spell(content), indent=2, allow_nan=False).encode() + b"\n")
    watch.artifact(path, "report")


def _gate(
    watch: Watch, config: AnyConfig, model: Path, candidate: Candidate, judged: Judged, metrics: Mapping[str, float]
) -> None:
    """Put the model under current/ where the norm lets it; a run that is not judged makes candidates only."""
    objections = (
        _found(judged, "promotion-gate") if config.norms.enabled else ["norms.enabled=false: nothing was judged"]
    )
    name = f"{config.workload}-{Path(config.data).stem}"
    report = {
        "name": name,
        "split": candidate.split,
        "accuracy": candidate.accuracy,
        "ece": candidate.ece,
        "objections": objections,
        "muted": "promotion-gate" in watch.verdict().overridden or "promotion-gate" in config.norms.muted,
        "regime": config.regime,
        "metrics": dict(metrics),
    }
    target = promote(model, Path(config.promotion.folder), name, watch.paths.run_id, good=not objections, report=report)
    why = f"kept as a candidate ({'; '.join(objections)})" if objections else "promoted"
    watch.log("info", f"{model.name} is {why}: {target}")


# --- times ------------------------------------------------------------------------------------------------------------


def phase_times(times: Mapping[str, Sequence[float]], phases: Sequence[str]) -> tuple[PhaseTime, ...]:
    """Return the times of phases, in milliseconds; those that were never run are left out.

    Args:
        times: Seconds that each phase took, every time.
        phases: Names of phases, and ``step`` where steps were timed.
    """
    found = []
    for phase in phases:
        if taken := times.get(phase):
            milliseconds = 1000 * np.asarray(taken, np.float64)
            p95, p99 = np.percentile(milliseconds, [95, 99]).tolist()
            found.append(
                PhaseTime(phase=phase, count=len(taken), mean_ms=float(milliseconds.mean()), p95_ms=p95, p99_ms=p99)
            )
    return tuple(found)


# --- cohorts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CohortReport:
    """A cohort's rates, each with its 95% interval."""

    cohort: Cohort
    intervals: dict[str, tuple[float, float]]

    def content(self) -> Json:
        """Return it for JSON."""
        rates = ("accuracy", "precision", "recall", "ece")
        values = {name: getattr(self.cohort, name) for name in rates}
        return {
            "name": self.cohort.name,
            "rows": self.cohort.rows,
            "predicted": self.cohort.predicted,
            "positives": self.cohort.positives,
            **{name: {"value": value, "interval": self.intervals.get(name)} for name, value in values.items()},
        }


def cohorts_of(
    columns: Mapping[str, NDArray[Any]], target: NDArray[np.int8], probability: NDArray[np.float64], threshold: float
) -> list[CohortReport]:
    """Return how good predictions are on all rows and, after that, on each cohort; none where no column is named.

    Args:
        columns: [rows] each. Words are a cohort a value, numbers one a quarter.
        target: [rows], 0 or 1.
        probability: [rows], predicted probability of 1.
        threshold: From which precision and recall count a row as predicted positive; accuracy decides at 0.5.
    """
    if not columns:
        return []
    groups = [("all", np.ones(len(target), np.bool_))]
    for name, values in columns.items():
        groups += [(f"{name} {label}", rows) for label, rows in _groups(values)]
    return [_cohort(name, target[rows], probability[rows], threshold) for name, rows in groups]


def _groups(values: NDArray[Any]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    if values.dtype.kind not in "iuf":
        words, counts = np.unique(values.astype(str), return_counts=True)
        for word in words[np.argsort(-counts, kind="stable")][:MOST_VALUES].tolist():
            yield str(word), values.astype(str) == word
        return
    edges = np.unique(np.quantile(values, np.linspace(0, 1, QUANTILES + 1)))
    if len(edges) == 1:
        edges = np.repeat(edges, 2)
    for i, (low, high) in enumerate(pairwise(edges.tolist())):
        rows = (values >= low if i == 0 else values > low) & (values <= high)
        yield f"{'from' if i == 0 else 'above'} {low:g} to {high:g}", rows


def _cohort(name: str, target: NDArray[np.int8], probability: NDArray[np.float64], threshold: float) -> CohortReport:
    from engine.workloads.scores import expected_calibration_error

    positive, predicted = target == 1, probability >= threshold
    right = int(((probability >= 0.5) == positive).sum())
    hits = int((positive & predicted).sum())
    bases = {
        "accuracy": (right, len(target)),
        "precision": (hits, int(predicted.sum())),
        "recall": (hits, int(positive.sum())),
    }
    rates = {rate: found / count for rate, (found, count) in bases.items() if count}
    intervals = {rate: wilson(found, count) for rate, (found, count) in bases.items() if count}
    ece = None
    if len(target):
        ece = expected_calibration_error(target, probability)
        intervals["ece"] = _ece_interval(target, probability)
    cohort = Cohort(
        name=name, rows=len(target), predicted=int(predicted.sum()), positives=int(positive.sum()), ece=ece, **rates
    )
    return CohortReport(cohort, intervals)


def _ece_interval(target: NDArray[np.int8], probability: NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95% bootstrap interval over rows."""
    from engine.workloads.scores import expected_calibration_error

    generator = np.random.default_rng(0)
    drawn = (generator.integers(len(target), size=len(target)) for _ in range(ECE_RESAMPLES))
    found = [expected_calibration_error(target[rows], probability[rows]) for rows in drawn]
    low, high = np.quantile(found, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


# --- the result -------------------------------------------------------------------------------------------------------


def write_result(watch: Watch, config: AnyConfig, summary: Json) -> None:
    """Write what a completed run found, once its claim has been judged.

    Runs beside it that differ in nothing but their seed count with it, as the further seeds of a claim do.

    Args:
        watch: Knows how the claim was judged.
        config: As the run ended.
        summary: What the workload returned; numbers in it, at any depth, are metrics: ``{"test": {"auc": …}}``.

    Raises:
        StorageError: It cannot be written.
    """
    _write(watch, RESULT, result_of(watch.paths, config, summary, watch.verdict()))


def result_of(paths: SessionPaths, config: AnyConfig, summary: Json, verdict: Verdict) -> Json:
    """Return the content of result.json."""
    metrics = {name: value for name, value in _numbers(summary) if not name.startswith("data/")}
    group = group_of(config)
    runs: dict[str, Json] = {paths.run_id: {"seed": config.seed, "metrics": metrics}} | _others(
        paths, group, config.seed
    )
    over_runs = _over_runs(metrics, [run["metrics"] for run in runs.values()])
    headline = next((name for name in HEADLINES if name in metrics), None)
    return {
        "run": paths.run_id,
        "workload": config.workload,
        "data": config.data,
        "seed": config.seed,
        "group": group,
        "metrics": metrics,
        "seeds": sorted(run["seed"] for run in runs.values()),
        "runs": sorted(runs),
        "over_runs": over_runs,
        "claim": {
            "text": config.claim,
            "metric": headline,
            "seeds": len(runs),
            "interval": over_runs.get(headline or "", {}).get("interval"),
            "supported": _supported(verdict),
        }
        if config.claim
        else None,
        "written": datetime.now(UTC).isoformat(),
    }


def _supported(verdict: Verdict) -> bool | None:
    """Whether the claim rests on enough; None where nobody judged it."""
    if "single-run" in verdict.kept:
        return True
    return False if "single-run" in (*verdict.broken, *verdict.overridden) else None


def _over_runs(own: Mapping[str, float], runs: Sequence[Mapping[str, float]]) -> Json:
    """Return interquartile mean and interval of each metric that all of the runs have; nothing for a single run."""
    if len(runs) < 2:
        return {}
    shared = [name for name in own if all(name in metrics for metrics in runs)]
    return {name: _over(np.array([metrics[name] for metrics in runs], np.float64)) for name in shared}


def _over(values: NDArray[np.float64]) -> Json:
    return {
        "interquartile_mean": float(interquartile_mean(values)),
        "interval": bootstrapped(values),
        "confidence": CONFIDENCE,
        "values": values.tolist(),
    }


def group_of(config: AnyConfig) -> str:
    """Return what is equal for runs that should give the same, but for their seed."""
    defaults: dict[str, Any] = {
        "seed": 0,
        "tags": [],
        "claim": "",
        "approve": "ask",
        "norms": Norms(),
        "promotion": Promotion(),
        "sla": Sla(),
        "launcher": Local(),
    }
    return digest(structs.replace(config, **defaults))


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + name, value


def _others(paths: SessionPaths, group: str, seed: int) -> dict[str, Json]:
    """Return the results of runs beside this one, the newest of each other seed."""
    found: dict[int, tuple[str, str, Json]] = {}
    for path in paths.root.parent.glob(f"*/artifacts/{RESULT}"):
        run_id = path.parent.parent.name
        if run_id == paths.run_id or (content := _readable(path)) is None or content.get("group") != group:
            continue
        written, its_seed = str(content["written"]), int(content["seed"])
        if its_seed != seed and (its_seed not in found or found[its_seed][0] < written):
            found[its_seed] = (written, run_id, content)
    return {run_id: {"seed": its, "metrics": _floats(content)} for its, (_, run_id, content) in sorted(found.items())}


def _readable(path: Path) -> Json | None:
    """Return a result; None for what is none (a run that is being removed, a file of another kind)."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and {"group", "seed", "metrics", "written"} <= content.keys() else None


def _floats(content: Json) -> dict[str, float]:
    return {name: float(value) for name, value in content["metrics"].items()}  # "nan" is read as what it was
