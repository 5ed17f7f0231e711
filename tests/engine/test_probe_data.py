"""Facts about data: what is random in a pipeline, what stands in two splits, what a column says by itself."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset
from torchvision import transforms as v1
from torchvision.datasets import FakeData
from torchvision.transforms import v2

from engine.datasets import bank, images
from engine.probes.data import features, overlaps, random_transforms
from norms.signals import Feature

# --- random transforms ------------------------------------------------------------------------------------------------


class OwnFlip(v2.RandomHorizontalFlip):
    """A user's own, derived from a random one."""


class OwnTransform(v2.Transform):
    """A user's own, of which nothing is known."""


class RandomGamma:
    def __call__(self, x: Any) -> Any:
        return x


class Dropped:
    """As other libraries have it: applied with a chance."""

    def __init__(self, p: float) -> None:
        self.p = p

    def __call__(self, x: Any) -> Any:
        return x


class Says:
    """Does everything by itself, and says what."""

    transforms = ("crop", "flip")


@pytest.mark.parametrize(
    ("pipeline", "names"),
    [
        (v2.RandomCrop(8), ("RandomCrop",)),
        (v1.RandomResizedCrop(8), ("RandomResizedCrop",)),
        (v2.ColorJitter(0.1), ("ColorJitter",)),
        (v2.RandAugment(), ("RandAugment",)),
        (v1.TrivialAugmentWide(), ("TrivialAugmentWide",)),
        (v2.MixUp(num_classes=10), ("MixUp",)),
        (v2.CutMix(num_classes=10), ("CutMix",)),
        (v2.GaussianNoise(), ("GaussianNoise",)),
        (v2.GaussianBlur(3), ("GaussianBlur",)),
        (v1.GaussianBlur(3, sigma=1.0), ()),
        (v2.JPEG((50, 90)), ("JPEG",)),
        (v2.JPEG(75), ()),
        (v2.RandomHorizontalFlip(), ("RandomHorizontalFlip",)),
        (v2.RandomHorizontalFlip(p=1), ()),
        (v1.RandomGrayscale(p=0), ()),
        (v2.RandomErasing(p=1), ("RandomErasing",)),
        (v1.RandomApply([v1.ColorJitter(0.1)], p=1), ("ColorJitter",)),
        (v2.RandomApply([v2.CenterCrop(8)], p=0.3), ("RandomApply",)),
        (v2.RandomChoice([v2.CenterCrop(8), v2.Pad(1)]), ("RandomChoice",)),
        (OwnFlip(), ("OwnFlip",)),
        (OwnTransform(), ()),
        (RandomGamma(), ("RandomGamma",)),
        (Dropped(0.5), ("Dropped",)),
        (Dropped(1.0), ()),
        (Says(), ("crop", "flip")),
        (v2.Compose([v2.CenterCrop(8), v2.Resize(4), v2.ToDtype(torch.float32), v2.Normalize([0.5], [0.5])]), ()),
        (v1.Compose([v1.ToTensor(), v1.FiveCrop(4), v1.Pad(2), v1.Grayscale()]), ()),
        (torch.nn.Sequential(v2.RandomVerticalFlip(), v2.CenterCrop(8)), ("RandomVerticalFlip",)),
        ([v2.RandomInvert(), v1.RandomCrop(8), v2.RandomInvert()], ("RandomInvert", "RandomCrop")),
        (None, ()),
        (lambda x: x, ()),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_random_transforms_are_told_from_others(pipeline: object, names: tuple[str, ...]) -> None:
    assert random_transforms(pipeline) == names


class Listed(Dataset[Any]):
    """Holds its samples as a list, and among them what looks like a transform."""

    def __init__(self) -> None:
        self.dataset = ["a word", v2.RandomCrop(8)]

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]


def test_transforms_are_found_in_data_sets_subsets_and_loaders() -> None:
    augmented = FakeData(4, transform=v2.Compose([v2.RandomCrop(8), v2.ToImage()]), target_transform=RandomGamma())
    plain = FakeData(4, transform=v2.ToImage())
    subset = Subset(augmented, [0])
    assert random_transforms(subset) == random_transforms(DataLoader(subset)) == ("RandomCrop",)
    assert random_transforms(DataLoader(plain)) == random_transforms(TensorDataset(torch.zeros(2))) == ()
    assert random_transforms(ConcatDataset([plain, Subset(augmented, [1])])) == ("RandomCrop",)
    assert random_transforms(DataLoader(plain, collate_fn=v2.MixUp(num_classes=2))) == ("MixUp",)
    assert random_transforms(DataLoader(Listed())) == ()


# --- splits -----------------------------------------------------------------------------------------------------------


def pixels(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 7, 3), np.uint8)


def test_samples_of_an_earlier_split_are_found() -> None:
    train, val, test = pixels(50, 1), pixels(20, 2), pixels(30, 3)
    test[4], test[17], val[3] = train[0], train[49], test[5]
    into_test, from_val = overlaps({"train": train, "val": val, "test": test})
    assert (into_test.first, into_test.second, into_test.count, into_test.size) == ("train", "test", 2, 30)
    assert into_test.examples == (4, 17)
    assert not into_test.coarse
    assert (from_val.first, from_val.second, from_val.count, from_val.examples) == ("val", "test", 1, (5,))


