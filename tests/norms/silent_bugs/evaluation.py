"""Figures of another model, of other data, or of other arithmetic than they are said to be."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import Dataset, TensorDataset, random_split
from torchvision.transforms import v2

from engine.predictions import Evaluated
from engine.probes.data import random_transforms
from norms.signals import Preflight, RunEnd
from tests.norms.silent_bugs.harness import Watch, bug
from tests.norms.silent_bugs.scripts import CLASSES, digits, loader, perceptron, scored, train

EPOCH = 23
"""Steps."""


def validated(watch: Watch, model: nn.Module, evaluate: Callable[[], Evaluated], epochs: int = 2) -> None:
    data, _ = digits()
    optimizer = Adam(model.parameters(), lr=2e-3)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data), epochs, done=lambda _: watch.evaluate("val", evaluate))


# --- the mode of the model --------------------------------------------------------------------------------------------


@bug("eval-mode", within=0, acts_at=EPOCH)
def dropout_on_while_evaluating(watch: Watch, fixed: bool) -> None:
    _, val = digits()
    model = perceptron(nn.Dropout(0.2))

    def evaluate() -> Evaluated:
        if fixed:
            model.eval()
        found = scored(model, loader(val, shuffle=False))
        model.train()
        return found

    validated(watch, model, evaluate)


@bug("eval-mode", within=0, acts_at=EPOCH)
def batch_norm_learns_from_validation(watch: Watch, fixed: bool) -> None:
    _, val = digits()
    model = perceptron(nn.BatchNorm1d(32))

    def evaluate() -> Evaluated:
        model.train(not fixed)
        found = scored(model, loader(val, shuffle=False))
        model.train()
        return found

    validated(watch, model, evaluate)


class FunctionalDropout(nn.Module):
    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(64, 32), nn.Linear(32, CLASSES)
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(x).relu()
        x = F.dropout(x, 0.2, self.training) if self.fixed else F.dropout(x, 0.2)  # training=True by default
        return self.head(x)  # type: ignore[no-any-return]


@bug("eval-mode", within=0, acts_at=EPOCH)
def functional_dropout_that_knows_no_mode(watch: Watch, fixed: bool) -> None:
    _, val = digits()
    model = FunctionalDropout(fixed)

    def evaluate() -> Evaluated:
        model.eval()
        found = scored(model, loader(val, shuffle=False))
        model.train()
        return found

    validated(watch, model, evaluate)


@bug("train-mode", within=1, acts_at=EPOCH)
def training_left_in_evaluation_mode(watch: Watch, fixed: bool) -> None:
    _, val = digits()
    model = perceptron(nn.BatchNorm1d(32), nn.Dropout(0.2))

    def evaluate() -> Evaluated:
        model.eval()
        found = scored(model, loader(val, shuffle=False))
        if fixed:
            model.train()
        return found

    validated(watch, model, evaluate)


@bug("train-mode", within=1, acts_at=EPOCH)
def backbone_left_in_evaluation_mode(watch: Watch, fixed: bool) -> None:
    """Features are taken from the backbone for a plot, after each epoch."""
    _, val = digits()
    backbone = nn.Sequential(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU())
    model = nn.Sequential(backbone, nn.Linear(32, CLASSES))

    def evaluate() -> Evaluated:
        model.eval()
        found = scored(model, loader(val, shuffle=False))
        model.train()
        backbone.eval()
        with torch.no_grad():
            backbone(val.tensors[0])
        if fixed:
            backbone.train()
        return found

    validated(watch, model, evaluate)


# --- the data that is evaluated on ------------------------------------------------------------------------------------


class Digits(Dataset[Any]):
    """As data sets of images are: a transform of each image as it is drawn."""

    def __init__(self, images: TensorDataset, transform: Callable[[Tensor], Tensor]) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.images[index]
        return self.transform(image.view(1, 8, 8)).flatten(), label


@bug("augmentation-leak", within=0)
def augmented_validation_through_random_split(watch: Watch, fixed: bool) -> None:
    """random_split gives two views of one data set, and so of its transform."""
    images, _ = digits()
    augmented = Digits(images, v2.Compose([v2.RandomCrop(8, padding=1), v2.Normalize([0.3], [0.37])]))
    rows = torch.Generator().manual_seed(0)
    data, val = random_split(augmented, [1200, 238], rows)
    if fixed:
        val.dataset = Digits(images, v2.Normalize([0.3], [0.37]))
    val_loader = loader(val, shuffle=False)
    watch.feed(Preflight(step=0, evaluation_random=random_transforms(val_loader)))
    model = perceptron()
    optimizer = Adam(model.parameters(), lr=2e-3)
    watch.attach(model, [optimizer])
    train(
        watch,
        model,
        optimizer,
        loader(data),
        1,
        done=lambda _: watch.evaluate("val", lambda: scored(model, val_loader)),
    )


@bug("augmentation-leak", within=EPOCH, acts_at=EPOCH)
def noise_in_a_function_of_the_validation_set(watch: Watch, fixed: bool) -> None:
    """No class tells that a plain function is random; the inputs of the second pass do."""
    _, images = digits()
    val = Digits(images, (lambda x: x) if fixed else (lambda x: x + 0.1 * torch.randn_like(x)))
    model = perceptron()
    validated(watch, model, lambda: scored(model, loader(val, shuffle=False)))


@bug("test-selection", within=0)
def test_set_chooses_the_epoch(watch: Watch, fixed: bool) -> None:
    """The best of all epochs on the test set is reported."""
    data, test = digits()
    data, val = random_split(data, [1200, 238], torch.Generator().manual_seed(0))
    chooses = val if fixed else test
    watch.feed(Preflight(step=0, selected_on=("val" if chooses is val else "test",), reported_on=("test",)))
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.1)
    watch.attach(model, [optimizer])
    best = 0.0

    def choose(_: int) -> None:
        nonlocal best
        best = max(best, watch.evaluate("val", lambda: scored(model, loader(chooses, shuffle=False)))["accuracy"])

    train(watch, model, optimizer, loader(data), 3, done=choose)
    if fixed:
        best = watch.evaluate("test", lambda: scored(model, loader(test, shuffle=False)))["accuracy"]
    watch.feed(RunEnd(step=watch.next_step - 1, selected_on=("val" if fixed else "test",), reported_on=("test",)))


# --- the figures ------------------------------------------------------------------------------------------------------


@bug("metric-aggregation", within=0, acts_at=EPOCH)
def batches_of_unequal_size_averaged(watch: Watch, fixed: bool) -> None:
    """359 images in batches of 64: the last 39 count for as much as 64."""
    _, val = digits()
    model = perceptron()

    def evaluate() -> Evaluated:
        found = scored(model, loader(val, shuffle=False))
        logits, labels = torch.from_numpy(found.logits), torch.from_numpy(found.labels)
        right = (logits.argmax(1) == labels).float()
        mean = right.mean() if fixed else torch.stack([part.mean() for part in right.split(64)]).mean()
        return found._replace(scores={"accuracy": mean.item()})

    validated(watch, model, evaluate)


@bug("metric-aggregation", within=0, acts_at=EPOCH)
def last_batch_dropped_in_evaluation(watch: Watch, fixed: bool) -> None:
    """One function makes the loaders of both splits."""
    _, val = digits()
    model = perceptron()
    val_loader = loader(val, shuffle=False, drop_last=not fixed)
    validated(watch, model, lambda: scored(model, val_loader, split_size=len(val)))
