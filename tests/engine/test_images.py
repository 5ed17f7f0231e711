"""Data sets of images: what is read, how it is split, and how broken files are refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from configs.errors import DataError
from engine.datasets import images

Arrays = dict[str, Any]


def arrays(shape: tuple[int, ...] = (8, 8), train: int = 20, test: int = 6, classes: int = 2) -> Arrays:
    generator = np.random.default_rng(0)
    return {
        "x_train": generator.integers(0, 256, (train, *shape), np.uint8),
        "y_train": np.arange(train) % classes,
        "x_test": generator.integers(0, 256, (test, *shape), np.uint8),
        "y_test": np.arange(test) % classes,
    }


def written(folder: Path, content: Arrays) -> Path:
    path = folder / "own.npz"
    np.savez(path, **content)
    return path


# --- digits -----------------------------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn() -> None:
    original = load_digits()
    digits = images.load("digits")
    pixels = np.concatenate([digits.train.images, digits.test.images])
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    ours = sorted(zip(pixels.reshape(-1, 64).tolist(), labels.tolist(), strict=True))
    scaled = (original.images * 255 / 16).round().astype(int).reshape(-1, 64)
    assert ours == sorted(zip(scaled.tolist(), original.target.tolist(), strict=True))
    assert (len(digits.train.labels), len(digits.test.labels)) == (1438, 359)
    assert (digits.shape, digits.classes) == ((8, 8, 1), tuple("0123456789"))


def test_every_digit_has_its_share_of_the_test_images() -> None:
    counts = np.bincount(images.load("digits").test.labels)
    assert counts.min() >= 35
    assert counts.max() <= 37


def test_reading_digits_imports_neither_scikit_learn_nor_torch() -> None:
    code = (
        "import sys; from engine.datasets import images; images.outline('digits'); images.load('digits');"
        "sys.exit(bool({'sklearn', 'torch', 'pandas', 'PIL'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# --- .npz files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "read_as"), [((8, 6), (8, 6, 1)), ((8, 6, 1), (8, 6, 1)), ((8, 6, 3), (8, 6, 3))], ids=str
)
def test_an_npz_file_is_read_whole(tmp_path: Path, shape: tuple[int, ...], read_as: tuple[int, ...]) -> None:
    content = arrays(shape)
    data = images.load(str(written(tmp_path, content)))
    assert data.shape == read_as
    assert data.train.images.tobytes() == content["x_train"].tobytes()
    assert data.test.labels.tolist() == content["y_test"].tolist()
    assert data.classes == ("0", "1")


def test_class_names_are_taken_where_they_are_given(tmp_path: Path) -> None:
    path = written(tmp_path, arrays() | {"class_names": np.array(["cat", "dog"])})
    assert images.load(str(path)).classes == ("cat", "dog")


def test_the_outline_agrees_with_the_data_set(tmp_path: Path) -> None:
    for data in ("digits", str(written(tmp_path, arrays((8, 6, 3))))):
        whole, outline = images.load(data), images.outline(data)
        assert outline.shape == whole.shape
        assert outline.train_labels.tolist() == whole.train.labels.tolist()


def test_the_hash_is_of_the_content_not_of_the_file(tmp_path: Path) -> None:
    content = arrays()
    path = written(tmp_path, content)
    np.savez_compressed(tmp_path / "copy.npz", **content)
    np.savez(tmp_path / "changed.npz", **content | {"x_test": content["x_test"] ^ 1})
    first, copy, other = (images.load(str(tmp_path / name)).sha256 for name in (path.name, "copy.npz", "changed.npz"))
    assert first == copy
    assert first != other


def without(name: str) -> Callable[[Arrays], Arrays]:
    return lambda content: {key: value for key, value in content.items() if key != name}


def changed(name: str, to: Callable[[Any], Any]) -> Callable[[Arrays], Arrays]:
    return lambda content: content | {name: to(content[name])}


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without("y_test"), "has no y_test"),
        (changed("x_train", lambda x: x.astype(np.float32)), "x_train is float32"),
        (changed("x_train", lambda x: x[:, None]), r"x_train is uint8 \[20, 1, 8, 8\]"),
        (changed("x_train", lambda x: x[:, :0]), r"x_train is uint8 \[20, 0, 8\]"),
        (changed("x_test", lambda x: x[:, :4]), "must be alike"),
        (changed("y_train", lambda y: y[:-1]), "20 images, y_train 19 labels"),
        (changed("y_train", lambda y: y / 2), "y_train is float64"),
        (changed("y_train", lambda y: y[:, None]), "integers"),
        (changed("y_train", lambda y: y * 2), "every class from 0 on"),
        (changed("y_train", lambda y: y * 0), "two at least"),
        (changed("y_test", lambda y: y + 1), "classes that y_train does not"),
        (lambda content: content | {"class_names": np.array(["one"])}, "2 classes one name each"),
        (changed("y_test", lambda y: np.array([{}] * len(y), object)), "damaged"),
    ],
)
def test_arrays_of_the_wrong_form_are_refused(tmp_path: Path, spoil: Callable[[Arrays], Arrays], says: str) -> None:
    path = written(tmp_path, spoil(arrays()))
    with pytest.raises(DataError, match=says) as caught:
        images.load(str(path))
    assert str(path) in str(caught.value)
    if "must be alike" not in says:  # the outline opens no test images
        with pytest.raises(DataError, match=says):
            images.outline(str(path))


@pytest.mark.parametrize("read", [images.load, images.outline])
def test_files_that_are_no_npz_are_refused(tmp_path: Path, read: Callable[[str], object]) -> None:
    good = written(tmp_path, arrays())
    whole = good.read_bytes()
    middle = len(whole) // 3
    np.save(tmp_path / "array.npy", np.zeros(3))
    for name, content, says in (
        ("missing.npz", None, "does not exist"),
        ("empty.npz", b"", "damaged"),
        ("text.npz", b"label,pixels\n1,2\n", "damaged"),
        ("short.npz", whole[:middle], "damaged"),
        ("flipped.npz", whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], "damaged"),
        ("array.npy", (tmp_path / "array.npy").read_bytes(), "holds one array"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError, match=says) as caught:
            read(str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="Is a directory"):
        read(str(tmp_path))


def test_cifar10_that_is_not_here_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORA_DATA_DIR", str(tmp_path))
    with pytest.raises(DataError, match="nora data get cifar10"):
        images.outline("cifar10")
    (tmp_path / "cifar10.npz").write_bytes(b"half")
    with pytest.raises(DataError, match="fetch it again with `nora data get cifar10`"):
        images.load("cifar10")


def test_the_data_folder_is_the_users_cache_unless_it_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NORA_DATA_DIR", raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert images.data_dir() == Path("/home/somebody/.cache/nora/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    assert images.data_dir() == Path("/scratch/cache/nora/data")
    monkeypatch.setenv("NORA_DATA_DIR", "/data")
    assert images.data_dir() == Path("/data")


@pytest.mark.skipif(not images.path_of("cifar10").exists(), reason="cifar10 is not here; `nora data get cifar10`")
def test_cifar10_holds_its_60000_images() -> None:
    data = images.load("cifar10")
    assert (data.train.images.shape, data.test.images.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert np.bincount(data.train.labels).tolist() == [5000] * 10
    assert np.bincount(data.test.labels).tolist() == [1000] * 10
    mean = (data.train.images / np.float32(255)).mean((0, 1, 2), dtype=np.float64)
    assert mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)


# --- splitting --------------------------------------------------------------------------------------------------------


@given(
    counts=st.lists(st.integers(2, 60), min_size=2, max_size=6),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_deals_out_every_row_once_and_every_class_to_both(
    counts: list[int], fraction: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    stay, drawn = images.split(labels, fraction, seed)
    assert sorted([*stay, *drawn]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert 1 <= (labels[drawn] == label).sum() <= count - 1
        assert abs((labels[drawn] == label).sum() - fraction * count) <= 1.5


def test_a_split_follows_its_seed() -> None:
    labels = images.load("digits").train.labels
    one, again, other = (images.split(labels, 0.1, seed)[1].tolist() for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(DataError, match="class 1 has a single training image"):
        images.split(np.array([0, 0, 1]), 0.1, 0)
