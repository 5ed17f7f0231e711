"""Metric columns: every value of every metric, in arrays that a chart can draw from without a copy.

Metrics that are recorded together share their step, epoch and time columns (a *block*), so that 1,000,000 steps of 20
metrics take 184 MB and not 640.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sessions.events import Metrics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FIRST_CAPACITY = 256
_LOWER_IS_BETTER = ("loss", "error", "ece", "brier", "nll", "perplexity", "mse", "mae", "rmse")
_SETTINGS = frozenset({"scale", "weight", "coef"})
_HIGHER_IS_BETTER = frozenset(
    {"acc", "accuracy", "auc", "auroc", "ap", "map", "bleu", "dice", "f1", "iou", "precision", "r2", "recall", "score"}
)


class Column(NamedTuple):
    """One metric, in the order it was recorded; the arrays are views, all of shape (n,), and must not be written."""

    steps: Floats
    """Whole numbers, as floats like the rest."""
    epochs: Floats
    """NaN where no epoch was given."""
    times: Floats
    """Seconds since 1970, UTC."""
    values: Floats


class Point(NamedTuple):
    step: int
    value: float


@dataclass
class _Block:
    names: tuple[str, ...]
    size: int
    index: Floats  # (3, capacity): step, epoch, time
    values: Floats  # (len(names), capacity)

    def extend(self, rows: list[Metrics]) -> None:
        start, end = self.size, self.size + len(rows)
        if end > self.values.shape[1]:
            capacity = max(end, self.values.shape[1] * 3 // 2)
            self.index = _grown(self.index, capacity)
            self.values = _grown(self.values, capacity)
        self.index[0, start:end] = [event.step for event in rows]
        self.index[1, start:end] = [math.nan if event.epoch is None else event.epoch for event in rows]
        self.index[2, start:end] = [event.ts.timestamp() for event in rows]
        self.values[:, start:end] = np.array([tuple(event.values.values()) for event in rows]).T
        self.size = end


def _grown(array: Floats, capacity: int) -> Floats:
    larger = np.empty((array.shape[0], capacity))
    larger[:, : array.shape[1]] = array
    return larger


class Series:
    """The metric columns of one session, filled from its events."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[str, tuple[str, ...]], _Block] = {}
        self._of_metric: dict[tuple[str, str], list[_Block]] = {}
        self.version = 0
        """Changes with every extension: what was drawn from an equal version is still true."""

    def extend(self, groups: Iterable[list[Metrics]]) -> None:
        """Take in events that came after those taken in before; all of a group have the same split and names."""
        for rows in groups:
            self._block(rows[0].split, tuple(rows[0].values)).extend(rows)
            self.version += 1

    def _block(self, split: str, names: tuple[str, ...]) -> _Block:
        block = self._blocks.get((split, names))
        if block is None:
            block = _Block(names, 0, np.empty((3, _FIRST_CAPACITY)), np.empty((len(names), _FIRST_CAPACITY)))
            self._blocks[split, names] = block
            for name in names:
                self._of_metric.setdefault((split, name), []).append(block)
        return block

    def metrics(self) -> Iterator[tuple[str, str]]:
        """Yield (split, name) of every metric, in the order of first appearance."""
        yield from self._of_metric

    def column(self, split: str, name: str) -> Column:
        """Return all values of a metric.

        Raises:
            KeyError: There is no such metric.
        """
        parts = [
            (block.index[:, : block.size], block.values[block.names.index(name), : block.size])
            for block in self._of_metric[split, name]
        ]
        index, values = parts[0]
        if len(parts) > 1:
            index = np.concatenate([part[0] for part in parts], axis=1)
            values = np.concatenate([part[1] for part in parts])
            order = np.lexsort((index[2], index[0]))  # by step, then by time
            index, values = index[:, order], values[order]
        return Column(index[0], index[1], index[2], values)

    def last(self, split: str, name: str) -> Point:
        column = self.column(split, name)
        return Point(int(column.steps[-1]), float(column.values[-1]))

    def best(self, split: str, name: str) -> Point | None:
        """Return the best finite value; None where none is finite, or where better has no meaning for the name."""
        direction = better(name)
        column = self.column(split, name)
        finite = np.flatnonzero(np.isfinite(column.values))
        if direction is None or not finite.size:
            return None
        values = column.values[finite]
        at = finite[np.argmin(values) if direction == "lower" else np.argmax(values)]
        return Point(int(column.steps[at]), float(column.values[at]))


def better(name: str) -> Literal["lower", "higher"] | None:
    """Return which way a metric of this name is better, by its words; None for what is no result (a learning rate)."""
    words = re.split(r"[^a-z0-9]+", name.lower())
    if not _SETTINGS.isdisjoint(words):  # loss_scale is no loss
        return None
    if any(word.endswith(_LOWER_IS_BETTER) for word in words):
        return "lower"
    return "higher" if not _HIGHER_IS_BETTER.isdisjoint(words) else None


def thin(values: Floats, buckets: int) -> Ints:
    """Return the indices of the lowest and the highest finite value in each of ``buckets`` stretches, in order.

    What is drawn from these has the same outline as what is drawn from all n values, at 2 * ``buckets`` points. NaN
    and infinities are left out; a stretch of nothing else has no index.
    """
    if len(values) <= 2 * buckets:
        return np.flatnonzero(np.isfinite(values))
    width = -(-len(values) // buckets)
    finite = np.isfinite(values)
    chosen = np.concatenate(
        [
            _per_stretch(np.where(finite, values, np.inf), width, np.argmin),
            _per_stretch(np.where(finite, values, -np.inf), width, np.argmax),
        ]
    )
    return np.unique(chosen[finite[chosen]])


def _per_stretch(values: Floats, width: int, pick: Callable[..., Ints]) -> Ints:
    whole = len(values) // width
    at = pick(values[: whole * width].reshape(whole, width), axis=1) + np.arange(whole) * width
    rest = values[whole * width :]
    return np.append(at, whole * width + pick(rest)) if rest.size else at
