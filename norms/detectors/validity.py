"""Validity: does the run train, and measure, what it says it does?"""

import math
from itertools import zip_longest

from norms.finding import Answer, Finding, Limits, counted, detects, evidence_of, listed, number, percent
from norms.signals import EpochEnd, Evaluation, LossInput, Preflight, RunEnd, Step, Update
from norms.windows import Windows


@detects("optimizer-coverage", Preflight)
def optimizer_coverage(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    if not signal.uncovered:
        return None if signal.uncovered is None else 0.0
    count = len(signal.uncovered)
    what = f"{counted(count, 'trainable parameter')} {'is' if count == 1 else 'are'} in no optimizer group"
    return Finding(
        value=float(count),
        message=f"{what}: {listed(signal.uncovered)}",
        evidence=evidence_of("parameters", signal.uncovered, most=None),
    )


@detects("no-update", Update)
def no_update(signal: Update, limits: Limits, windows: Windows) -> Answer:
    """NaN: a gradient or weight that holds any is not counted as "should change"; non-finite is its norm."""
    if signal.unchanged is None or signal.skipped:
        return None
    if not (stuck := windows.unchanged.lasting(limits["steps"])):
        return float(windows.unchanged.longest)
    facts = {fact.name: fact for fact in signal.unchanged}
    first, steps = next(iter(stuck)), max(stuck.values())
    worst = facts[first]
    return Finding(
        value=float(steps),
        message=(
            f"{counted(len(stuck), 'parameter')} did not change in {counted(steps, 'update')} despite a gradient: "
            f"{listed([*stuck])} ({first}: lr {number(worst.lr)}, largest gradient {number(worst.grad_max)})"
        ),
        evidence=evidence_of("parameters", [*stuck], most=None)
        | {"steps": steps, "lr": worst.lr, "grad_max": worst.grad_max, "weight_max": worst.weight_max},
    )


INTERMITTENT = 10
"""A parameter that had a gradient before (mixture of experts, layer drop) must lack it this many times as long."""


@detects("missing-grad", Step, aspect="parameters")
def missing_grad(signal: Step, limits: Limits, windows: Windows) -> Answer:
    if signal.missing_grad is None:
        return None
    if not (lost := windows.missing.lasting(limits["steps"], INTERMITTENT * limits["steps"])):
        return float(windows.missing.longest)
    steps = max(lost.values())
    return Finding(
        value=float(steps),
        message=f"{counted(len(lost), 'parameter')} had no gradient in {counted(steps, 'step')}: {listed([*lost])}",
        evidence=evidence_of("parameters", [*lost]) | {"steps": steps},
    )


@detects("missing-grad", Step, aspect="graph")
def stray_leaves(signal: Step, limits: Limits, windows: Windows) -> Answer:
    if signal.stray_leaves is None:
        return None
    steps = windows.stray_steps
    if steps < limits["steps"]:
        return float(steps)
    count = len(signal.stray_leaves)
    return Finding(
        value=float(steps),
        message=(
            f"{counted(count, 'tensor')} in the graph {'needs' if count == 1 else 'need'} a gradient and "
            f"{'is' if count == 1 else 'are'} in no parameters(): {listed(signal.stray_leaves)}"
        ),
        evidence=evidence_of("tensors", signal.stray_leaves) | {"steps": steps},
    )


@detects("eval-mode", Evaluation)
def eval_mode(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    """NaN: outputs that differ by NaN say nothing about the mode; not judged by them."""
    modules, buffers, difference = signal.in_training, signal.buffers_changed, signal.repeat_difference
    differs = difference is not None and difference > limits["difference"]
    if not (modules or buffers or differs):
        seen = difference is not None and not math.isnan(difference)
        return difference if seen else None if modules is None and buffers is None else 0.0
    told = []
    if modules:
        told.append(f"{counted(len(modules), 'module')} in training mode ({listed(modules)})")
    if buffers:
        told.append(f"{counted(len(buffers), 'buffer')} changed by it ({listed(buffers)})")
    if difference is not None and differs:
        told.append(f"two passes over one batch differ by {number(difference)}")
    return Finding(
        value=difference if difference is not None and differs else float(len(modules or buffers or ())),
        message=f"evaluation of {signal.split} with {', '.join(told)}",
        evidence=evidence_of("modules", modules or ())
        | {"buffers": list((buffers or ())[:20]), "difference": difference, "split": signal.split},
    )


@detects("train-mode", Step)
def train_mode(signal: Step, limits: Limits, windows: Windows) -> Answer:
    if signal.in_eval is None or signal.root_in_eval is None:
        return None
    steps = windows.eval_steps
    since = windows.eval_since
    epochs = 0.0 if signal.epoch is None or since is None else signal.epoch - since
    if steps < limits["steps"] or epochs < limits["epochs"]:
        return float(steps)
    modules = windows.left_in_eval
    root = "the model" if signal.root_in_eval else counted(len(modules), "module")
    return Finding(
        value=float(steps),
        message=f"{counted(steps, 'training step')} with {root} left in evaluation mode: {listed(modules)}",
        evidence=evidence_of("modules", modules, most=None) | {"steps": steps, "whole_model": signal.root_in_eval},
    )


@detects("split-overlap", Preflight)
def split_overlap(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    if signal.overlaps is None:
        return None
    worst = max((overlap for overlap in signal.overlaps if overlap.size), key=lambda o: o.count / o.size, default=None)
    if worst is None:
        return 0.0
    share = worst.count / worst.size
    if share <= limits["share"]:
        return share
    return Finding(
        value=share,
        message=(
            f"{counted(worst.count, 'sample')} of {worst.second} ({percent(share)} of {worst.size:,}) "
            f"{'is' if worst.count == 1 else 'are'} in {worst.first} too"
        ),
        evidence={
            "first": worst.first,
            "second": worst.second,
            "count": worst.count,
            "size": worst.size,
            "samples": list(worst.examples),
            "coarse": worst.coarse,
        },
        at_most="info" if worst.coarse and share <= limits["coarse_share"] else "critical",
    )


@detects("augmentation-leak", Preflight)
def random_evaluation_pipeline(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    found = signal.evaluation_random
    if not found:
        return None if found is None else 0.0
    return Finding(
        value=float(len(found)),
        message=f"evaluation goes through {counted(len(found), 'random transform')}: {listed(found)}",
        evidence=evidence_of("transforms", found),
    )


@detects("augmentation-leak", Evaluation)
def random_evaluation_inputs(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    again = signal.input_digest_again
    differs_now = again is not None and signal.input_digest is not None and again != signal.input_digest
    if signal.random_transforms:
        why = (
            f"through {counted(len(signal.random_transforms), 'random transform')}: {listed(signal.random_transforms)}"
        )
    elif differs_now:
        why = "on inputs that changed when they were drawn a second time"
    elif windows.changed_inputs:
        why = "on other inputs than the evaluation before it, of the same samples"
    else:
        return None if signal.input_digest is None and signal.random_transforms is None else 0.0
    return Finding(
        value=float(len(signal.random_transforms or (why,))),
        message=f"{signal.split} was evaluated {why}",
        evidence=evidence_of("transforms", signal.random_transforms or ())
        | {"split": signal.split, "digest": signal.input_digest, "digest_again": again},
    )


@detects("test-selection", Preflight, RunEnd)
def test_selection(signal: Preflight | RunEnd, limits: Limits, windows: Windows) -> Answer:
    if signal.selected_on is None or signal.reported_on is None:
        return None
    both = [split for split in signal.reported_on if split in signal.selected_on]
    if not both:
        return 0.0
    return Finding(
        value=float(len(both)),
        message=f"the figures reported are of {listed(both)}, which also chose the model",
        evidence={
            "splits": both,
            "selected_on": list(signal.selected_on),
            "reported_on": list(signal.reported_on),
        },
    )


@detects("feature-leak", Preflight)
def feature_leak(signal: Preflight, limits: Limits, windows: Windows) -> Answer:
    """NaN: an AUC that is none (a column without variation, one class) is passed over."""
    if not signal.features:
        return None
    aucs = {fact.name: fact.auc for fact in signal.features if fact.auc is not None and not math.isnan(fact.auc)}
    told = [fact.name for fact in signal.features if fact.post_outcome]
    telling = [name for name, auc in aucs.items() if auc > limits["auc"] and name not in told]
    best = max(aucs.values(), default=0.5)
    if not told and not telling:
        return best
    columns = told + telling
    drops = {fact.name: fact.auc_drop for fact in signal.features if fact.name in columns and fact.auc_drop is not None}
    reasons = []
    if told:
        reasons.append(f"{listed(told)} {'is' if len(told) == 1 else 'are'} known only after the outcome")
    if telling:
        reasons.append(", ".join(f"{name} alone has an AUC of {aucs[name]:.3f}" for name in telling[:3]))
    if drops:
        name, drop = max(drops.items(), key=lambda item: item[1])
        reasons.append(f"without {name} the model loses {drop:.3f} of AUC")
    return Finding(
        value=best,
        message="; ".join(reasons),
        evidence=evidence_of("columns", columns) | {"aucs": {name: aucs.get(name) for name in columns}, "drops": drops},
        at_most="critical" if told else "major",
    )


@detects("loss-contract", Step, limit=None)
def loss_contract(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN: inputs that hold any fit no rule here; non-finite is their norm."""
    if signal.loss_inputs is None:
        return None
    for facts in signal.loss_inputs:
        if (broken := _broken_contract(facts, limits["tolerance"])) is not None:
            return Finding(
                value=1.0,
                message=f"{facts.function} got {broken}",
                evidence={
                    "function": facts.function,
                    "input_shape": list(facts.input_shape),
                    "target_shape": list(facts.target_shape),
                    "row_sums": None if facts.row_sums is None else list(facts.row_sums),
                    "lowest": facts.lowest,
                    "highest": facts.highest,
                },
            )
    return 0.0


ENOUGH_LOGITS = 64
"""So many logits do not all fall into [0, 1], and spread over most of it, by chance."""


def _broken_contract(facts: LossInput, tolerance: float) -> str | None:
    low, high = (math.nan, math.nan) if facts.lowest is None or facts.highest is None else (facts.lowest, facts.highest)
    bounded = low >= 0 and high <= 1 + tolerance
    shape, rows = facts.input_shape, facts.row_sums
    if facts.function == "cross_entropy" and bounded and rows is not None and len(shape) > 1 and shape[1] > 1:
        if all(abs(row - 1) <= tolerance for row in rows):
            return "probabilities (every row sums to 1) where it expects logits: softmax is applied twice"
    elif facts.function == "nll_loss" and high > tolerance:
        return f"inputs up to {number(high)} where it expects log-probabilities, which are at most 0"
    elif facts.function == "binary_cross_entropy_with_logits" and bounded:
        count = math.prod(shape)
        if count >= ENOUGH_LOGITS and low < 0.25 and high > 0.75:
            return f"{count} inputs, all from 0 to 1, where it expects logits: sigmoid is applied twice"
    if facts.function not in ("cross_entropy", "nll_loss") and _crossed(shape, facts.target_shape):
        shapes = f"{list(shape)} and {list(facts.target_shape)}"
        return f"inputs and targets of shapes {shapes}: broadcasting compares each with every other"
    return None


def _crossed(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether the two broadcast to more elements than either has; one number for all is no mistake."""
    wide = [max(a, b) for a, b in zip_longest(reversed(first), reversed(second), fillvalue=1)]
    return math.prod(wide) > max(math.prod(first), math.prod(second))


@detects("zero-grad", Step)
def zero_grad(signal: Step, limits: Limits, windows: Windows) -> Answer:
    if signal.stale_gradients is None:
        return None
    steps = windows.stale_steps
    if steps < limits["steps"]:
        return float(steps)
    return Finding(
        value=float(steps),
        message=(
            f"backward added to gradients left from the update before, {counted(steps, 'step')} in a row, "
            f"in {counted(len(signal.stale_gradients), 'parameter')}: {listed(signal.stale_gradients)}"
        ),
        evidence=evidence_of("parameters", signal.stale_gradients) | {"steps": steps},
    )


@detects("grad-scale", Step, aspect="accumulation")
def accumulated_gradient(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN and 0: no ratio can be had; not judged."""
    ratio = signal.accumulated_ratio
    if ratio is None or not 0 < ratio < math.inf:
        return None
    off = max(ratio, 1 / ratio) - 1
    if off <= limits["off"]:
        return off
    return Finding(
        value=off,
        message=f"the accumulated gradient is {number(ratio)} times that of the same samples in one batch",
        evidence={"ratio": ratio},
    )


@detects("grad-scale", Step, aspect="clipping", limit=None)
def clipped_before_unscaling(signal: Step, limits: Limits, windows: Windows) -> Answer:
    if not signal.clipped_scaled:
        return None if signal.clipped_scaled is None else 0.0
    scale = "" if signal.loss_scale is None else f" of {number(signal.loss_scale)}"
    return Finding(
        value=1.0,
        message=f"gradients were clipped before the loss scale{scale} was taken out of them",
        evidence={"loss_scale": signal.loss_scale, "grad_norm": signal.grad_norm},
    )


CHANCE_ERRORS = 3
"""Standard errors within which an accuracy cannot be told from that of the most frequent class."""
SKEWED = 0.5
"""Share of a class from which predicting it alone may be right: what is at chance is told by the prior, or by AUC."""


@detects("at-chance", Evaluation)
def at_chance(signal: Evaluation, limits: Limits, windows: Windows) -> Answer:
    """NaN: no comparison with it holds, so the norm counts as kept; non-finite is its norm."""
    shares, loss = signal.class_shares, signal.cross_entropy
    if not shares or (loss is None and signal.predicted_shares is None):
        return None
    if signal.step < limits["steps"] or (signal.epoch is not None and signal.epoch < limits["epochs"]):
        return None
    entropy = -sum(share * math.log(share) for share in shares if share > 0)
    if not entropy > 0:
        return None
    predicted = max(signal.predicted_shares or (0.0,))
    ratio = predicted if loss is None else loss / entropy
    told = []
    if loss is not None and _guesses(signal, ratio, max(shares), limits):
        told.append(f"the cross-entropy, {number(loss)}, is {percent(ratio)} of that of guessing by the class shares")
    if _collapsed(signal, predicted, max(shares), limits):
        told.append(
            f"one class takes {percent(predicted)} of the predictions and at most {percent(max(shares))} of labels"
        )
    if not told:
        return ratio
    return Finding(
        value=ratio,
        message=f"on {signal.split}, after {counted(signal.step, 'update')}, {' and '.join(told)}",
        evidence={
            "split": signal.split,
            "cross_entropy": loss,
            "prior_entropy": entropy,
            "accuracy": signal.accuracy,
            "auc": signal.auc,
            "predicted": list(signal.predicted_shares or ()),
            "labels": list(shares),
        },
    )


def _guesses(signal: Evaluation, ratio: float, prior: float, limits: Limits) -> bool:
    if prior > SKEWED:
        return ratio >= 1 and (signal.auc is None or signal.auc <= limits["auc"])
    error = math.sqrt(prior * (1 - prior) / max(signal.samples or 1, 1))
    return ratio > limits["loss"] and (signal.accuracy is None or signal.accuracy <= prior + CHANCE_ERRORS * error)


def _collapsed(signal: Evaluation, predicted: float, prior: float, limits: Limits) -> bool:
    """A class with most of the labels may take most of the predictions: that is left to the loss."""
    learns = signal.accuracy is not None and signal.accuracy > prior + (1 - prior) / 4
    return prior <= SKEWED and predicted > limits["share"] and not learns


@detects("scheduler", EpochEnd, aspect="calls")
def scheduler_calls(signal: EpochEnd, limits: Limits, windows: Windows) -> Answer:
    calls, unit, updates = signal.scheduler_calls, signal.scheduler_unit, signal.updates
    if calls is None or unit is None or not updates:
        return None
    least, most = (1, 1) if unit == "epoch" else (updates, updates + signal.skipped)
    if least <= calls <= most:
        return 1.0
    off = calls / most if calls > most else least / calls if calls else math.inf
    if off < limits["times"]:
        return off
    return Finding(
        value=off,
        message=f"the scheduler counts in {unit}s and was called {counted(calls, 'time')} where {least:,} were due",
        evidence={"calls": calls, "due": least, "unit": unit, "updates": updates},
    )


@detects("scheduler", Step, aspect="floor", limit="floor")
def learning_rate_floor(signal: Step, limits: Limits, windows: Windows) -> Answer:
    """NaN: a learning rate of NaN makes the weights NaN, which is non-finite's; not judged."""
    lr, total = signal.lr, windows.total_steps
    if lr is None or total is None or math.isnan(lr):
        return None
    if lr >= limits["floor"] or 2 * signal.step > total or windows.peak_lr < limits["floor"]:
        return lr
    return Finding(
        value=lr,
        message=(
            f"the learning rate has fallen from {number(windows.peak_lr)} to {number(lr)} at step {signal.step:,} "
            f"of {total:,}"
        ),
        evidence={"lr": lr, "peak_lr": windows.peak_lr, "total_steps": total},
    )
