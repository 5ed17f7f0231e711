"""One row of the table of figures, and how it is printed."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """A figure of ours beside that of a peer, or a limit, taken in the same run; both medians of ``n``."""

    name: str
    ours: float
    peer: float
    unit: str
    peer_name: str
    n: int
    goal: str
    better: Literal["higher", "lower"]

    @property
    def ratio(self) -> float:
        """How many times better ours is than the peer's; below 1 is worse."""
        return self.ours / self.peer if self.better == "higher" else self.peer / self.ours


def markdown(rows: list[Row]) -> str:
    lines = ["| what | ours | beside it | times better | n | goal |", "|---|---:|---:|---:|---:|---|"]
    for row in rows:
        peer = f"{row.peer:.4g} {row.unit} ({row.peer_name})"
        lines.append(f"| {row.name} | {row.ours:.4g} {row.unit} | {peer} | {row.ratio:.2f} | {row.n} | {row.goal} |")
    return "\n".join(lines)


def interleaved(n: int, *timed: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call, run in turns so that a disturbance meets all of them alike."""
    seconds: list[list[float]] = [[] for _ in timed]
    for _ in range(n):
        for call, taken in zip(timed, seconds, strict=True):
            started = time.perf_counter()
            call()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]
