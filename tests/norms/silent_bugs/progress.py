"""Schedules, orders, draws, checkpoints and repetitions: what goes wrong between steps."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR
from torch.utils.data import Dataset, TensorDataset
from torch.utils.data.distributed import DistributedSampler

from engine.datasets import bank
from engine.probes.data import features, overlaps
from engine.probes.loader import LoaderProbe
from engine.probes.seeds import SeedProbe
from norms.signals import CheckpointSaved, Claim, Preflight, RunEnd
from tests.norms.silent_bugs.harness import Watch, bug
from tests.norms.silent_bugs.scripts import batches, digits, loader, perceptron, scored, train

EPOCH = 23
"""Steps."""

# --- schedules --------------------------------------------------------------------------------------------------------


@bug("scheduler", within=0, acts_at=EPOCH)
def scheduler_of_epochs_called_every_batch(watch: Watch, fixed: bool) -> None:
    """A cosine of 20 epochs that is over, and on its way up again, within the first."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    scheduler = CosineAnnealingLR(optimizer, T_max=20)
    watch.attach(model, [optimizer], scheduler=scheduler)

    def ended(_: int) -> None:
        if fixed:
            scheduler.step()
        watch.end_epoch(scheduler_unit="epoch")

    for x, y in batches(watch, loader(data), 2, done=ended):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if not fixed:
            scheduler.step()


@bug("scheduler", within=88, acts_at=1)
def rate_decayed_to_nothing(watch: Watch, fixed: bool) -> None:
    """0.9 was meant for an epoch; by the batch it leaves nothing of the rate after a tenth of the budget."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    scheduler = ExponentialLR(optimizer, 0.9 ** (1 / EPOCH) if fixed else 0.9)
    watch.attach(model, [optimizer], scheduler=scheduler, total_steps=10 * EPOCH)
    for x, y in batches(watch, loader(data), 10):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        scheduler.step()


# --- data -------------------------------------------------------------------------------------------------------------


@bug("split-overlap", within=0)
def rare_class_doubled_before_the_split(watch: Watch, fixed: bool) -> None:
    """Samples of a class are repeated to balance it; then some copies land in the test split."""
    images, _ = digits()
    x, y = images.tensors
    rows = torch.arange(len(y))
    repeated = torch.cat([rows, rows[y == 0]])
    if fixed:
        order = torch.randperm(len(rows))
        train_rows, test_rows = order[300:], order[:300]
        train_rows = torch.cat([train_rows, train_rows[y[train_rows] == 0]])
    else:
        order = repeated[torch.randperm(len(repeated))]
        train_rows, test_rows = order[300:], order[:300]
    splits = {"train": x[train_rows].numpy(), "test": x[test_rows].numpy()}
    watch.feed(Preflight(step=0, overlaps=overlaps(splits)))
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(TensorDataset(x[train_rows], y[train_rows])))


@bug("split-overlap", within=0)
def slices_that_overlap(watch: Watch, fixed: bool) -> None:
    """The number of training images was raised, the place where validation begins was not."""
    images, _ = digits()
    x, y = images.tensors
    val_x = x[1300:] if fixed else x[1200:]
    watch.feed(Preflight(step=0, overlaps=overlaps({"train": x[:1300].numpy(), "val": val_x.numpy()})))
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(TensorDataset(x[:1300], y[:1300])))


@bug("feature-leak", within=0)
def column_known_after_the_outcome(watch: Watch, fixed: bool) -> None:
    """How long the call took is known when it is over, and with it what the client said."""
    table = bank.load("bank")
    rows = bank.stratified_split(table, 0.15, 0.2, seed=0).train
    columns = table.frame.iloc[rows].drop(columns=[bank.TARGET, *(["duration"] if fixed else [])])
    watch.feed(Preflight(step=0, features=features(columns, table.target[rows], ["duration"])))
    numbers = torch.tensor(columns.select_dtypes("number").to_numpy(np.float32))
    x = (numbers - numbers.mean(0)) / numbers.std(0)
    y = torch.tensor(table.target[rows], dtype=torch.float32)
    model = nn.Linear(x.shape[1], 1)
    optimizer = Adam(model.parameters(), lr=1e-2)
    watch.attach(model, [optimizer])
    for part, target in batches(watch, loader(TensorDataset(x, y), batch_size=2048), 1):
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(part).squeeze(1), target).backward()
        optimizer.step()


@bug("reshuffle", within=0, acts_at=2 * EPOCH)
def set_epoch_forgotten(watch: Watch, fixed: bool) -> None:
    """A distributed sampler shuffles by its epoch, and nobody tells it."""
    data, _ = digits()
    sampler = DistributedSampler(data, num_replicas=1, rank=0, seed=0)
    loaded(watch, loader(data, shuffle=False, sampler=sampler), before=sampler.set_epoch if fixed else lambda _: None)


@bug("reshuffle", within=0, acts_at=2 * EPOCH)
def seeded_anew_every_epoch(watch: Watch, fixed: bool) -> None:
    """``set_seed`` was moved into the loop, so that a restart from any epoch is exact."""
    data, _ = digits()
    loaded(watch, loader(data), before=lambda epoch: torch.manual_seed(epoch if fixed else 0))


def loaded(watch: Watch, data: Any, before: Any, epochs: int = 3) -> None:
    """Train with a probe on the loader, and ``before(epoch)`` at the start of each epoch."""
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    before(1)
    with LoaderProbe(data) as probe:

        def ended(epoch: int) -> None:
            watch.end_epoch(**probe.epoch_facts())
            before(epoch + 1)

        train(watch, model, optimizer, data, epochs, done=ended)


class Jittered(Dataset[Any]):
    """Adds noise from NumPy to each image, as augmentation does."""

    def __init__(self, generator: np.random.Generator | None) -> None:
        self.images, _ = digits()
        self.generator = generator

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.images[index]
        draw = np.random.standard_normal if self.generator is None else self.generator.standard_normal
        return image + 0.05 * torch.from_numpy(draw(64)).float(), label


def seeded_alike(worker: int) -> None:
    np.random.seed(42)


def seeded_apart(worker: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)


@bug("worker-rng", within=0, acts_at=EPOCH)
def workers_seeded_alike(watch: Watch, fixed: bool) -> None:
    seed = seeded_apart if fixed else seeded_alike
    loaded(watch, loader(Jittered(None), num_workers=2, worker_init_fn=seed), before=lambda _: None, epochs=2)


@bug("worker-rng", within=0, acts_at=EPOCH)
def generator_copied_into_every_worker(watch: Watch, fixed: bool) -> None:
    """A generator of the data set's own is forked with it: all workers have the same one, in every epoch."""
    data = Jittered(None if fixed else np.random.default_rng(0))
    loaded(watch, loader(data, num_workers=2), before=lambda _: None, epochs=2)


