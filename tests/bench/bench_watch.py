"""What watching costs: a training step of the ViT with the torch probe under it, beside the same step without.

Both are taken in turns, block by block, in one process with a worker's environment, on the same model and batch: dim
192, depth 6, patch 4, batch 128, in bf16 where the processor computes in it. Reading signals is the probe's part; what
judging them costs, tests/norms/bench_norms.py measures. Where other work shares the machine, trust the CPU time.

    python tests/bench/bench_watch.py [--quick]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from table import Row, markdown

from configs.schema import Amp, VitModel, VitOptimizer
from engine.probes.torch import TorchProbe
from engine.supervise import WORKER_ENVIRONMENT
from engine.workloads.vit import train
from norms.signals import Step, Update

BATCH = 128
MODEL = VitModel(patch=4, dim=192, depth=6, heads=3, mlp_ratio=4.0)
BLOCK = 10
"""Steps of one side in a row: as many as there are between two looks at how gradients flow."""


WARM_UP = 50
"""Updates before the first block: the probe looks closer at the first ones, and a run has thousands."""


class Sink:
    """Takes signals and does nothing."""

    next_step = 1
    epoch = None

    def before_update(self, signal: Step) -> None:
        self.next_step += 1

    def after_update(self, signal: Update) -> None:
        pass


def rows(quick: bool) -> list[Row]:
    blocks = 7 if quick else 15
    environment = WORKER_ENVIRONMENT | os.environ
    command = [sys.executable, __file__, "--blocks", str(blocks)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found = []
    for name, (ours, peer) in zip(("", ", in CPU time of all threads"), json.loads(done.stdout), strict=True):
        share = median(a / b for a, b in zip(ours, peer, strict=True)) - 1
        name = f"a ViT step with the torch probe{name} (median of pairs: {share:+.2%})"
        found.append(Row(name, median(ours), median(peer), "ms", "without", blocks, "≤ 2%", "lower"))
    return found


def _measured(blocks: int) -> list[tuple[list[float], list[float]]]:
    """Return the milliseconds of each block's steps, with and without the probe: by the clock, and by the CPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    step, probe = _training(device, train.dtype_of(Amp(), device))
    probe.install()
    for _ in range(WARM_UP):
        step()
    probe.remove()
    taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for i in range(blocks):
        for watched in (True, False) if i % 2 else (False, True):
            if watched:
                probe.install()
            taken[watched].append(_block(step, device))
            if watched:
                probe.remove()
    with_, without = ([[seconds * 1e3 for seconds in block] for block in taken[watched]] for watched in (True, False))
    return [([a[clock] for a in with_], [b[clock] for b in without]) for clock in (0, 1)]


def _training(device: torch.device, dtype: torch.dtype | None) -> tuple[Callable[[], None], TorchProbe]:
    torch.manual_seed(0)
    model = train.ViT(MODEL, (32, 32, 3), 10).to(device)
    optimizers = train.optimizers_of(model, VitOptimizer(), device)
    x, y = torch.randn(BATCH, 32, 32, 3, device=device), torch.randint(10, (BATCH,), device=device)

    def step() -> None:
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            logits = model(x)
        F.cross_entropy(logits.float(), y).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    return step, TorchProbe(model, optimizers, sink=Sink())


def _block(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Return seconds a step by the clock and by the CPU, over a block: rare looks count as often as they come."""
    started = time.perf_counter(), time.process_time()
    for _ in range(BLOCK):
        step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - started[0]) / BLOCK, (time.process_time() - started[1]) / BLOCK


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    parser.add_argument("--blocks", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    print(json.dumps(_measured(options.blocks)) if options.blocks else markdown(rows(options.quick)))


if __name__ == "__main__":
    main(sys.argv[1:])
