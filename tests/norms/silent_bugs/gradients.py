"""Updates that are not those of the batch: gradients left over, scaled, clipped, vanished or far too large."""

from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.utils.data import TensorDataset

from tests.norms.silent_bugs.harness import Watch, bug
from tests.norms.silent_bugs.scripts import CLASSES, batches, digits, loader, perceptron, scored, train


@bug("zero-grad", within=2, acts_at=1)
def gradients_never_cleared(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.01)
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        if fixed:
            optimizer.zero_grad()


@bug("zero-grad", within=2, acts_at=1)
def gradients_of_the_wrong_object_cleared(watch: Watch, fixed: bool) -> None:
    """The head has an optimizer of its own, which nobody clears."""
    data, _ = digits()
    model = perceptron()
    body, head = SGD(model[0].parameters(), lr=0.05), SGD(model[2].parameters(), lr=0.01)
    watch.attach(model, [body, head])
    for x, y in batches(watch, loader(data), 1):
        body.zero_grad()
        if fixed:
            head.zero_grad()
        F.cross_entropy(model(x), y).backward()
        body.step()
        head.step()


@bug("missing-grad", within=1, acts_at=1)
def cleared_between_backward_and_step(watch: Watch, fixed: bool) -> None:
    """Two lines changed places: the optimizer finds no gradient, and does nothing."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        if fixed:
            optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        if not fixed:
            optimizer.zero_grad()
        optimizer.step()


@bug("grad-scale", within=0, acts_at=1)
def clipped_before_unscaling(watch: Watch, fixed: bool) -> None:
    """A scale of 65,536 is in the gradients when they are cut to a norm of 1."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    watch.attach(model, [optimizer], scaler=scaler)
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x).float(), y)
        scaler.scale(loss).backward()
        if fixed:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()


PARTS = 4


@bug("grad-scale", within=0, acts_at=1)
def accumulated_without_dividing(watch: Watch, fixed: bool) -> None:
    """Four means are added up: the gradient is that of the sum of them. The last batch has a part that is smaller."""
    data, _ = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.02)
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 2):
        optimizer.zero_grad()
        for images, labels in zip(x.chunk(PARTS), y.chunk(PARTS), strict=True):
            loss = F.cross_entropy(model(images), labels)
            if fixed:
                loss = loss / PARTS
            loss.backward()
        optimizer.step()


@bug("grad-scale", within=0, acts_at=1)
def divided_by_the_loop_and_by_the_library(watch: Watch, fixed: bool) -> None:
    """The library's backward divides by the number of parts, which the loop has done already."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    scaler = torch.amp.GradScaler("cpu")
    watch.attach(model, [optimizer], scaler=scaler)

    def backward(loss: Tensor) -> None:
        scaler.scale(loss / PARTS).backward()

    for x, y in batches(watch, loader(data), 2):
        for images, labels in zip(x.chunk(PARTS), y.chunk(PARTS), strict=True):
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(images).float(), labels)
            backward(loss if fixed else loss / PARTS)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


@bug("grad-scale", within=0, acts_at=1)
def weighted_by_labels_and_divided_as_well(watch: Watch, fixed: bool) -> None:
    """Images without a label are ignored, so parts count by their labels; the old division was left in."""
    data, _ = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.05)
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 2):
        y = torch.where(torch.rand(len(y)) < 0.5, y, -100)
        labelled = (y != -100).sum()
        optimizer.zero_grad()
        for images, labels in zip(x.chunk(PARTS), y.chunk(PARTS), strict=True):
            loss = F.cross_entropy(model(images), labels, ignore_index=-100)
            loss = loss * (labels != -100).sum() / labelled
            (loss if fixed else loss / PARTS).backward()
        optimizer.step()


CORRUPT = 100


@bug("spike", within=0, acts_at=CORRUPT)
def batch_that_is_not_normalised(watch: Watch, fixed: bool) -> None:
    """One shard of the data was written as bytes from 0 to 255, not from 0 to 1."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    for step, (x, y) in enumerate(batches(watch, loader(data), 5), 1):
        if step == CORRUPT and not fixed:
            x = 255 * x
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@bug("update-ratio", within=14, acts_at=1)
def settings_of_two_other_optimizers(watch: Watch, fixed: bool) -> None:
    """Adam with the rate of SGD and the decay of AdamW, which Adam adds to the gradient: weights are replaced."""
    data, _ = digits()
    model = nn.Sequential(nn.Linear(64, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, CLASSES))
    kind, rate = (AdamW, 1e-3) if fixed else (Adam, 0.3)
    optimizer = kind(model.parameters(), lr=rate, weight_decay=0.1)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data), 2)


