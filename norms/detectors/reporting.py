"""Reporting: do the figures say what they seem to say?"""

import math

from norms.finding import Answer, Finding, Limits, counted, detects, number
from norms.signals import Evaluation, MetricCheck, RunEnd
from norms.windows import Windows


@detects("metric-aggregation", Evaluation)
def metric_aggregation(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    """NaN: where both are NaN they agree; where one is, they do not."""
    samples, size = signal.samples, signal.split_size
    left_out = abs(samples - size) / size if samples is not None and size else None
    if left_out is None and not signal.metrics:
        return None
    worst = max(signal.metrics or (), key=_difference, default=None)
    difference = 0.0 if worst is None else _difference(worst)
    told = []
    if worst is not None and difference > limits["difference"]:
        told.append(f"{worst.name} is reported as {worst.reported:.6g} and is {worst.recomputed:.6g} over all samples")
    if left_out is not None and left_out > limits["difference"]:
        told.append(f"the metrics count {samples:,} samples of {size:,}")
    value = max(difference, left_out or 0.0)
    if not told:
        return value
    return Finding(
        value=value,
        message=f"on {signal.split}, {' and '.join(told)}",
        evidence={
            "split": signal.split,
            "metrics": [
                {"name": check.name, "reported": check.reported, "recomputed": check.recomputed}
                for check in signal.metrics or ()
                if _difference(check) > limits["difference"]
            ],
            "samples": samples,
            "split_size": size,
        },
    )


def _difference(check: MetricCheck) -> float:
    """Return how far apart the two are, relative to values above 1: a loss of 10 is no metric of percentages."""
    if math.isnan(check.reported) or math.isnan(check.recomputed):
        return 0.0 if math.isnan(check.reported) and math.isnan(check.recomputed) else math.inf
    if check.reported == check.recomputed:  # two infinities too
        return 0.0
    return abs(check.reported - check.recomputed) / max(1.0, abs(check.recomputed))


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


@detects("promotion-gate", RunEnd)
def promotion_gate(signal: RunEnd, limits: Limits, windows: Windows) -> Answer:
    """NaN: an accuracy or a calibration error that cannot be had does not pass."""
    candidate = signal.candidate
    if candidate is None:
        return None
    told = []
    if not candidate.ece <= limits["ece"]:
        told.append(f"a calibration error of {number(candidate.ece)} (at most {number(limits['ece'])})")
    if not candidate.accuracy >= limits["accuracy"]:
        told.append(f"an accuracy of {number(candidate.accuracy)} (at least {number(limits['accuracy'])})")
    if not told:
        return candidate.ece
    return Finding(
        value=candidate.ece,
        message=f"the model may not be promoted with {' and '.join(told)} on {candidate.split}",
        evidence={"split": candidate.split, "ece": candidate.ece, "accuracy": candidate.accuracy},
    )
