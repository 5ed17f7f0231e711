"""What watching costs a run: the real loop of the ViT with all default norms judged, beside the same without.

One run in one process with a worker's environment takes blocks of updates in turns, watched and not, so that a
disturbance meets both alike: dim 192, depth 6, patch 4, batch 128 on images of 32 by 32 pixels, in bf16 where the
processor computes in it. Recorded metrics are part of both sides; probe, judge and standings are part of one. Where
other work shares the machine, trust the CPU time.

    python tests/bench/bench_loop.py [--quick] [--profile]
"""

import argparse
import cProfile
import json
import os
import pstats
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from msgspec.structs import replace
from table import Row, markdown

from configs.load import compose
from configs.schema import AnyConfig, VitConfig
from engine.supervise import WORKER_ENVIRONMENT
from engine.watch import Watch
from engine.workloads import vit
from sessions.log import EventLog
from sessions.paths import SessionPaths

BATCH = 128
OPTIONS = ("model.dim=192", "model.depth=6", "model.heads=3", "model.patch=4", "model.mlp_ratio=4")
BLOCK = 10
"""Updates of one side in a row: as many as there are between two looks at how gradients flow."""
WARM_UP = 50
"""Updates before the first block: the probe looks closer at the first ones, and a run has thousands."""


class Enough(Exception):
    """All blocks are done."""


class AlternatingWatch(Watch):
    """Is switched off and on again after every block, and keeps what each update of it took."""

    def __init__(self, paths: SessionPaths, log: EventLog, config: AnyConfig, blocks: int) -> None:
        super().__init__(paths, log, config)
        self.taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
        """Milliseconds by the clock and by the CPU, by whether it was on."""
        self.profile = cProfile.Profile()
        self.profiling = False
        self._blocks = blocks
        self._since = (0.0, 0.0)

    def step(self, step: int, epoch: float | None = None, samples: int = 0) -> None:
        super().step(step, epoch, samples)
        done = step - WARM_UP
        if self.rehearsing or done < 0 or done % BLOCK:
            return
        if done:
            now = (time.perf_counter(), time.process_time())
            spent = tuple((b - a) / BLOCK * 1e3 for a, b in zip(self._since, now, strict=True))
            self.taken[self.config.norms.enabled].append((spent[0], spent[1]))
        if done == 2 * BLOCK * self._blocks:
            self.profile.disable()
            raise Enough
        # On first in every other pair: off on, on off, off on …
        self._switch(((done // BLOCK) + 1) // 2 % 2 == 1)
        self._since = (time.perf_counter(), time.process_time())

    def _switch(self, on: bool) -> None:
        if on != self.config.norms.enabled:
            self.config = replace(self.config, norms=replace(self.config.norms, enabled=on))
            assert self._torch is not None
            if on:
                self._torch.probe.install()
            else:
                self._torch.probe.remove()
        if self.profiling:
            self.profile.enable() if on else self.profile.disable()


def rows(quick: bool) -> list[Row]:
    blocks = 7 if quick else 15
    command = [sys.executable, __file__, "--blocks", str(blocks)]
    done = subprocess.run(command, env=WORKER_ENVIRONMENT | os.environ, stdout=subprocess.PIPE, text=True, check=True)
    found = []
    for name, (ours, peer) in zip(("", ", in CPU time of all threads"), json.loads(done.stdout), strict=True):
        share = median(a / b for a, b in zip(ours, peer, strict=True)) - 1
        name = f"an update of the ViT's loop, watched{name} (median of pairs: {share:+.2%})"
        found.append(Row(name, median(ours), median(peer), "ms", "norms.enabled=false", blocks, "≤ 2%", "lower"))
    return found


def _run(folder: Path, blocks: int, profile: bool = False) -> AlternatingWatch:
    updates = WARM_UP + 2 * BLOCK * blocks
    config = compose(["workload=vit", f"data={_images(folder, updates)}", f"train.batch_size={BATCH}", *OPTIONS])
    assert isinstance(config, VitConfig)
    config = replace(config, train=replace(config.train, epochs=1))
    paths = SessionPaths(folder)
    log = EventLog(paths.events)
    watch = AlternatingWatch(paths, log, config, blocks)
    watch.profiling = profile
    try:
        vit.run(config, watch)
    except Enough:
        watch.close()
        log.close()
    return watch


def _images(folder: Path, updates: int) -> Path:
    """Write so many images that an epoch takes them all, and return the path."""
    generator = np.random.default_rng(0)
    train = updates * BATCH * 10 // 9 + 2 * BATCH  # a tenth is for validation
    images = generator.integers(0, 256, (train + 500, 32, 32, 3), np.uint8)
    labels = generator.integers(0, 10, train + 500)
    path = folder / "images.npz"
    np.savez(path, x_train=images[500:], y_train=labels[500:], x_test=images[:500], y_test=labels[:500])
    return path


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    parser.add_argument("--profile", action="store_true", help="where the time of watched updates goes instead")
    parser.add_argument("--blocks", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not (options.blocks or options.profile):
        print(markdown(rows(options.quick)))
        return
    with tempfile.TemporaryDirectory() as folder:
        watch = _run(Path(folder), options.blocks or 7, options.profile)
    if options.profile:
        pstats.Stats(watch.profile).sort_stats("cumulative").print_stats("engine|norms|sessions", 40)
    else:
        print(json.dumps([[[each[clock] for each in watch.taken[on]] for on in (True, False)] for clock in (0, 1)]))


if __name__ == "__main__":
    main(sys.argv[1:])
