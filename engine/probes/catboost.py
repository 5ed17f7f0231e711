"""CatBoost's data, parameters and metrics as signals. Free of CatBoost: it is told what happened."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from norms.signals import (
    Determinism,
    Evaluation,
    Generator,
    MetricCheck,
    Overlap,
    Preflight,
    Replay,
    Step,
)

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

ON_GPU = "CatBoost adds up in no fixed order on a GPU (catboost issue 1066)"


# --- before the fit ---------------------------------------------------------------------------------------------------


def named(found: Iterable[Overlap], prefix: str) -> tuple[Overlap, ...]:
    """Return the overlaps of a second splitting, whose parts are named with ``prefix``."""
    return tuple(replace(each, first=prefix + each.first, second=prefix + each.second) for each in found)


def preflight_of_run(parameters: Mapping[str, Any], total_steps: int, seed: int) -> Preflight:
    """Return what CatBoost's parameters promise: it draws from nothing but a generator of its own."""
    on_gpu = parameters.get("task_type") == "GPU"
    return Preflight(
        step=0,
        total_steps=total_steps,
        seed=seed,
        generators=(Generator(name="catboost", seeded=parameters.get("random_seed") is not None),),
        determinism=Determinism(promised=not on_gpu, by_design=ON_GPU if on_gpu else ""),
    )


def replay(fit: Callable[[], Sequence[float]], step: int = 0) -> Replay:
    """Return how far two fits are apart that should be the same.

    Args:
        fit: Makes its data ready, fits from the start, and returns the training loss of every iteration.
        step: Updates done by the run.
    """
    first, second = np.asarray(fit(), np.float64), np.asarray(fit(), np.float64)
    return Replay(step=step, steps=len(first), difference=largest_difference(first, second))


def largest_difference(first: Floats, second: Floats) -> float:
    """Return the largest relative difference; 0 is bit-equal, NaN where only one of the two is NaN."""
    if len(first) != len(second):
        return math.inf
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    if np.any(np.isnan(first) != np.isnan(second)):
        return math.nan
    scale = np.maximum(np.maximum(np.abs(first), np.abs(second)), np.finfo(np.float64).tiny)
    return float(np.nanmax(np.abs(first - second) / scale))


# --- while it fits ----------------------------------------------------------------------------------------------------


def step_of(step: int, stream: str, learn: Mapping[str, float], samples: int, lr: float, seconds: float | None) -> Step:
    """Return an iteration as a training step: every row takes part in it."""
    return Step(step=step, stream=stream, loss=learn["logloss"], samples=samples, lr=lr, seconds=seconds)


def validation_of(step: int, split: str, values: Mapping[str, float], shares: tuple[float, float]) -> Evaluation:
    """Return what CatBoost says of the validation rows; it scores all of them at every iteration.

    Args:
        step: Updates done.
        split: With the prefix of its fit.
        values: ``logloss`` and ``auc``.
        shares: Of the two classes among the labels.
    """
    return Evaluation(
        step=step,
        split=split,
        loss=values["logloss"],
        cross_entropy=values["logloss"],
        auc=values["auc"],
        class_shares=shares,
    )


# --- after the fit ----------------------------------------------------------------------------------------------------


def class_shares(target: Labels) -> tuple[float, float]:
    """Return the shares of no and yes."""
    positive = float(target.mean())
    return 1 - positive, positive


def judgement_of(
    step: int, split: str, reported: Mapping[str, float], target: Labels, probability: Floats
) -> Evaluation:
    """Return the final evaluation of a split, its reported figures computed once more from all predictions.

    Args:
        step: Updates done.
        split: With the prefix of its fit.
        reported: Figures as the run records them; auc, logloss and accuracy are computed again.
        target: [rows], 0 or 1.
        probability: [rows], predicted probability of 1.
    """
    own = {
        "auc": auc_of(target, probability),
        "logloss": logloss_of(target, probability),
        "accuracy": float(((probability >= 0.5) == (target == 1)).mean()),
    }
    predicted = float((probability >= 0.5).mean())
    return Evaluation(
        step=step,
        split=split,
        loss=reported.get("logloss"),
        cross_entropy=own["logloss"],
        accuracy=own["accuracy"],
        auc=own["auc"],
        class_shares=class_shares(target),
        predicted_shares=(1 - predicted, predicted),
        samples=len(probability),
        split_size=len(target),
        metrics=tuple(
            MetricCheck(name=name, reported=reported[name], recomputed=value)
            for name, value in own.items()
            if name in reported
        ),
    )


def auc_of(target: Labels, probability: Floats) -> float:
    """Return the area under the ROC curve, by ranks; ties count half."""
    _, ranks, rows = np.unique(probability, return_inverse=True, return_counts=True)
    hits = np.bincount(ranks, target == 1, minlength=len(rows))
    misses = rows - hits
    below = np.cumsum(misses) - misses
    pairs = hits.sum() * misses.sum()
    return float((hits * (below + misses / 2)).sum() / pairs) if pairs else math.nan


def logloss_of(target: Labels, probability: Floats) -> float:
    """Return the mean cross-entropy in nats."""
    smallest = np.finfo(np.float64).eps
    of_label = np.clip(np.where(target == 1, probability, 1 - probability), smallest, 1 - smallest)
    return float(-np.log(of_label).mean())
