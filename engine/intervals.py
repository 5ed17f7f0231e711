"""How sure a figure is: intervals for shares, and for a mean over a few runs. numpy only."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
_Z = 1.959963984540054
RESAMPLES = 2000
FEWEST_RUNS = 3
"""Of two runs a bootstrap can only give the two values themselves."""


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share (Wilson 1927), within 0 and 1 for small counts too; of none, [0, 1]."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    spread = _Z * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    middle, scale = share + _Z**2 / (2 * count), 1 + _Z**2 / count
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def interquartile_mean(values: Floats) -> float:
    """Return the mean of the middle half, along the last axis [..., n], as rliable takes it over runs."""
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    middle = ordered[..., cut : values.shape[-1] - cut]
    return middle.mean(axis=-1)  # type: ignore[no-any-return]


def bootstrapped(values: Floats, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95% percentile bootstrap interval of the interquartile mean of runs [n]; None for too few of them."""
    if len(values) < FEWEST_RUNS or not np.isfinite(values).all():
        return None
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = interquartile_mean(values[drawn])
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
