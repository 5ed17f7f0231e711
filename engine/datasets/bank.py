"""Bank Marketing: will a client subscribe a term deposit after a telephone call? (bank-full.md cites its source.)

Either the embedded bank-full, or a CSV file of the same columns (separated by `;` or `,`, gzipped or not) whose rows
stand in the order of their dates.
"""

import csv
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from configs.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pandera.errors import SchemaError
    from pandera.pandas import DataFrameSchema

EMBEDDED = "bank"
TARGET = "y"
POSITIVE = "yes"
PARTS = ("train", "val", "test")
POST_OUTCOME = ("duration",)
"""Columns that are known only after the outcome, as the data's own description says: how long the call lasted."""
_FOLDER = Path(__file__).parent
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Table:
    """A checked table in file order: whole numbers as int64, words as categories, the target as 0 and 1."""

    frame: pd.DataFrame
    path: Path
    sha256: str
    """Of the CSV text, so that a file and its gzipped copy count as the same data."""

    @property
    def target(self) -> NDArray[np.int8]:
        """[rows], 1 where the client subscribed."""
        return self.frame[TARGET].to_numpy(np.int8)


@dataclass(frozen=True)
class Problem:
    """What one value, row or column breaks, and what to do."""

    path: Path
    text: str
    line: int | None = None
    """Line in the CSV file, counted from 1."""
    column: str | None = None

    def __str__(self) -> str:
        where = [str(self.path)]
        where += [f"line {self.line}"] if self.line is not None else []
        where += [f"column {self.column!r}"] if self.column is not None else []
        return f"{', '.join(where)}: {self.text}"


