"""How fast our ViT trains, beside what one would write without us: images a second of the same model and batch.

On a CPU the peer is timm's ViT in fp32 behind a DataLoader with torchvision's crop and flip of PIL images. On a GPU it
is timm's ViT in bf16, uncompiled, spared all loading and augmentation: its one batch lies on the device. Ours is the
whole workload either way, recording every step, with the environment that a worker gets. The images are random, of
CIFAR's size. Each side runs in a process of its own, in turns.

    python tests/bench/bench_vit.py [--quick]
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
import torch
from table import Row, interleaved, markdown

from configs.schema import Augment, Checkpoint, VitConfig, VitModel, VitTrain
from engine.supervise import WORKER_ENVIRONMENT
from engine.workloads.vit import train
from engine.workloads.vit.muon import Muon

BATCH = 128
MODEL = VitModel(patch=4, dim=192, depth=6, heads=3, mlp_ratio=4.0)
AUGMENT = Augment(crop=4, flip=True)
WARM_UP = 3
"""Intervals left out: the first steps allocate, and on a GPU compile."""


def rows(quick: bool) -> list[Row]:
    on_gpu = torch.cuda.is_available()
    rounds = 2 if quick else 5
    rates: dict[str, list[float]] = {"ours": [], "peer": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "random.npz"
        _write_images(data, steps=500 if on_gpu else 8 if quick else 15)
        for round_ in range(rounds):
            for side in ("ours", "peer") if round_ % 2 else ("peer", "ours"):
                rates[side].append(_in_its_own_process(side, data))
    return [
        Row(
            name=f"ViT training on {'a GPU' if on_gpu else 'the CPU'}: dim 192, depth 6, patch 4, batch 128",
            ours=median(rates["ours"]),
            peer=median(rates["peer"]),
            unit="images/s",
            peer_name="timm, eager bf16, without loading" if on_gpu else "timm, fp32, DataLoader",
            n=rounds,
            goal="≥ 3x" if on_gpu else "≥ 2.5x where bf16 is native",
            better="higher",
        ),
        _muon_row(10 if quick else 40),
    ]


def _muon_row(n: int) -> Row:
    """One update of the matrices of the blocks, beside torch's own Muon."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    matrices = [
        torch.nn.Parameter(parameter)
        for parameter in train.ViT(MODEL, (32, 32, 3), 10).to(device).blocks.parameters()
        if parameter.ndim == 2
    ]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    dtype = torch.bfloat16 if train.computes_bf16(device) else torch.float32

    def timed(optimizer: torch.optim.Optimizer) -> Callable[[], None]:
        def step() -> None:
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()

        return step

    steps = timed(Muon(matrices, 0.01, 0.05, dtype)), timed(torch.optim.Muon(matrices, 0.01, 0.05))
    interleaved(3, *steps)
    ours, peer = interleaved(n, *steps)
    return Row(f"Muon, {len(matrices)} matrices", ours * 1e3, peer * 1e3, "ms", "torch.optim.Muon", n, "", "lower")


def _write_images(path: Path, steps: int) -> None:
    generator = np.random.default_rng(0)
    counts = {"train": (steps + WARM_UP) * BATCH + 100, "test": 100}
    arrays = {f"x_{name}": generator.integers(0, 256, (n, 32, 32, 3), np.uint8) for name, n in counts.items()}
    labels = {f"y_{name}": np.arange(n) % 10 for name, n in counts.items()}
    np.savez(path, **arrays, **labels)


def _in_its_own_process(side: str, data: Path) -> float:
    environment = WORKER_ENVIRONMENT | os.environ if side == "ours" else os.environ
    command = [sys.executable, __file__, "--side", side, "--data", str(data)]
    return float(subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout)


def _ours(data: Path) -> float:
    """Run the workload as a worker does, and take the times of its records."""
    from engine.watch import Watch
    from engine.workloads import vit
    from sessions.codec import decode
    from sessions.events import Metrics
    from sessions.log import EventLog
    from sessions.paths import SessionPaths

    every = 20 if torch.cuda.is_available() else 1
    images = len(np.load(data)["y_train"])
    config = VitConfig(
        data=str(data),
        model=MODEL,
        augment=AUGMENT,
        train=VitTrain(epochs=1, batch_size=BATCH, log_every=every, val_fraction=100 / images),
        checkpoint=Checkpoint(every_epochs=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        paths = SessionPaths(Path(folder))
        log = EventLog(paths.events)
        watch = Watch(paths, log, config)
        watch.begin(vit.plan(config).total_steps)
        vit.run(config, watch)
        log.close()
        events = [decode(line) for line in paths.events.read_bytes().splitlines()]
    marks = [(e.step, e.ts.timestamp()) for e in events if isinstance(e, Metrics) and e.split == "train"]
    return _rate(marks)


def _peer(data: Path) -> float:
    from timm.models.vision_transformer import VisionTransformer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    model = VisionTransformer(
        img_size=32,
        patch_size=MODEL.patch,
        embed_dim=MODEL.dim,
        depth=MODEL.depth,
        num_heads=MODEL.heads,
        mlp_ratio=MODEL.mlp_ratio,
        num_classes=10,
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loss_of = torch.nn.CrossEntropyLoss()
    every = 20 if device.type == "cuda" else 1
    marks = []
    for step, (x, y) in enumerate(_resident(device) if device.type == "cuda" else _loaded(data, threads), 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0:
            loss.item()
            marks.append((step, time.time()))
    return _rate(marks)


def _resident(device: torch.device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    batch = torch.randn(BATCH, 3, 32, 32, device=device), torch.randint(10, (BATCH,), device=device)
    for _ in range(500):
        yield batch


def _loaded(data: Path, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    from PIL import Image
    from torch.utils.data import DataLoader, Dataset
    from torchvision import transforms

    transform = transforms.Compose(
        [
            transforms.RandomCrop(32, padding=AUGMENT.crop),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    with np.load(data) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"].tolist()

    class Images(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(labels)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return transform(Image.fromarray(images[index])), labels[index]

    yield from DataLoader(Images(), BATCH, shuffle=True, drop_last=True, num_workers=workers)


def _rate(marks: list[tuple[int, float]]) -> float:
    """Return images a second from the median time between two records (step, seconds)."""
    intervals = [(t2 - t1) / (s2 - s1) for (s1, t1), (s2, t2) in itertools.pairwise(marks)][WARM_UP:]
    return BATCH / median(intervals)


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a look")
    parser.add_argument("--side", choices=["ours", "peer"], help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.side:
        print({"ours": _ours, "peer": _peer}[options.side](options.data))
    else:
        print(markdown(rows(options.quick)))


if __name__ == "__main__":
    main(sys.argv[1:])