@bug("seeding", within=0, acts_at=EPOCH)
def numpy_not_seeded(watch: Watch, fixed: bool) -> None:
    """The seed is given to torch, and the augmentation draws from NumPy."""
    with SeedProbe() as seeds:
        torch.manual_seed(0)
        if fixed:
            np.random.seed(0)
        model = perceptron()
        optimizer = Adam(model.parameters())
        watch.attach(model, [optimizer])

        def drawn(_: int) -> None:
            watch.feed(Preflight(step=EPOCH, seed=0, generators=seeds.generators()))

        train(watch, model, optimizer, loader(Jittered(None)), 1, done=drawn)


# --- checkpoints and repetition ---------------------------------------------------------------------------------------


@bug("checkpoint-integrity", within=0, acts_at=EPOCH)
def checkpoint_without_the_optimizer(watch: Watch, fixed: bool) -> None:
    """The model is saved, and Adam's moments begin anew whenever the run is resumed."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])

    def save(epoch: int) -> None:
        state: dict[str, Any] = {"model": model.state_dict(), "step": epoch * EPOCH}
        if fixed:
            state["optimizer"] = optimizer.state_dict()
        torch.save(state, path)
        contents = tuple(torch.load(path, weights_only=True))
        expected = ("model", "optimizer", "step")
        watch.feed(CheckpointSaved(step=epoch * EPOCH, path=path.name, contents=contents, expected=expected))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.pt"
        train(watch, model, optimizer, loader(data), 1, done=save)


@bug("checkpoint-integrity", within=0, acts_at=EPOCH)
def best_weights_that_go_on_training(watch: Watch, fixed: bool) -> None:
    """``state_dict()`` holds the live tensors: at the end of the run the best weights are the last ones."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    best: dict[str, Tensor] = {}

    def keep(epoch: int) -> None:
        best.update({name: weight.clone() if fixed else weight for name, weight in model.state_dict().items()})
        live = {weight.data_ptr() for weight in model.state_dict().values()}
        copied = not any(weight.data_ptr() in live for weight in best.values())
        watch.feed(CheckpointSaved(step=epoch * EPOCH, path="best", best_is_copy=copied))

    train(watch, model, optimizer, loader(data), 1, done=keep)


REPEATED = 3
"""Steps."""


@bug("determinism", within=0, acts_at=REPEATED)
def noise_from_an_unseeded_generator(watch: Watch, fixed: bool) -> None:
    """Everything is seeded but the generator of the augmentation, which nobody sees."""
    data, _ = digits()
    np.random.seed(0)
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.05)
    watch.attach(model, [optimizer])
    draw = np.random.standard_normal if fixed else np.random.default_rng().standard_normal

    def losses() -> list[float]:
        found = []
        for (x, y), _ in zip(loader(data), range(REPEATED), strict=False):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x + 0.1 * torch.from_numpy(draw(x.shape)).float()), y)
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    watch.rehearse(losses)


@bug("single-run", within=0, acts_at=2 * EPOCH)
def better_by_one_seed(watch: Watch, fixed: bool) -> None:
    """Two learning rates, one run of each, and a claim."""
    data, test = digits()
    seeds = range(3 if fixed else 1)
    scores: dict[float, list[float]] = {1e-3: [], 2e-3: []}
    for seed in seeds:
        for rate, accuracies in scores.items():
            torch.manual_seed(seed)
            model = perceptron()
            optimizer = Adam(model.parameters(), lr=rate)
            for x, y in (batch for _ in range(2) for batch in loader(data)):
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
            accuracies.append(scored(model, loader(test, shuffle=False)).scores["accuracy"])
    claim = Claim(text="a rate of 2e-3 is better than 1e-3", seeds=len(scores[2e-3]), interval=False)
    watch.feed(RunEnd(step=2 * EPOCH, claims=(claim,)))
