"""Signals that break a norm, and signals that only seem to, with what each regime makes of them."""

from tests.norms.cases.building import Case
from tests.norms.cases.data import DATA
from tests.norms.cases.operations import OPERATIONS
from tests.norms.cases.reporting import REPORTING
from tests.norms.cases.reproducibility import REPRODUCIBILITY
from tests.norms.cases.stability import STABILITY
from tests.norms.cases.validity import VALIDITY

__all__ = ["CASES", "WITHOUT_NUMBERS", "Case"]

CASES = [*VALIDITY, *DATA, *STABILITY, *REPRODUCIBILITY, *REPORTING, *OPERATIONS]

WITHOUT_NUMBERS = {
    ("optimizer-coverage", ""), ("missing-grad", "parameters"), ("missing-grad", "graph"), ("train-mode", ""),
    ("split-overlap", ""), ("augmentation-leak", ""), ("test-selection", ""), ("zero-grad", ""),
    ("grad-scale", "clipping"), ("scheduler", "calls"), ("checkpoint-integrity", ""), ("seeding", ""),
    ("determinism", "promise"), ("worker-rng", ""), ("reshuffle", ""), ("provenance", ""),
    ("single-run", ""), ("resources", "memory"), ("resources", "disk"),
}  # fmt: skip
"""Judged by names, counts, digests and flags alone: nothing in them can be NaN."""
