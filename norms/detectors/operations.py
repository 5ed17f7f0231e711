"""Operations: does it run as it should, and does the model hold wherever it is used?"""

import math
from collections.abc import Iterator

from norms.finding import Answer, Finding, Limits, detects, number, percent
from norms.signals import Cohort, PhaseTime, Resources, RunEnd, Step, Timings
from norms.windows import Windows

FEWEST = {"mean_ms": 1, "p95_ms": 20, "p99_ms": 100}
"""Times that a phase must have been run for its mean and percentiles to mean something."""


@detects("sla", Timings)
def sla(signal: Timings, limits: Limits, windows: Windows) -> Answer:
    """NaN: a time that is none is within no limit and over none; not judged."""
    if not signal.phases:
        return None
    found = [item for phase in signal.phases for item in _used(phase, limits)]
    if not found:
        return None
    used, phase, name = max(found, key=lambda item: item[0])
    if used <= 1:
        return used
    taken = getattr(phase, name)
    return Finding(
        value=used,
        message=(
            f"the {name.removesuffix('_ms')} of {phase.phase} is {number(taken)} ms over {phase.count:,} times; "
            f"{number(limits[name])} ms are agreed"
        ),
        evidence={
            "phase": phase.phase,
            "count": phase.count,
            "mean_ms": phase.mean_ms,
            "p95_ms": phase.p95_ms,
            "p99_ms": phase.p99_ms,
        },
    )


def _used(phase: PhaseTime, limits: Limits) -> Iterator[tuple[float, PhaseTime, str]]:
    """Yield each time of a phase that can be judged, as a share of what is agreed."""
    for name, fewest in FEWEST.items():
        taken = getattr(phase, name)
        if phase.count >= fewest and not math.isnan(taken):
            yield taken / limits[name], phase, name


@detects("drift", RunEnd)
def drift(signal: RunEnd, limits: Limits, windows: Windows) -> Answer:
    """NaN: a rate that is none is compared with nothing."""
    if not signal.cohorts or len(signal.cohorts) < 2:
        return None
    reference, *others = signal.cohorts
    found = [item for cohort in others for item in _drops(reference, cohort)]
    if not found:
        return None
    worst = max((drop for drop, *_ in found), default=0.0)
    far = [item for item in found if item[0] > limits["points"] and item[1] > limits["errors"]]
    if not far:
        return worst
    drop, _, cohort, name = max(far, key=lambda item: item[0])
    before, after = getattr(reference, name), getattr(cohort, name)
    return Finding(
        value=drop,
        message=(
            f"{name} is {number(after)} on {cohort.name} ({cohort.rows:,} rows) and {number(before)} on "
            f"{reference.name}: {100 * drop:.1f} points worse"
        ),
        evidence={
            "reference": reference.name,
            "found": [
                {"cohort": other.name, "metric": metric, "drop": points, "standard_errors": errors}
                for points, errors, other, metric in far
            ],
        },
    )


def _drops(reference: Cohort, cohort: Cohort) -> Iterator[tuple[float, float, Cohort, str]]:
    """Yield how much worse each rate is, in absolute terms and in standard errors of the difference."""
    bases = (("accuracy", "rows"), ("precision", "predicted"), ("recall", "positives"))
    for name, base in bases:
        before, after = getattr(reference, name), getattr(cohort, name)
        n_before, n_after = getattr(reference, base), getattr(cohort, base)
        if None in (before, after) or not n_before or not n_after or math.isnan(before - after):
            continue
        pooled = (before * n_before + after * n_after) / (n_before + n_after)
        error = math.sqrt(pooled * (1 - pooled) * (1 / n_before + 1 / n_after))
        yield before - after, (before - after) / error if error else math.inf, cohort, name
    if reference.ece is not None and cohort.ece is not None and not math.isnan(reference.ece - cohort.ece):
        rows = min(reference.rows, cohort.rows)  # a bin's error is at most that of one half
        yield cohort.ece - reference.ece, (cohort.ece - reference.ece) * 2 * math.sqrt(max(rows, 1)), cohort, "ece"


@detects("resources", Step, Resources, aspect="gap", limit="gap_seconds")
def step_gap(signal: Step | Resources, limits: Limits, windows: Windows) -> Answer:
    """NaN: a clock that gives none is not judged."""
    seconds = signal.seconds if isinstance(signal, Step) else signal.idle_seconds
    if seconds is None or math.isnan(seconds):
        return None
    if seconds <= limits["gap_seconds"]:
        return seconds
    sigmas = windows.seconds.sigmas_of(seconds)
    if sigmas is None:  # nobody knows yet how long a step takes
        return None
    if sigmas <= limits["gap_sigma"]:
        return seconds
    usual = windows.seconds.typical
    return Finding(
        value=seconds,
        message=f"no step for {seconds:,.0f} s; one usually takes {number(usual)} s",
        evidence={"seconds": seconds, "usual": usual},
        at_most="minor",
    )


@detects("resources", Resources, aspect="memory", limit="memory_growth")
def memory_growth(signal: Resources, limits: Limits, windows: Windows) -> Answer:
    late, early = windows.memory.late, windows.memory.early
    if signal.memory_bytes is None or late is None or not early:
        return None
    growth = late / early - 1
    if growth <= limits["memory_growth"]:
        return growth
    return Finding(
        value=growth,
        message=(
            f"memory has grown by {percent(growth)}: at least {late / 1e9:.2f} GB lately, at most "
            f"{early / 1e9:.2f} GB in the run's first minutes"
        ),
        evidence={"early_bytes": early, "late_bytes": late},
        at_most="minor",
    )


@detects("resources", Resources, aspect="disk", limit="disk_checkpoints")
def free_disk(signal: Resources, limits: Limits, windows: Windows) -> Answer:
    free, size = signal.disk_free_bytes, signal.checkpoint_bytes
    if free is None or not size:
        return None
    fit = free / size
    if fit >= limits["disk_checkpoints"]:
        return fit
    return Finding(
        value=fit,
        message=f"{free / 1e9:.2f} GB are free, room for {number(fit)} checkpoints of {size / 1e9:.2f} GB",
        evidence={"free_bytes": free, "checkpoint_bytes": size},
    )


@detects("resources", Resources, aspect="gpu", limit="gpu_busy")
def idle_gpu(signal: Resources, limits: Limits, windows: Windows) -> Answer:
    """NaN: the mean of the window is NaN, over no limit and under none; kept."""
    looks = windows.gpu_busy
    if signal.gpu_busy is None or not signal.training or len(looks) < (looks.maxlen or 0):
        return None
    busy = sum(looks) / len(looks)
    if not busy < limits["gpu_busy"]:
        return busy
    return Finding(
        value=busy,
        message=f"the GPU was busy {percent(busy)} of the time while training, over {len(looks)} looks",
        evidence={"busy": busy, "looks": list(looks)},
        at_most="minor",
    )
