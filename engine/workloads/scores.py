"""How good predicted probabilities of a binary target are: ranking, decisions and calibration."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int8]

CALIBRATION_BINS = 15


def scores(target: Labels, probability: Floats, threshold: float) -> dict[str, float]:
    """Return AUC, logloss, accuracy, F1, ECE and Brier score.

    Args:
        target: [rows], 0 or 1, both present.
        probability: [rows], predicted probability of 1.
        threshold: Probability from which F1 counts a row as predicted positive; choose it with ``best_f1_threshold`` on
            validation rows, never on the rows that are scored here as a test. Accuracy decides at 0.5.
    """
    from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score

    return {
        "auc": float(roc_auc_score(target, probability)),
        "logloss": float(log_loss(target, probability)),
        "accuracy": float(accuracy_score(target, probability >= 0.5)),
        "f1": float(f1_score(target, probability >= threshold)),
        "ece": expected_calibration_error(target, probability),
        "brier": float(brier_score_loss(target, probability)),
    }


def best_f1_threshold(target: Labels, probability: Floats) -> float:
    """Return the predicted probability that, as a threshold, gives the highest F1 on these rows."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(target, probability)
    precision, recall = precision[:-1], recall[:-1]  # the last point belongs to no threshold
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(np.float64).tiny)
    return float(thresholds[np.argmax(f1)])


def calibration(target: Labels, probability: Floats, bins: int = CALIBRATION_BINS) -> list[dict[str, float]]:
    """Return the reliability table: for each bin of equal width that holds rows, how sure and how right it is."""
    index = np.minimum((probability * bins).astype(np.int64), bins - 1)
    rows = np.bincount(index, minlength=bins)
    predicted = np.bincount(index, weights=probability, minlength=bins)
    positive = np.bincount(index, weights=target, minlength=bins)
    return [
        {
            "low": i / bins,
            "high": (i + 1) / bins,
            "rows": int(rows[i]),
            "predicted": float(predicted[i] / rows[i]),
            "observed": float(positive[i] / rows[i]),
        }
        for i in map(int, np.flatnonzero(rows))
    ]


def expected_calibration_error(target: Labels, probability: Floats, bins: int = CALIBRATION_BINS) -> float:
    """Return the mean distance, weighted by rows, between predicted and observed share of positives in a bin.

    The bins are of equal width over the probability of class 1 (Naeini et al. 2015, for a binary target).
    """
    table = calibration(target, probability, bins)
    return sum(row["rows"] * abs(row["predicted"] - row["observed"]) for row in table) / len(target)
