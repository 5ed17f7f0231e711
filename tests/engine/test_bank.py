import gzip
import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import ConfigError, DataError
from engine.datasets import bank
from tests.engine.tables import embedded_lines, small_csv


def test_the_embedded_data_is_ucis_file() -> None:
    text = "\n".join(embedded_lines()) + "\n"
    assert hashlib.md5(text.encode()).hexdigest() == "e6b0ca77f3f200ec5428e04dd104da53"
    table = bank.load("bank")
    assert table.frame.shape == (45_211, 17)
    assert table.target.sum() == 5_289
    assert table.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert table.frame.iloc[0].tolist()[:6] == [58, "management", "married", "tertiary", "no", 2143]


def test_separators_compression_quotes_and_column_order_make_no_difference(tmp_path: Path) -> None:
    path = small_csv(tmp_path)
    frame = pd.read_csv(path, sep=";")
    frame[frame.columns[::-1]].to_csv(tmp_path / "commas.csv", index=False)
    (tmp_path / "packed").write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n", mtime=0))
    expected = bank.load(str(path)).frame
    for name in ("commas.csv", "packed"):
        pd.testing.assert_frame_equal(bank.load(str(tmp_path / name)).frame, expected)


def _set(column: str, value: str) -> Callable[[list[str]], list[str]]:
    """Replace the value of ``column`` in the third row, which is line 4."""

    def change(lines: list[str]) -> list[str]:
        values = lines[3].split(";")
        values[[name.strip('"') for name in lines[0].split(";")].index(column)] = value
        return [*lines[:3], ";".join(values), *lines[4:]]

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_set("age", "old"), "line 4, column 'age': 'old' is not a whole number; correct it or remove the line"),
        (_set("age", ""), "line 4, column 'age': '' is not a whole number"),
        (_set("age", "33.5"), "line 4, column 'age': '33.5' is not a whole number"),
        (_set("balance", "9" * 30), f"line 4, column 'balance': '{'9' * 30}' is not a whole number"),
        (_set("age", "7"), "line 4, column 'age': 7 is not from 16 to 120"),
        (_set("campaign", "0"), "line 4, column 'campaign': 0 is not 1 or more"),
        (_set("marital", '"widowed"'), "column 'marital': 'widowed' is not one of divorced, married, single"),
        (_set("y", '""'), "line 4, column 'y': '' is not one of no, yes"),
        (lambda lines: [lines[0].replace('"age"', '"Age"'), *lines[1:]], "line 1, column 'age': the column is missing"),
        (lambda lines: [lines[0].replace('"job"', '"age"'), *lines[1:]], "the header names it twice"),
        (lambda lines: [*lines[:3], lines[3] + ";1", *lines[4:]], "line 4: 18 values where the header names 17"),
        (lambda lines: [*lines[:3], lines[3].rpartition(";")[0], *lines[4:]], "line 4: 16 values where the header"),
        (lambda lines: [*lines[:3], '58;"manage"ment"', *lines[4:]], "line 4: not CSV ("),
        (lambda lines: [*lines[:3], '58;"manage'], "not CSV (unexpected end of data)"),
        (lambda lines: [lines[0], *(line for line in lines[1:] if line.endswith('"no"'))], "every row says 'no'"),
        (lambda lines: lines[:1], "holds a header and no rows"),
        (lambda lines: [], "is empty"),
        (lambda lines: ["a,b", "1,2"], "column 'age': the column is missing; add it (and 18 more: see"),
    ],
)
def test_broken_data_is_refused_in_one_sentence(
    tmp_path: Path, change: Callable[[list[str]], list[str]], sentence: str
) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(change([*embedded_lines()[:300], embedded_lines()[-1]])))
    with pytest.raises(DataError) as caught:
        bank.load(str(path))
    assert sentence in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (gzip.compress(b"age;job\n" * 1000, mtime=0)[:-9], "damaged gzip file"),
        (b"\x1f\x8b garbage", "damaged gzip file"),
        (b"age\xff", "not UTF-8 text (byte 3)"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(DataError) as caught:
        bank.load(str(tmp_path / "bad"))
    assert sentence in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv cannot be read: No such file.*data=bank"):
        bank.load(str(tmp_path / "nothing.csv"))
    with pytest.raises(DataError, match="Is a directory"):
        bank.load(str(tmp_path))


def test_every_problem_is_found_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = _set("y", "maybe")(_set("age", "x")(embedded_lines()[:10]))
    lines[6] = lines[6].replace('"no"', '"perhaps"', 1)
    (tmp_path / "mine.csv").write_text("\n".join([lines[0], "", *lines[1:]]))  # an empty line counts as a line
    table, problems = bank.inspect(str(tmp_path / "mine.csv"))
    assert table is None
    assert [(p.line, p.column) for p in problems] == [(5, "age"), (5, "y"), (8, "default")]


@cache
def embedded() -> bank.Table:
    return bank.load("bank")


FRACTIONS = st.tuples(st.floats(0.05, 0.45), st.floats(0.05, 0.45))


@settings(deadline=None)
@given(fractions=FRACTIONS, seed=st.integers(0, 2**32 - 1), by_date=st.booleans())
def test_a_split_deals_out_every_row_once_and_keeps_the_share_of_positives(
    fractions: tuple[float, float], seed: int, by_date: bool
) -> None:
    table = embedded()
    cut = bank.date_split if by_date else bank.stratified_split
    split = cut(table, *fractions, seed)
    parts = (split.train, split.val, split.test)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(table.frame)))
    assert all((np.diff(part) > 0).all() for part in parts)
    assert len(split.val) == pytest.approx(fractions[0] * len(table.frame), abs=2)
    assert len(split.test) == pytest.approx(fractions[1] * len(table.frame), abs=2)
    drawn = parts[:2] if by_date else parts
    rates = [table.target[part].mean() for part in drawn]
    assert max(rates) - min(rates) < 0.001
    again = cut(table, *fractions, seed)
    assert np.array_equal(again.val, split.val)
    if by_date:
        assert split.test.min() > max(split.train.max(), split.val.max())


def test_another_seed_draws_other_rows() -> None:
    table = embedded()
    assert not np.array_equal(
        bank.stratified_split(table, 0.15, 0.2, 1).test, bank.stratified_split(table, 0.15, 0.2, 2).test
    )


def test_too_few_rows_of_a_class_are_said_before_training(tmp_path: Path) -> None:
    lines = embedded_lines()
    yes = next(line for line in lines if line.endswith('"yes"'))
    path = tmp_path / "few.csv"
    path.write_text("\n".join([lines[0], yes, *lines[1:50]]))
    with pytest.raises(DataError, match="1 rows of class 'yes' are too few for 3 parts of a split"):
        bank.stratified_split(bank.load(str(path)), 0.15, 0.2, 1)
    with pytest.raises(DataError, match="the last 10 of 50 rows, the test by date, are of one class"):
        path.write_text("\n".join([lines[0], yes, yes, yes, yes, *lines[1:47]]))
        bank.date_split(bank.load(str(path)), 0.3, 0.2, 1)


def test_columns_are_left_out_by_name() -> None:
    assert "duration" not in bank.feature_columns(["duration"])
    assert len(bank.feature_columns([])) == 16
    with pytest.raises(ConfigError, match=r"features\.exclude=durations: .* did you mean 'duration'"):
        bank.feature_columns(["durations"])
    with pytest.raises(ConfigError, match="no such feature"):
        bank.feature_columns(["y"])
    with pytest.raises(ConfigError, match="leave at least one"):
        bank.feature_columns(bank.feature_columns([]))
