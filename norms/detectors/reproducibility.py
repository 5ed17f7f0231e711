"""Reproducibility: would the same run give the same result again?"""

import math

from norms.finding import Answer, Finding, Limits, counted, detects, evidence_of, listed, number
from norms.signals import EpochEnd, Preflight, Replay
from norms.windows import Windows


@detects("seeding", Preflight, limit=None)
def seeding(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    if signal.generators is None:
        return None
    unseeded = [generator.name for generator in signal.generators if not generator.seeded]
    if not unseeded or (limits["recorded_is_enough"] and signal.seed is not None):
        return float(len(unseeded))
    return Finding(
        value=float(len(unseeded)),
        message=f"the run draws from random generators that it has not seeded: {listed(unseeded, 5)}",
        evidence=evidence_of("generators", unseeded) | {"seed": signal.seed},
    )


@detects("determinism", Preflight, aspect="promise", limit=None)
def determinism_promised(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    """What is not promised may still hold: a replay tells, this only labels."""
    facts = signal.determinism
    if facts is None:
        return None
    if facts.promised:
        return 0.0
    why = facts.by_design or f"{listed(facts.missing, 5)} {'is' if len(facts.missing) == 1 else 'are'} not set"
    return Finding(
        value=1.0,
        message=f"nothing promises that this run could be repeated bit for bit: {why}",
        evidence=evidence_of("missing", facts.missing) | {"by_design": facts.by_design},
        at_most="info",
    )


@detects("determinism", Replay, aspect="replay")
def determinism_replayed(signal: Replay, limits: Limits, windows: Windows) -> Answer:
    """NaN: one of the two runs came to NaN and the other did not, so they differ."""
    difference = signal.difference
    if difference is None:
        return None
    if difference <= limits["difference"]:
        return difference
    unlike = "one came to NaN and the other did not" if math.isnan(difference) else f"by {number(difference)}"
    return Finding(
        value=difference,
        message=f"{counted(signal.steps, 'step')} done twice from one snapshot differ: {unlike}",
        evidence={"steps": signal.steps, "difference": difference},
    )


@detects("worker-rng", EpochEnd)
def worker_rng(signal: EpochEnd, limits: Limits, windows: Windows) -> Answer:
    draws = signal.worker_draws
    if not draws:
        return None
    alike = len(draws) - len(set(draws)) + (1 if len(set(draws)) < len(draws) else 0)
    repeated = windows.repeated_draws
    share = max(alike, repeated) / len(draws)
    if share <= limits["share"]:
        return share
    if alike >= repeated:
        what = f"{alike} of {len(draws)} loader workers drew random numbers that another drew too"
    elif len(draws) == 1:
        what = "the augmentation drew the random numbers of the epoch before again"
    else:
        what = f"{repeated} of {len(draws)} loader workers drew the random numbers of the epoch before again"
    return Finding(
        value=share,
        message=what,
        evidence={"workers": len(draws), "alike": alike, "repeated": repeated, "digests": list(draws[:20])},
    )


@detects("reshuffle", EpochEnd)
def reshuffle(signal: EpochEnd, limits: Limits, windows: Windows) -> Answer:
    if signal.order_digest is None:
        return None
    epochs = windows.same_order
    if epochs < limits["epochs"]:
        return float(epochs)
    return Finding(
        value=float(epochs),
        message=f"{counted(epochs, 'epoch')} in a row went through the samples in one and the same order",
        evidence={"epochs": epochs, "order_digest": signal.order_digest},
    )


@detects("provenance", Preflight, limit=None)
def provenance(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    """``demands``: 1 code and configuration, 2 all of it."""
    facts = signal.provenance
    if facts is None:
        return None
    known: dict[str, str | int | None] = {"code": facts.code, "configuration": facts.config}
    if limits["demands"] >= 2:
        known |= {"uncommitted changes": facts.patch, "packages": facts.packages, "data": facts.data}
    missing = [name for name, fact in known.items() if fact is None]
    if not missing:
        return 0.0
    return Finding(
        value=float(len(missing)),
        message=f"not on record, and not to be had later: {listed(missing, 5)}",
        evidence={"missing": missing},
    )
