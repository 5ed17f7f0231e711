"""Images to classify: scikit-learn's digits, CIFAR-10, or an .npz file of your own.

An .npz file holds ``x_train`` and ``x_test``, uint8 [n, height, width] or [n, height, width, channels], ``y_train`` and
``y_test``, integers [n] from 0 without gaps, and may hold ``class_names``, strings [classes].

The test images are never trained on nor chosen by: validation images are drawn from the training images.
"""

import hashlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.errors import DataError

DIGITS = "digits"
CIFAR10 = "cifar10"
_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_CHANNELS = (1, 3)
_DIGITS_TEST_FRACTION = 0.2
_DIGITS_TEST_SEED = 0  # the same test images in every run, whatever its seed
_DIGITS_BRIGHTEST = 16

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    images: Pixels
    """[n, height, width, channels]"""
    labels: Labels
    """[n], from 0"""


@dataclass(frozen=True)
class Images:
    train: Part
    """To be split into training and validation images (``split``)."""
    test: Part
    classes: tuple[str, ...]
    sha256: str
    """Of images and labels, so that a data set and its copy count as the same."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of an image."""
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


@dataclass(frozen=True)
class Outline:
    """What can be known of a data set without holding its images in memory."""

    shape: tuple[int, int, int]
    """Height, width and channels of an image."""
    train_labels: Labels


def data_dir() -> Path:
    """Return the folder that fetched data sets are kept in: NORA_DATA_DIR, else in the user's cache folder."""
    if chosen := os.environ.get("NORA_DATA_DIR"):
        return Path(chosen).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser().absolute() / "nora" / "data"


def path_of(data: str) -> Path:
    """Return the file that holds a data set: by its name, or as a path."""
    if data == DIGITS:
        found = find_spec("sklearn")  # finds the package without importing it, which takes a second and 160 MB
        if found is None or found.origin is None:
            raise DataError("data=digits comes with scikit-learn, which is not installed; `pip install scikit-learn`")
        return Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    return data_dir() / "cifar10.npz" if data == CIFAR10 else Path(data)


def load(data: str) -> Images:
    """Return a data set by name, or from an .npz file.

    Raises:
        DataError: It is missing, damaged or not of the form above.
    """
    if data == DIGITS:
        return _digits()
    with _opened(data) as arrays:
        train = Part(_pixels(arrays, "x_train", data), _labels(arrays, "y_train", data))
        test = Part(_pixels(arrays, "x_test", data), _labels(arrays, "y_test", data))
        names = arrays["class_names"].tolist() if "class_names" in arrays else None
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"{path_of(data)}: training images are {train.images.shape[1:]}, test images {test.images.shape[1:]} "
            "(height, width, channels); they must be alike"
        )
    for part, name in ((train, "train"), (test, "test")):
        _check_counts(part.images.shape[0], part.labels, name, data)
    classes = _class_names(names, train.labels, test.labels, data)
    return Images(train, test, classes, _digest(train, test))


def outline(data: str) -> Outline:
    """Check a data set, damage anywhere in its file included, and return its outline, reading pixels in passing only.

    Raises:
        DataError: It is missing, damaged or not of the form above.
    """
    if data == DIGITS:
        digits = _digits()
        return Outline(digits.shape, digits.train.labels)
    with _opened(data) as arrays:
        if broken := arrays.zip.testzip():
            raise zipfile.BadZipFile(f"{broken} does not match its checksum")
        shapes = {name: _header(arrays, name, data) for name in ("x_train", "x_test")}
        train, test = (_labels(arrays, name, data) for name in ("y_train", "y_test"))
        names = arrays["class_names"].tolist() if "class_names" in arrays else None
    for labels, name in ((train, "train"), (test, "test")):
        _check_counts(shapes[f"x_{name}"][0], labels, name, data)
    height, width, channels = shapes["x_train"][1:]
    _class_names(names, train, test, data)
    return Outline((height, width, channels), train)


