"""Stability: does training stay on its feet, and can it be put back there?"""

import math

from norms.finding import Answer, Finding, Limits, counted, detects, evidence_of, listed, number, percent
from norms.signals import CheckpointSaved, EpochEnd, Evaluation, Step, Update
from norms.windows import WINDOW, Track, Windows

CALIBRATION_SKIPS = 24
"""Skips that a gradient scaler may need before its first update: from 65,536 it halves 16 times down to 1."""


@detects("non-finite", Step, aspect="gradients")
def non_finite_gradients(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN is what it looks for. Overflow of gradients under a scaler, at a finite loss, is counted: some is normal."""
    loss, norm = signal.loss, signal.grad_norm
    if loss is None and norm is None and signal.non_finite is None:
        return None
    bad_loss = loss is not None and not math.isfinite(loss)
    bad_gradient = bool(signal.non_finite) or (norm is not None and not math.isfinite(norm))
    if not bad_loss and not bad_gradient:
        return 0.0
    skips = windows.overflows
    if not bad_loss and signal.loss_scale is not None:
        allowed = limits["skips"] if windows.finite_steps else max(limits["skips"], CALIBRATION_SKIPS)
        if skips < allowed:
            return float(skips)
        what = f"gradients overflowed in {counted(skips, 'step')} in a row at a loss scale of {signal.loss_scale:g}"
    else:
        what = f"the loss is {loss}" if bad_loss else f"the gradient norm is {norm}"
        what = "gradients are not finite" if not bad_loss and norm is None else what
    layers = f", in {listed(signal.non_finite)}" if signal.non_finite else ""
    return Finding(
        value=float(max(skips, 1)),
        message=f"{what} at step {signal.step:,}{layers}",
        evidence=evidence_of("parameters", signal.non_finite or ())
        | {
            "loss": loss,
            "grad_norm": norm,
            "lr": signal.lr,
            "loss_scale": signal.loss_scale,
            "skips": skips,
            "losses_before": list(windows.recent_losses),
            "samples": list(signal.batch or ()),
        },
    )


@detects("non-finite", Update, aspect="weights", limit=None)
def non_finite_weights(signal: Update, limits: Limits, windows: Windows) -> Answer:
    """NaN is what it looks for."""
    if not signal.non_finite:
        return None if signal.non_finite is None else 0.0
    return Finding(
        value=float(len(signal.non_finite)),
        message=(
            f"{counted(len(signal.non_finite), 'parameter')} held NaN or infinity after update {signal.step:,}: "
            f"{listed(signal.non_finite)}"
        ),
        evidence=evidence_of("parameters", signal.non_finite),
    )


@detects("non-finite", Evaluation, aspect="evaluation", limit=None)
def non_finite_evaluation(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    """NaN is what it looks for."""
    if signal.loss is None:
        return None
    if math.isfinite(signal.loss):
        return 0.0
    return Finding(
        value=1.0,
        message=f"the loss on {signal.split} is {signal.loss}",
        evidence={"loss": signal.loss, "split": signal.split},
    )


@detects("spike", Step)
def spike(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN and infinity: the windows pass them over (no sigmas); non-finite is their norm."""
    loss, gradient = windows.loss, windows.grad_norm
    if (sigmas := _highest(loss.sigmas, gradient.sigmas)) is None:
        return None
    if not (_far(loss, limits) or _far(gradient, limits)):
        return sigmas
    found = [(name, track) for name, track in (("loss", loss), ("gradient norm", gradient)) if _far(track, limits)]
    told = [
        f"the {name} is {number(track.value or 0.0)}, {number(track.sigmas or 0.0)} sigmas above the last {WINDOW} "
        f"steps ({number(track.typical)}, at most {number(track.highest)})"
        for name, track in found
    ]
    return Finding(
        value=sigmas,
        message=f"at step {signal.step:,} {' and '.join(told)}",
        evidence={
            "series": [
                {
                    "name": name,
                    "value": track.value,
                    "sigmas": track.sigmas,
                    "typical": track.typical,
                    "highest": track.highest,
                }
                for name, track in found
            ],
            "lr": signal.lr,
            "samples": list(signal.batch or ()),
        },
    )


def _highest(first: float | None, second: float | None) -> float | None:
    if first is None or second is None:
        return second if first is None else first
    return first if first > second else second


def _far(track: Track, limits: Limits) -> bool:
    value, sigmas = track.value, track.sigmas
    if value is None or sigmas is None:
        return False
    if not track.positive:
        return sigmas > limits["sigma"]
    return value > limits["times"] * track.typical and (
        sigmas > limits["sigma"] or value > limits["highest"] * track.highest
    )


@detects("update-ratio", Update)
def update_ratio(signal: Update, limits: Limits, windows: Windows) -> Answer:
    """NaN: the window passes it over; non-finite is its norm. Three measurements in a row must be too large."""
    if signal.ratio is None or signal.skipped or len(windows.ratios) < 3 or not math.isfinite(signal.ratio):
        return None
    least = min(windows.ratios)
    if least <= limits["ratio"]:
        return least
    return Finding(
        value=least,
        message=(
            f"updates change the weights by {percent(least)} of their norm or more, three measurements in a row "
            f"(the last by {percent(signal.ratio)})"
        ),
        evidence={"ratios": list(windows.ratios)},
    )


@detects("vanishing-gradient", Step)
def vanishing_gradient(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN (a last layer without gradient): neither small nor large, so it counts as not vanished."""
    if signal.gradient_ratio is None or signal.small_gradients is None:
        return None
    seen = windows.gradients
    if len(seen) < (seen.maxlen or 0):
        return None
    vanished = sum(ratio < limits["ratio"] and small >= limits["small"] for ratio, small in seen)
    share = vanished / len(seen)
    if share < limits["share"]:
        return share
    return Finding(
        value=share,
        message=(
            f"the first layer's gradient is {number(signal.gradient_ratio)} of the last one's, and was below "
            f"{number(limits['ratio'])} in {vanished} of {len(seen)} measurements"
        ),
        evidence={
            "gradient_ratio": signal.gradient_ratio,
            "small_gradients": signal.small_gradients,
            "vanished": vanished,
            "measured": len(seen),
        },
    )


@detects("dead-units", EpochEnd)
def dead_units(signal: EpochEnd, limits: Limits, windows: Windows) -> Answer:
    if signal.units is None:
        return None
    judged = [
        layer
        for layer in signal.units
        if layer.units and layer.samples >= limits["samples"] and not (layer.zero_input or 0) > limits["zero_input"]
    ]
    if not judged:
        return None
    worst = max(judged, key=lambda layer: layer.dead / layer.units)
    share = worst.dead / worst.units
    if share <= limits["share"]:
        return share
    over = [layer for layer in judged if layer.dead / layer.units > limits["share"]]
    return Finding(
        value=share,
        message=(
            f"{worst.dead} of {worst.units} units of {worst.layer} ({percent(share)}) were active for none of "
            f"{worst.samples:,} samples"
        ),
        evidence={
            "layers": [{"layer": layer.layer, "units": layer.units, "dead": layer.dead} for layer in over[:20]],
            "count": len(over),
        },
    )


PARTS = ("model", "optimizer")
"""What a checkpoint must hold to be one at all."""


@detects("checkpoint-integrity", CheckpointSaved, limit=None)
def checkpoint_integrity(signal: CheckpointSaved, limits: Limits, windows: Windows) -> Answer:
    """``demands``: 1 model and optimizer, 2 all that the run has, 3 a replay that is bit-equal as well."""
    facts = (signal.contents, signal.hash_matches, signal.best_is_copy)
    if all(fact is None for fact in facts) and signal.replay_equal is None:
        return None
    demands = limits["demands"]
    missing: list[str] = []
    if signal.contents is not None:
        needed = PARTS if demands < 2 else signal.expected or PARTS
        missing = [part for part in needed if part not in signal.contents]
    faults = []
    if missing:
        faults.append(f"lacks {listed(missing, 8)}")
    if signal.hash_matches is False:
        faults.append("does not have the SHA-256 in its manifest")
    if signal.best_is_copy is False:
        faults.append("keeps the live weights as the best ones, which later updates will overwrite")
    if demands >= 3 and signal.replay_equal is False:
        faults.append("does not replay bit-equal")
    if not faults:
        return 0.0
    return Finding(
        value=float(len(faults)),
        message=f"checkpoint {signal.path} {' and '.join(faults)}",
        evidence={
            "path": signal.path,
            "missing": missing,
            "contents": None if signal.contents is None else list(signal.contents),
            "hash_matches": signal.hash_matches,
            "best_is_copy": signal.best_is_copy,
            "replay_equal": signal.replay_equal,
        },
    )