def sigmoids(depth: int, between: type[nn.Module]) -> nn.Sequential:
    widths = [64] + [32] * depth
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), between())]
    return nn.Sequential(*layers, nn.Linear(32, CLASSES))


@bug("vanishing-gradient", within=199, acts_at=1)
def deep_perceptron_of_sigmoids(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = sigmoids(2 if fixed else 10, nn.Tanh if fixed else nn.Sigmoid)
    optimizer = SGD(model.parameters(), lr=0.1)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data, batch_size=32), 10)


@bug("dead-units", within=0, acts_at=23)
def biases_that_kill_units(watch: Watch, fixed: bool) -> None:
    """An initialisation meant for logits of rare classes, on every layer."""
    data, _ = digits()
    model = perceptron(width=64)
    if not fixed:
        nn.init.constant_(model[0].bias, -4.0)  # type: ignore[arg-type]
    optimizer = SGD(model.parameters(), lr=0.05)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data), 2, done=lambda _: watch.end_epoch())


def learned(watch: Watch, labels: Tensor, rate: float, model: nn.Module | None = None) -> None:
    """Train for ten epochs and evaluate after each."""
    data, val = digits()
    data = TensorDataset(data.tensors[0], labels)
    model = model or perceptron()
    optimizer = SGD(model.parameters(), lr=rate, momentum=0.9)
    watch.attach(model, [optimizer])
    val_loader = loader(val, shuffle=False)
    train(
        watch,
        model,
        optimizer,
        loader(data),
        10,
        done=lambda _: watch.evaluate("val", lambda: scored(model, val_loader)),
    )


@bug("at-chance", within=206, acts_at=1)
def labels_in_another_order(watch: Watch, fixed: bool) -> None:
    """Images and labels were shuffled each by itself."""
    data, _ = digits()
    labels = data.tensors[1]
    learned(watch, labels if fixed else labels[torch.randperm(len(labels))], rate=0.02)


@bug("at-chance", within=206, acts_at=1)
def collapsed_to_one_class(watch: Watch, fixed: bool) -> None:
    """At this rate the first updates kill every hidden unit."""
    data, _ = digits()
    learned(watch, data.tensors[1], rate=0.02 if fixed else 5.0)


@bug("at-chance", within=206, acts_at=1)
def weights_that_begin_at_zero(watch: Watch, fixed: bool) -> None:
    """All hidden units are alike, and stay so: nothing but the last bias learns."""
    data, _ = digits()
    model = perceptron()
    for parameter in model.parameters():
        if parameter.ndim == 1 or not fixed:
            nn.init.zeros_(parameter)
    learned(watch, data.tensors[1], rate=0.02, model=model)


@bug("at-chance", within=206, acts_at=1)
def gradients_zeroed_before_the_step(watch: Watch, fixed: bool) -> None:
    """By a ``zero_grad`` that keeps the tensors: there are gradients, and all are 0."""
    data, val = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.05, momentum=0.9)
    watch.attach(model, [optimizer])
    val_loader = loader(val, shuffle=False)
    evaluate = partial(watch.evaluate, "val", lambda: scored(model, val_loader))
    for x, y in batches(watch, loader(data), 9, done=lambda _: evaluate()):
        if fixed:
            optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(x), y).backward()
        if not fixed:
            optimizer.zero_grad(set_to_none=False)
        optimizer.step()