@given(st.integers(0, 255), st.integers(0, 8 * 8 - 1), st.sampled_from(["uint8", "float32"]))
def test_samples_that_differ_in_one_value_are_different(value: int, place: int, dtype: str) -> None:
    train = np.full((1, 8, 8, 1), 7, dtype)
    test = train.copy()
    test.reshape(-1)[place] = value
    assert bool(overlaps({"train": train, "test": test})) == (value == 7)


def test_arrays_need_not_be_contiguous() -> None:
    whole = pixels(40)
    (found,) = overlaps({"train": whole[::2], "test": whole.transpose(0, 2, 1, 3)[:10].transpose(0, 2, 1, 3)})
    assert (found.count, found.examples) == (5, (0, 2, 4, 6, 8))


def test_a_split_may_be_empty_and_alone() -> None:
    assert overlaps({}) == overlaps({"train": pixels(3)}) == overlaps({"train": pixels(3), "test": pixels(0)}) == ()


def test_digits_and_bank_have_no_sample_in_two_splits() -> None:
    digits = images.load("digits")
    assert overlaps({"train": digits.train.images, "test": digits.test.images}) == ()
    table = bank.load("bank")
    split = bank.stratified_split(table, 0.15, 0.2, seed=1)
    rows = {name: table.frame.iloc[getattr(split, name)] for name in bank.PARTS}
    assert overlaps(rows) == ()
    without = {name: part.drop(columns="duration") for name, part in rows.items()}
    assert 0 < sum(found.count for found in overlaps(without)) <= 16


def test_rows_are_hashed_whole_and_by_value() -> None:
    rows = pd.DataFrame({"word": pd.Series(["a", "b", "c", "a"], dtype="category"), "number": [1, 2, 3, 2]})
    (found,) = overlaps({"train": rows.iloc[:2], "test": rows.iloc[[2, 3, 0]].assign(word=lambda part: part["word"])})
    assert (found.count, found.examples) == (1, (2,))
    renumbered = rows.iloc[[1]].assign(word=pd.Series(["b"], index=[1], dtype="category"))
    assert overlaps({"train": rows, "test": renumbered})[0].count == 1


def test_a_table_is_coarse_without_identifier_and_continuous_column() -> None:
    generator = np.random.default_rng(0)
    coarse = pd.DataFrame({"a": generator.integers(3, size=300), "b": generator.integers(3, size=300)})
    assert [found.coarse for found in overlaps({"train": coarse[:200], "test": coarse[200:]})] == [True]
    doubled = coarse.assign(income=generator.normal(size=300))
    doubled.iloc[250] = doubled.iloc[3]
    assert [found.coarse for found in overlaps({"train": doubled[:200], "test": doubled[200:]})] == [False]


# --- columns ----------------------------------------------------------------------------------------------------------


def aucs(found: tuple[Feature, ...]) -> dict[str, float]:
    return {fact.name: fact.auc for fact in found if fact.auc is not None}


def test_of_the_columns_of_bank_duration_alone_says_too_much() -> None:
    table = bank.load("bank")
    rows = bank.stratified_split(table, 0.15, 0.2, seed=1).train
    columns = table.frame.iloc[rows].drop(columns=bank.TARGET)
    found = features(columns, table.target[rows], ["duration"])
    values = aucs(found)
    assert values.pop("duration") == pytest.approx(0.81, abs=0.01)
    assert len(values) == 15
    assert max(values.values()) < 0.66
    assert [fact.name for fact in found if fact.post_outcome] == ["duration"]


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_the_auc_of_numbers_is_that_of_scikit_learn(rows: list[tuple[int, bool]]) -> None:
    target = np.array([positive for _, positive in rows], np.int64)
    (found,) = features(pd.DataFrame({"x": [float(value) for value, _ in rows]}), target)
    if len(set(target.tolist())) < 2:
        assert found.auc is None
    else:
        expected = roc_auc_score(target, [value for value, _ in rows])
        assert found.auc == pytest.approx(max(expected, 1 - expected))


def test_a_column_of_identifiers_says_nothing_and_a_leaking_word_all() -> None:
    generator = np.random.default_rng(0)
    target = generator.integers(2, size=4000)
    table = pd.DataFrame(
        {
            "identifier": [f"client {i}" for i in range(4000)],
            "status": pd.Series(np.where(target == 1, "paid", "open"), dtype="category"),
            "paid_on": pd.Series(np.where(target == 1, 3.0, np.nan)),
            "same": 1,
            "noise": generator.choice(list("abcdefghijklmnop"), 4000),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(300, size=4000), unit="D"),
        }
    )
    values = aucs(features(table, target))
    assert values["status"] == values["paid_on"] == 1.0
    assert values["identifier"] == values["same"] == 0.5
    assert values["noise"] < 0.54
    assert values["day"] < 0.54


def test_loading_the_probe_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, engine.probes.data; sys.exit(bool({'torch', 'torchvision', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
