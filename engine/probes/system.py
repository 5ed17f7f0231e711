"""What the machine gives a run: memory, disk, GPU and CPU, looked at every few seconds."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from norms.signals import Resources

INTERVAL_SECONDS = 5.0


class SystemProbe:
    """Looks at the run's processes and their machine, not more often than every ``interval_seconds``.

    Between two looks ``poll`` reads the clock once. A look asks the system for its table of processes: some
    milliseconds. For one thread at a time.

    Args:
        paths_of_checkpoints: The folder that checkpoints go to; it need not be there yet.
        interval_seconds: Between two looks.
    """

    def __init__(self, paths_of_checkpoints: Path, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._folder = paths_of_checkpoints
        self._interval = interval_seconds
        self._process = psutil.Process()
        self._gpus = Gpus()
        self._looked = time.monotonic()
        self._cpu_seconds = self._tree()[1]
        self._values: dict[str, float] = {}

    def poll(self, step: int, epoch: float | None = None, training: bool = True) -> Resources | None:
        """Return what is seen now, or None where the last look is not old enough.

        Args:
            step: Updates done.
            epoch: Epochs done.
            training: Whether the run is within training steps, and not evaluating, compiling or saving.
        """
        now = time.monotonic()
        if now - self._looked < self._interval:
            return None
        return self._look(now, step, epoch, training)

    def metrics(self) -> dict[str, float]:
        """Return the values of the last look, for a metrics event of the split ``system``; empty before the first.

        cpu_percent (of one core), memory_bytes, disk_free_bytes, and where the run uses GPUs gpu_busy (share of the
        time since the look before) and gpu_memory_bytes (in use on them, by whomever).
        """
        return dict(self._values)

    def _look(self, now: float, step: int, epoch: float | None, training: bool) -> Resources:
        memory, cpu_seconds = self._tree()
        used = 100 * (cpu_seconds - self._cpu_seconds) / (now - self._looked)
        self._looked, self._cpu_seconds = now, cpu_seconds
        free = _free_bytes(self._folder)
        busy, gpu_memory = self._gpus.look()
        seen = {
            "cpu_percent": max(used, 0.0),  # a process that ended takes its share with it until it is waited for
            "memory_bytes": memory,
            "disk_free_bytes": free,
            "gpu_busy": busy,
            "gpu_memory_bytes": gpu_memory,
        }
        self._values = {name: float(value) for name, value in seen.items() if value is not None}
        return Resources(
            step=step,
            epoch=epoch,
            training=training,
            memory_bytes=memory,
            disk_free_bytes=free,
            checkpoint_bytes=_newest_checkpoint(self._folder),
            gpu_busy=busy,
        )

    def _tree(self) -> tuple[int, float]:
        """Return resident memory and processor seconds of this process and all below it.

        Pages that processes share count in each of them: an upper bound, and even from look to look.
        """
        own = self._process.cpu_times()
        memory, seconds = 0, own.children_user + own.children_system  # of those that have ended
        for process in (self._process, *self._process.children(recursive=True)):
            try:
                memory += process.memory_info().rss
                times = process.cpu_times()
            except psutil.Error:  # ended since it was listed, or another user's by now
                continue
            seconds += times.user + times.system
        return memory, seconds


def _free_bytes(folder: Path) -> int | None:
    """Return what is free where the folder is, or will be; None where its file system does not answer."""
    try:
        # The nearest folder above it that exists is on the same disk.
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        return shutil.disk_usage(existing).free
    except OSError:  # a shared file system that is gone for now: no reason to end a run
        return None


def _newest_checkpoint(folder: Path) -> int | None:
    """Return the size in bytes of the newest checkpoint, a folder or a file; None where there is none."""
    try:
        found = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
        newest = max((entry for entry in found if not _is_pointer(entry)), key=_modified, default=None)
        if newest is None:
            return None
        if newest.is_file():
            return newest.stat().st_size
        return sum(entry.stat().st_size for entry in os.scandir(newest) if entry.is_file()) or None
    except OSError:  # not there yet, just removed, or its file system is gone for now
        return None


def _is_pointer(entry: "os.DirEntry[str]") -> bool:
    return entry.name in ("best", "last") and entry.is_file()


def _modified(entry: "os.DirEntry[str]") -> int:
    return entry.stat().st_mtime_ns


class Gpus:
    """The GPUs that this process uses, asked through NVIDIA's management library.

    Nothing is said where none is used, or where the library or the driver is missing.
    """

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False
        self._used: list[Any] = []
        self._seen_until = 0  # microseconds, by the driver's clock

    def look(self) -> tuple[float | None, int | None]:
        """Return the mean busy share since the last look, and the bytes in use; None where no GPU is used."""
        if not self._used:
            self._used = self._find()
        if not self._used:
            return None, None
        since, known = self._seen_until, []
        for gpu in self._used:
            if (busy := self._busy(gpu, since)) is not None:
                known.append(busy)
        try:
            memory = sum(int(self._nvml.nvmlDeviceGetMemoryInfo(gpu).used) for gpu in self._used)
        except self._nvml.NVMLError:  # a GPU fell off the bus, or is a slice that is not told of
            memory = None
        return (sum(known) / len(known) if known else None), memory

    def _find(self) -> list[Any]:
        """Return the GPUs on which torch holds memory, or else those on which the driver knows this process."""
        if self._absent or not self._open():
            return []
        nvml = self._nvml
        try:
            if uuids := _used_by_torch():
                return [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
            every = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            return [gpu for gpu in every if os.getpid() in _pids(nvml.nvmlDeviceGetComputeRunningProcesses(gpu))]
        except nvml.NVMLError:
            self._absent = True
            return []

    def _open(self) -> bool:
        if self._nvml is not None:
            return True
        try:
            import pynvml
        except ImportError:
            self._absent = True
            return False
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError:  # no driver
            self._absent = True
            return False
        self._nvml = pynvml
        return True

    def _busy(self, gpu: Any, since: int) -> float | None:
        """Return the busy share [0, 1] over the driver's samples since then; without samples, its newest value."""
        nvml = self._nvml
        try:
            _, samples = nvml.nvmlDeviceGetSamples(gpu, nvml.NVML_GPU_UTILIZATION_SAMPLES, since)
            if samples:
                self._seen_until = max(self._seen_until, *(sample.timeStamp for sample in samples))
                return float(sum(sample.sampleValue.uiVal for sample in samples)) / (100 * len(samples))
        except nvml.NVMLError:  # not kept on this GPU, or none since the last look
            pass
        try:
            return float(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu) / 100
        except nvml.NVMLError:  # a slice of a GPU (MIG) has none
            return None


def _used_by_torch() -> list[str]:
    """Return the ids, as the driver has them, of the GPUs on which torch holds memory; torch itself is not loaded."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return []
    used = [i for i in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(i)]
    return [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in used]


def _pids(processes: list[Any]) -> set[int]:
    return {process.pid for process in processes}