def split(labels: Labels, fraction: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw ``fraction`` of the rows at random, class by class; return the rows that stay and those drawn, ascending.

    Every class keeps and gives at least one row.

    Raises:
        DataError: A class has a single row.
    """
    generator = np.random.default_rng(seed)
    drawn = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        if len(rows) < 2:
            raise DataError(f"class {label} has a single training image; two are needed, one of them for validation")
        drawn[rows[: min(max(round(len(rows) * fraction), 1), len(rows) - 1)]] = True
    return np.flatnonzero(~drawn), np.flatnonzero(drawn)


# --- digits -----------------------------------------------------------------------------------------------------------


def _digits() -> Images:
    """Read the file of ``sklearn.datasets.load_digits``: 1,797 lines of 64 pixels from 0 to 16, and the digit."""
    path = path_of(DIGITS)
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} is missing or damaged ({error}); install scikit-learn anew") from error
    pixels = (table[:, :64].reshape(-1, 8, 8, 1) * np.float32(255 / _DIGITS_BRIGHTEST)).round().astype(np.uint8)
    labels = table[:, 64].astype(np.int64)
    train, test = (Part(pixels[rows], labels[rows]) for rows in split(labels, _DIGITS_TEST_FRACTION, _DIGITS_TEST_SEED))
    return Images(train, test, tuple("0123456789"), _digest(train, test))


# --- .npz files -------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(data: str) -> Iterator[Any]:
    """Open the .npz file of a data set; whatever the reading of it meets becomes a DataError."""
    path = path_of(data)
    try:
        with path.open("rb") as file:  # np.load, given a path, would leave a broken file open
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise DataError(f"{path} holds one array; an .npz file of {', '.join(_ARRAYS)} is needed")
            if missing := [name for name in _ARRAYS if name not in arrays]:
                raise DataError(f"{path} has no {', '.join(missing)}; an .npz file of {', '.join(_ARRAYS)} is needed")
            yield arrays
    except DataError:
        raise
    except FileNotFoundError as error:
        if data == CIFAR10:
            raise DataError(
                f"data=cifar10 is not here ({path}); fetch it with `nora data get cifar10`, or set NORA_DATA_DIR"
            ) from error
        raise DataError(f"{path} does not exist; give data={DIGITS}, data={CIFAR10} or an .npz file") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}; give another file, or make it readable") from error
    except (EOFError, ValueError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        again = f"fetch it again with `nora data get {data}`" if data == CIFAR10 else "make or copy it again"
        raise DataError(f"{path} is damaged, or no .npz file; {again}") from error


def _header(arrays: Any, name: str, data: str) -> tuple[int, int, int, int]:
    """Return the shape [n, height, width, channels] of an array of images from the first bytes of its member."""
    with arrays.zip.open(f"{name}.npy") as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    return _checked_shape(shape, dtype, name, data)


def _pixels(arrays: Any, name: str, data: str) -> Pixels:
    array = arrays[name]
    return np.ascontiguousarray(array.reshape(_checked_shape(array.shape, array.dtype, name, data)))


def _checked_shape(shape: tuple[int, ...], dtype: Any, name: str, data: str) -> tuple[int, int, int, int]:
    full = (*shape, 1) if len(shape) == 3 else shape
    if dtype != np.uint8 or len(full) != 4 or full[3] not in _CHANNELS or 0 in full:
        raise DataError(
            f"{path_of(data)}: {name} is {dtype} {list(shape)}; uint8 [n, height, width] or [n, height, width, 1 or 3] "
            "is needed"
        )
    n, height, width, channels = full
    return n, height, width, channels


def _labels(arrays: Any, name: str, data: str) -> Labels:
    labels = arrays[name]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{path_of(data)}: {name} is {labels.dtype} {list(labels.shape)}; integers [n] are needed")
    checked: Labels = labels.astype(np.int64)
    return checked


def _check_counts(images: int, labels: Labels, name: str, data: str) -> None:
    if images != len(labels):
        raise DataError(f"{path_of(data)}: x_{name} has {images} images, y_{name} {len(labels)} labels")


def _class_names(names: list[Any] | None, train: Labels, test: Labels, data: str) -> tuple[str, ...]:
    found = np.unique(train)
    if not np.array_equal(found, np.arange(len(found))) or len(found) < 2:
        raise DataError(f"{path_of(data)}: y_train must hold every class from 0 on, two at least; make it anew")
    if not np.isin(test, found).all():
        raise DataError(f"{path_of(data)}: y_test holds classes that y_train does not; make it anew")
    if names is None:
        return tuple(str(label) for label in found)
    if len(names) != len(found) or len(set(map(str, names))) != len(found):
        raise DataError(f"{path_of(data)}: class_names must give {len(found)} classes one name each; make it anew")
    return tuple(str(name) for name in names)


def _digest(*parts: Part) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for array in (part.images, part.labels):
            digest.update(str(array.shape).encode())
            digest.update(np.ascontiguousarray(array).data.cast("B"))
    return digest.hexdigest()
