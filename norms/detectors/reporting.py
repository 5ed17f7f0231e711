"""Reporting: do the figures say what they seem to say?"""

import math

from norms.finding import Answer, Finding, Limits, counted, detects, number, percent
from norms.signals import Evaluation, MetricCheck, RunEnd
from norms.windows import Windows


@detects("metric-aggregation", Evaluation, aspect="value")
def metric_recomputed(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    """NaN: where both are NaN they agree; where one is, they do not."""
    if not signal.metrics:
        return None
    worst = max(signal.metrics, key=_difference)
    difference = _difference(worst)
    if difference <= limits["difference"]:
        return difference
    return Finding(
        value=difference,
        message=(
            f"{worst.name} on {signal.split} is reported as {worst.reported:.6g} and is {worst.recomputed:.6g} "
            "over all predictions"
        ),
        evidence={
            "split": signal.split,
            "metrics": [
                {"name": check.name, "reported": check.reported, "recomputed": check.recomputed}
                for check in signal.metrics
                if _difference(check) > limits["difference"]
            ],
        },
    )


def _difference(check: MetricCheck) -> float:
    """Return how far apart the two are, relative to values above 1: a loss of 10 is no metric of percentages."""
    if math.isnan(check.reported) or math.isnan(check.recomputed):
        return 0.0 if math.isnan(check.reported) and math.isnan(check.recomputed) else math.inf
    if check.reported == check.recomputed:  # two infinities too
        return 0.0
    return abs(check.reported - check.recomputed) / max(1.0, abs(check.recomputed))


@detects("metric-aggregation", Evaluation, aspect="count")
def metric_count(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    counted_in, size = signal.samples, signal.split_size
    if counted_in is None or not size:
        return None
    off = abs(counted_in - size) / size
    if off <= limits["difference"]:
        return off
    return Finding(
        value=off,
        message=f"the metrics on {signal.split} count {counted_in:,} samples, and the split has {size:,}",
        evidence={"split": signal.split, "samples": counted_in, "split_size": size},
    )


@detects("single-run", RunEnd)
def single_run(signal: RunEnd, limits: Limits, windows: Windows) -> Answer:
    if not signal.claims:
        return None
    needs_interval = limits["interval"] > 0
    weak = [
        claim for claim in signal.claims if claim.seeds < limits["seeds"] or (needs_interval and not claim.interval)
    ]
    fewest = min(claim.seeds for claim in signal.claims)
    if not weak:
        return float(fewest)
    claim = min(weak, key=lambda claim: claim.seeds)
    needed = int(limits["seeds"])
    without = " and gives no interval" if needs_interval and not claim.interval else ""
    return Finding(
        value=float(claim.seeds),
        message=f"“{claim.text}” rests on {counted(claim.seeds, 'seed')} of {needed}{without}",
        evidence={
            "claim": claim.text,
            "seeds": claim.seeds,
            "needed": needed,
            "missing": max(0, needed - claim.seeds) or None,
            "interval": claim.interval,
            "count": len(weak),
        },
    )


@detects("promotion-gate", RunEnd, aspect="calibration", limit="ece")
def calibration_gate(signal: RunEnd, limits: Limits, windows: Windows) -> Answer:
    """NaN: a calibration error that cannot be had does not pass."""
    candidate = signal.candidate
    if candidate is None:
        return None
    if candidate.ece <= limits["ece"]:
        return candidate.ece
    return Finding(
        value=candidate.ece,
        message=(
            f"the expected calibration error on {candidate.split} is {number(candidate.ece)}, "
            f"and a promoted model may have {number(limits['ece'])}"
        ),
        evidence={"split": candidate.split, "ece": candidate.ece, "accuracy": candidate.accuracy},
    )


@detects("promotion-gate", RunEnd, aspect="accuracy", limit="accuracy")
def accuracy_gate(signal: RunEnd, limits: Limits, windows: Windows) -> Answer:
    """NaN: an accuracy that cannot be had does not pass."""
    candidate = signal.candidate
    if candidate is None:
        return None
    if candidate.accuracy >= limits["accuracy"]:
        return candidate.accuracy
    return Finding(
        value=candidate.accuracy,
        message=(
            f"accuracy on {candidate.split} is {percent(candidate.accuracy)}, "
            f"and a promoted model needs {percent(limits['accuracy'])}"
        ),
        evidence={"split": candidate.split, "ece": candidate.ece, "accuracy": candidate.accuracy},
    )
