import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions.events import Metrics
from sessions.series import Series, better, thin
from sessions.state import grouped


def filled(rows: list[tuple[str, int, dict[str, float]]]) -> Series:
    series = Series()
    metrics, _ = grouped(Metrics(seq=n, split=s, step=step, values=v) for n, (s, step, v) in enumerate(rows))
    series.extend(metrics.values())
    return series


def test_a_column_holds_every_value_in_order_of_steps() -> None:
    series = filled([("train", n, {"loss": n / 2, "lr": 1.0}) for n in range(1, 1001)])
    column = series.column("train", "loss")
    assert column.steps.tolist() == list(range(1, 1001))
    assert column.values.tolist() == [n / 2 for n in range(1, 1001)]
    assert np.isnan(column.epochs).all()


def test_a_metric_recorded_in_different_company_is_one_column() -> None:
    series = filled([("train", 1, {"loss": 3.0}), ("train", 2, {"loss": 2.0, "lr": 1.0}), ("train", 3, {"loss": 1.0})])
    assert series.column("train", "loss").values.tolist() == [3.0, 2.0, 1.0]
    assert series.column("train", "lr").steps.tolist() == [2]
    assert list(series.metrics()) == [("train", "loss"), ("train", "lr")]


def test_a_column_taken_before_more_data_stays_as_it_was() -> None:
    series = filled([("train", 1, {"loss": 3.0})])
    before = series.column("train", "loss").values
    for step in range(2, 2000):
        series.extend([[Metrics(split="train", step=step, values={"loss": 0.0})]])
    assert before.tolist() == [3.0]
    assert len(series.column("train", "loss").values) == 1999


def test_an_unknown_metric_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Series().column("train", "loss")


def test_best_follows_the_meaning_of_the_name_and_skips_nan() -> None:
    rows = [("val", n, {"loss": loss, "accuracy": 1 / loss}) for n, loss in enumerate([3.0, math.nan, 1.0, 2.0])]
    series = filled(rows)
    assert series.best("val", "loss") == (2, 1.0)
    assert series.best("val", "accuracy") == (2, 1.0)
    assert series.last("val", "loss") == (3, 2.0)
    assert filled([("val", 1, {"loss": math.nan})]).best("val", "loss") is None
    assert filled([("val", 1, {"lr": 0.1})]).best("val", "lr") is None


@pytest.mark.parametrize("name", ["loss", "val_loss", "val/logloss", "ECE", "rmse", "date/brier"])
def test_lower_is_better(name: str) -> None:
    assert better(name) == "lower"


@pytest.mark.parametrize("name", ["accuracy", "accuracy/cat", "auc", "F1"])
def test_higher_is_better(name: str) -> None:
    assert better(name) == "higher"


@pytest.mark.parametrize("name", ["lr", "grad_norm", "momentum", "facc", "loss_scale"])
def test_what_is_no_result_is_never_better(name: str) -> None:
    assert better(name) is None


@given(st.lists(st.floats(), max_size=200), st.integers(1, 20))
def test_thinning_keeps_the_extremes_and_never_a_non_finite_value(values: list[float], buckets: int) -> None:
    array = np.array(values, dtype=float)
    kept = thin(array, buckets)
    assert (np.diff(kept) > 0).all()
    assert np.isfinite(array[kept]).all()
    finite = array[np.isfinite(array)]
    assert len(kept) <= 2 * buckets
    if finite.size:
        assert array[kept].min() == finite.min()
        assert array[kept].max() == finite.max()
