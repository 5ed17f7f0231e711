"""Defects planted on purpose in a CatBoost run: real ones, in the path that the run takes anyway."""

import random
from collections.abc import Sequence
from pathlib import Path

from engine.workloads.catboost_snapshots import Writer
from sessions.files import write_atomic

PLANTED = {
    "nondeterminism": "columns are handed to CatBoost in another order at every start",
    "checkpoint_incomplete": "copies of the snapshot lose their second half",
}
"""By ``violation``: what is done, for the record. ``reporting_single_run`` is a claim in its configuration file."""


class ColumnOrder:
    """In what order columns are handed to CatBoost, which breaks ties and draws noise in that order.

    Args:
        planted: ``nondeterminism`` gives every start an order of its own, as a set of names has in every process.
    """

    def __init__(self, planted: str) -> None:
        self._drawn = planted == "nondeterminism"
        self._seed: int | None = None

    def reseed(self, seed: int) -> None:
        """Draw from this seed at every start from now on."""
        self._seed = seed

    def __call__(self, columns: Sequence[str]) -> list[str]:
        if not self._drawn:
            return list(columns)
        generator = random.Random(self._seed)  # without a seed it starts from the entropy of the system
        return generator.sample(columns, len(columns))


def snapshot_writer(planted: str) -> Writer:
    """Return what copies snapshots; ``checkpoint_incomplete`` loses their second half, as a full buffer would."""
    return _write_half if planted == "checkpoint_incomplete" else write_atomic


def _write_half(path: Path, content: bytes) -> None:
    write_atomic(path, content[: len(content) // 2])
