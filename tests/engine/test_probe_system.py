"""What the machine gives a run: looked at now and then, and never guessed."""

import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine import checkpoints
from engine.probes.system import SystemProbe
from norms.signals import Resources


def look(folder: Path, step: int = 7, **more: object) -> Resources:
    seen = SystemProbe(folder, 0.0).poll(step, **more)  # type: ignore[arg-type]
    assert seen is not None
    return seen


def test_a_look_every_interval_and_none_between(tmp_path: Path) -> None:
    probe = SystemProbe(tmp_path, interval_seconds=0.2)
    assert probe.poll(1) is None
    assert probe.metrics() == {}
    time.sleep(0.25)
    assert probe.poll(2) is not None
    assert probe.poll(3) is None
    assert probe.metrics()["memory_bytes"] > 0


def test_what_the_caller_knows_is_handed_on(tmp_path: Path) -> None:
    seen = look(tmp_path, 9, epoch=1.5, training=False)
    assert (seen.step, seen.epoch, seen.training, seen.idle_seconds) == (9, 1.5, False, None)


def test_memory_and_processor_are_those_of_the_whole_tree(tmp_path: Path) -> None:
    probe = SystemProbe(tmp_path, 0.0)
    before = look(tmp_path).memory_bytes or 0
    burn = "x = bytearray(200 << 20); print(flush=True)\nwhile True: pass"
    child = subprocess.Popen([sys.executable, "-c", burn], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(0.5)
        seen = probe.poll(1)
        assert seen is not None
        assert (seen.memory_bytes or 0) - before > 150 << 20
        assert probe.metrics()["cpu_percent"] > 10
    finally:
        child.kill()
        child.communicate()
    after = probe.poll(2)
    assert after is not None
    assert (after.memory_bytes or 0) < (seen.memory_bytes or 0) - (150 << 20)
    assert probe.metrics()["cpu_percent"] >= 0


def test_the_disk_is_that_of_the_folder_even_before_it_is_there(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    seen = look(tmp_path / "run" / "checkpoints")
    assert seen.disk_free_bytes == pytest.approx(free, rel=0.2)
    assert seen.checkpoint_bytes is None


def test_a_file_system_that_is_gone_leaves_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    monkeypatch.setattr(shutil, "disk_usage", gone)
    monkeypatch.setattr(os, "scandir", gone)
    seen = look(tmp_path)
    assert (seen.disk_free_bytes, seen.checkpoint_bytes) == (None, None)
    assert (seen.memory_bytes or 0) > 0


def test_the_newest_checkpoint_is_measured(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    state = {"model": torch.zeros(10_000)}
    saved = checkpoints.save(folder, state, 1, 1.0, ["best", "last"])
    assert saved.bytes < (look(folder).checkpoint_bytes or 0) < saved.bytes + 5_000  # with its manifest
    bigger = checkpoints.save(folder, {"model": torch.zeros(50_000)}, 2, 2.0, ["last"])
    assert bigger.bytes < (look(folder).checkpoint_bytes or 0) < bigger.bytes + 5_000
    foreign = folder / "epoch3.pt"
    foreign.write_bytes(b"x" * 123)
    assert look(folder).checkpoint_bytes == 123


def test_a_run_without_gpu_has_no_gpu_values(tmp_path: Path) -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        pytest.skip("this process uses a GPU")
    probe = SystemProbe(tmp_path, 0.0)
    seen = probe.poll(1)
    assert seen is not None
    assert seen.gpu_busy is None
    assert set(probe.metrics()) == {"cpu_percent", "memory_bytes", "disk_free_bytes"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_run_on_a_gpu_knows_how_busy_it_is(tmp_path: Path) -> None:
    a = torch.randn(4096, 4096, device="cuda")
    probe = SystemProbe(tmp_path, 0.0)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        a = (a @ a).clamp(-1, 1)
        torch.cuda.synchronize()
    seen = probe.poll(1)
    assert seen is not None
    assert seen.gpu_busy is not None
    assert 0.2 < seen.gpu_busy <= 1
    assert probe.metrics()["gpu_memory_bytes"] >= a.nbytes


class Nvml:
    """Stands for the driver of two GPUs, of which this process uses the second: not every machine has one."""

    class NVMLError(Exception):
        pass

    NVML_GPU_UTILIZATION_SAMPLES = 1

    def __init__(self, samples: list[tuple[int, int]]) -> None:
        self._samples = samples
        self.asked: list[int] = []

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=os.getpid() if gpu == 1 else 1)]

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=1000 + gpu)

    def nvmlDeviceGetUtilizationRates(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(gpu=25)

    def nvmlDeviceGetSamples(self, gpu: int, kind: int, since: int) -> tuple[int, list[SimpleNamespace]]:
        self.asked.append(since)
        found = [(at, value) for at, value in self._samples if at > since]
        if not found:
            raise self.NVMLError("not found")
        return 1, [SimpleNamespace(timeStamp=at, sampleValue=SimpleNamespace(uiVal=value)) for at, value in found]


def test_a_gpu_is_as_busy_as_its_samples_since_the_last_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Nvml([(10, 100), (20, 50)])
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    probe = SystemProbe(tmp_path, 0.0)
    seen = [probe.poll(step) for step in (1, 2)]
    assert [found.gpu_busy for found in seen if found is not None] == [0.75, 0.25]  # then none new: what it says now
    assert driver.asked == [0, 20]
    assert probe.metrics()["gpu_memory_bytes"] == 1001


def test_loading_the_probe_loads_neither_torch_nor_the_gpu_library() -> None:
    code = "import sys, engine.probes.system; sys.exit(bool({'torch', 'pynvml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
