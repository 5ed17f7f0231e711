"""What the judging of a healthy step costs, with every fact of every norm seen at every step.

``PYTHONPATH=.:tests/bench python tests/norms/bench_norms.py [--quick]``
"""

import statistics
import sys
import time

from table import Row, markdown

from norms.judge import Judge
from norms.norm import REGIMES
from norms.signals import Step, Update
from tests.norms.test_healthy import STEPS, run

LIMIT_MICROSECONDS = 30


def rows(quick: bool) -> list[Row]:
    n = 3 if quick else 9
    signals = list(run(seed=0))
    steps = sum(isinstance(signal, Step) for signal in signals)
    assert steps == STEPS and sum(isinstance(signal, Update) for signal in signals) == STEPS
    found = []
    for regime in REGIMES:
        taken = statistics.median(_seconds(regime, signals) for _ in range(n)) / steps * 1e6
        name = f"judging a healthy step, {regime}, all facts seen"
        found.append(Row(name, taken, LIMIT_MICROSECONDS, "µs", "limit", n, "≤ 30 µs", "lower"))
    return found


def _seconds(regime: str, signals: list[object]) -> float:
    judge = Judge(regime)  # type: ignore[arg-type]
    started = time.perf_counter()
    for signal in signals:
        judge.feed(signal)  # type: ignore[arg-type]
    return time.perf_counter() - started


if __name__ == "__main__":
    print(markdown(rows(quick="--quick" in sys.argv)))