@dataclass(frozen=True)
class Split:
    """Row numbers of each part, ascending: [train rows], [validation rows], [test rows]."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]
    test: NDArray[np.int64]


# --- reading and checking ---------------------------------------------------------------------------------------------


def load(data: str) -> Table:
    """Return the table that ``data`` names: "bank", or the path of a CSV file.

    Raises:
        DataError: The file is missing, unreadable or empty, or its first problem with the schema.
    """
    table, problems = inspect(data)
    if table is None:
        more = f" (and {len(problems) - 1} more: see `nora ml validate`)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
    return table


def inspect(data: str) -> tuple[Table | None, list[Problem]]:
    """Return the table, or None and every problem with its columns and values.

    Raises:
        DataError: The file is missing, cannot be read as CSV, or holds no rows.
    """
    path = _FOLDER / "bank-full.csv.gz" if data == EMBEDDED else Path(data)
    text = _text(path)
    words, lines = _rows(text, path)
    if problems := _column_problems(words, path):
        return None, problems
    frame, problems = _checked(words, lines, path)
    if not problems:
        problems = _target_problems(words, path)
    if frame is None or problems:
        return None, problems
    frame = frame[list(schema().columns)]
    frame = frame.assign(**{TARGET: (frame[TARGET] == POSITIVE).astype(np.int8)})
    words_columns = [name for name in frame.columns if not pd.api.types.is_integer_dtype(frame[name])]
    frame = frame.astype(dict.fromkeys(words_columns, "category"))
    frame.attrs.clear()  # some versions of pandera leave their schema there, and Parquet files cannot hold it
    return Table(frame, path, hashlib.sha256(text.encode()).hexdigest()), []


@cache
def schema() -> "DataFrameSchema":
    """Return the pandera schema in bank_schema.yaml."""
    from pandera.pandas import DataFrameSchema

    return DataFrameSchema.from_yaml(_FOLDER / "bank_schema.yaml")


def feature_columns(exclude: list[str]) -> list[str]:
    """Return the columns to learn from.

    Raises:
        ConfigError: ``exclude`` names a column that is no feature, or leaves none.
    """
    features = [name for name in schema().columns if name != TARGET]
    for name in exclude:
        if name not in features:
            near = get_close_matches(name, features, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the features are {', '.join(features)}"
            raise ConfigError(f"features.exclude={name}: there is no such feature; {hint}")
    kept = [name for name in features if name not in exclude]
    if not kept:
        raise ConfigError("features.exclude names every feature; leave at least one to learn from")
    return kept


def check_cohorts(names: list[str]) -> None:
    """Raises ConfigError where ``names`` holds a column that there is not; those not learned from may be in it."""
    columns = feature_columns([])
    for name in names:
        if name not in columns:
            near = get_close_matches(name, columns, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the columns are {', '.join(columns)}"
            raise ConfigError(f"drift.cohorts={name}: there is no such column; {hint}")


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; give data={EMBEDDED} or the path of a CSV file"
        ) from error
    try:
        return (gzip.decompress(data) if data.startswith(_GZIP_MAGIC) else data).decode("utf-8-sig")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file ({error}); get it again") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text (byte {error.start}); save it as a UTF-8 CSV file") from error


def _rows(text: str, path: Path) -> tuple[pd.DataFrame, list[int]]:
    """Return the values as words, and the line of the file that each row ends on."""
    if not text.strip():
        raise DataError(f"{path} is empty; a header line and rows of {', '.join(schema().columns)} are expected")
    separator = ";" if ";" in text.partition("\n")[0] else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = next(row for row in reader if row)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num}: {len(row)} values where the header names {len(header)} columns; "
                    "correct or remove the line"
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: not CSV ({error}); correct or remove the line") from error
    if not rows:
        raise DataError(f"{path} holds a header and no rows; add rows, or give data={EMBEDDED}")
    return pd.DataFrame(rows, columns=header), lines


def _column_problems(words: pd.DataFrame, path: Path) -> list[Problem]:
    wanted, found = list(schema().columns), list(words.columns)
    doubled = sorted({name for name in found if found.count(name) > 1})
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in found if name not in wanted]
    return [
        *(Problem(path, "the header names it twice; remove one", 1, name) for name in doubled),
        *(Problem(path, "the column is missing; add it", 1, name) for name in missing),
        *(Problem(path, "the schema knows no such column; remove it", 1, name) for name in unknown),
    ]


def _checked(words: pd.DataFrame, lines: list[int], path: Path) -> tuple[pd.DataFrame | None, list[Problem]]:
    """Return the table with its types, or every value that the schema refuses, in the order of the file."""
    from pandera.errors import SchemaErrors

    try:
        return schema().validate(words, lazy=True), []
    except SchemaErrors as errors:
        problems = [p for error in errors.schema_errors for p in _value_problems(error, lines, path)]
        assert problems, f"pandera refused {path} without naming a value: {errors}"
        return None, sorted(problems, key=lambda problem: problem.line or 0)


def _value_problems(error: "SchemaError", lines: list[int], path: Path) -> list[Problem]:
    cases = error.failure_cases
    if error.reason_code is None or error.reason_code.name not in ("DATATYPE_COERCION", "DATAFRAME_CHECK"):
        return []  # what follows from a failed coercion: wrong type, checks that cannot be made
    allowed = _allowed(error)
    return [
        Problem(path, f"{case!r} is not {allowed}; correct it or remove the line", lines[int(row)], error.schema.name)
        for row, case in zip(cases["index"], cases["failure_case"].tolist(), strict=True)
    ]


def _allowed(error: "SchemaError") -> str:
    """Return in words what the check behind ``error`` lets pass."""
    limits: dict[str, Any] = getattr(error.check, "statistics", None) or {}
    match limits:
        case {"allowed_values": values}:
            return f"one of {', '.join(values)}"
        case {"min_value": low, "max_value": high}:
            return f"from {low} to {high}"
        case {"min_value": low}:
            return f"{low} or more"
        case _:
            return "a whole number"


def _target_problems(words: pd.DataFrame, path: Path) -> list[Problem]:
    classes = words[TARGET].unique().tolist()
    if len(classes) > 1:
        return []
    text = f"every row says {classes[0]!r}; rows of both classes are needed to learn to tell them apart"
    return [Problem(path, text, column=TARGET)]


# --- splitting --------------------------------------------------------------------------------------------------------


def stratified_split(table: Table, val_fraction: float, test_fraction: float, seed: int) -> Split:
    """Draw validation and test rows at random, each with the table's share of positives.

    Raises:
        DataError: A class has too few rows to stand in every part.
    """
    rows = np.arange(len(table.frame))
    shares = (1 - val_fraction - test_fraction, val_fraction, test_fraction)
    return Split(*_draw(table, rows, shares, seed))


def date_split(table: Table, val_fraction: float, test_fraction: float, seed: int) -> Split:
    """Take the newest rows as the test; draw validation rows at random, class by class, from those before.

    The validation rows are not the newest of the rest: so the two splits differ in nothing but their test rows, and the
    difference between their scores is what the passing of time costs.

    Raises:
        DataError: A class has too few rows to stand in every part.
    """
    count = len(table.frame)
    older = count - round(count * test_fraction)
    shares = (1 - val_fraction - test_fraction, val_fraction)
    train, val = _draw(table, np.arange(older), shares, seed)
    test = np.arange(older, count)
    if len(np.unique(table.target[test])) < 2:
        raise DataError(
            f"{table.path}, column {TARGET!r}: the last {len(test)} of {count} rows, the test by date, are of one "
            "class; sort the rows by date, or raise train.test_fraction"
        )
    return Split(train, val, test)


def _draw(table: Table, rows: NDArray[np.int64], shares: tuple[float, ...], seed: int) -> list[NDArray[np.int64]]:
    """Deal ``rows`` out in proportion to ``shares``, class by class."""
    generator = np.random.default_rng(seed)
    cuts = np.cumsum(shares)[:-1] / sum(shares)
    parts: list[list[NDArray[np.int64]]] = [[] for _ in shares]
    for value, name in enumerate(("no", POSITIVE)):
        of_class = generator.permutation(rows[table.target[rows] == value])
        dealt = np.split(of_class, np.round(cuts * len(of_class)).astype(np.int64))
        if not all(len(piece) for piece in dealt):
            raise DataError(
                f"{table.path}, column {TARGET!r}: {len(of_class)} rows of class {name!r} are too few for "
                f"{len(shares)} parts of a split; add rows"
            )
        for part, piece in zip(parts, dealt, strict=True):
            part.append(piece)
    return [np.sort(np.concatenate(part)) for part in parts]
