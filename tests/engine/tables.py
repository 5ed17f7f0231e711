"""Small CSV files cut from the embedded Bank Marketing data."""

import gzip
from functools import cache
from pathlib import Path

from engine.datasets import bank


@cache
def embedded_lines() -> list[str]:
    """Return the lines of bank-full.csv, the header first."""
    return gzip.decompress((Path(bank.__file__).parent / "bank-full.csv.gz").read_bytes()).decode().splitlines()


def small_csv(folder: Path, every: int = 15) -> Path:
    """Write each ``every``-th row, in the order of the dates."""
    header, *rows = embedded_lines()
    path = folder / "small.csv"
    path.write_text("\n".join([header, *rows[::every]]) + "\n")
    return path
