"""From predictions to what an evaluation is judged by: every figure computed once more, from all of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from norms.signals import MetricCheck


class Evaluated(NamedTuple):
    """What an evaluation of a classifier found."""

    scores: dict[str, float]
    """As they are reported, by name; ``loss`` and ``accuracy`` are computed again from the predictions."""
    logits: NDArray[np.floating[Any]]
    """[n, classes], logarithms of probabilities up to a constant a row."""
    labels: NDArray[np.integer[Any]]
    """[n], from 0."""
    split_size: int | None = None
    """Samples of the split; None where a part of it was meant."""


def facts(found: Evaluated) -> dict[str, Any]:
    """Return fields of norms.signals.Evaluation: loss, accuracy, shares, and the reported figures beside our own."""
    logits, labels = found.logits.astype(np.float64), found.labels
    rows, classes = logits.shape
    if not rows:
        return {"samples": 0, "split_size": found.split_size}
    predicted = logits.argmax(1)
    with np.errstate(invalid="ignore", over="ignore"):  # a model that has diverged gives NaN here, as it should
        losses = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(rows), labels]
    own = {"loss": float(losses.mean()), "accuracy": float((predicted == labels).mean())}
    return {
        "loss": found.scores.get("loss"),
        "cross_entropy": own["loss"],
        "accuracy": own["accuracy"],
        "class_shares": _shares(labels, classes),
        "predicted_shares": _shares(predicted, classes),
        "samples": rows,
        "split_size": found.split_size,
        "metrics": _checks(found.scores, own),
    }


def _shares(values: NDArray[np.integer[Any]], classes: int) -> tuple[float, ...]:
    return tuple((np.bincount(values, minlength=classes) / len(values)).tolist())


def _checks(reported: Mapping[str, float], own: Mapping[str, float]) -> tuple[MetricCheck, ...]:
    return tuple(
        MetricCheck(name=name, reported=reported[name], recomputed=value)
        for name, value in own.items()
        if name in reported
    )
