"""A loss that is a number, goes down, and is not the one that was meant."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam
from torch.utils.data import TensorDataset

from tests.norms.silent_bugs.harness import Watch, bug
from tests.norms.silent_bugs.scripts import batches, digits, loader, perceptron


@bug("loss-contract", within=0, acts_at=1)
def softmax_before_cross_entropy(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = perceptron() if fixed else nn.Sequential(*perceptron(), nn.Softmax(dim=1))
    optimizer = Adam(model.parameters())
    criterion = nn.CrossEntropyLoss()
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()


@bug("loss-contract", within=0, acts_at=1)
def column_against_row(watch: Watch, fixed: bool) -> None:
    """Outputs [n, 1] minus targets [n] are [n, n]: the model learns the mean. The warning was silenced long ago."""
    data, _ = digits()
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1))
    optimizer = Adam(model.parameters(), lr=1e-2)
    watch.attach(model, [optimizer])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Using a target size")
        for x, y in batches(watch, loader(data), 1):
            optimizer.zero_grad()
            predicted = model(x).squeeze(1) if fixed else model(x)
            F.mse_loss(predicted, y.float() / 9).backward()
            optimizer.step()


@bug("loss-contract", within=0, acts_at=1)
def sigmoid_applied_twice(watch: Watch, fixed: bool) -> None:
    """One label for each digit; what the loss takes for logits are probabilities already."""
    data, _ = digits()
    model = perceptron()
    with torch.no_grad():
        model[2].weight.mul_(20)  # type: ignore[operator]  # a head that is sure of itself, as pretrained ones are
    optimizer = Adam(model.parameters())
    criterion = nn.BCEWithLogitsLoss()
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        outputs = model(x) if fixed else model(x).sigmoid()
        criterion(outputs, F.one_hot(y, 10).float()).backward()
        optimizer.step()


@bug("loss-contract", within=0, acts_at=1)
def probabilities_in_nll_loss(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = nn.Sequential(*perceptron(), nn.LogSoftmax(1) if fixed else nn.Softmax(1))
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        F.nll_loss(model(x), y).backward()
        optimizer.step()


def divergence(logits: Tensor, targets: Tensor, fixed: bool) -> Tensor:
    """Return the Kullback-Leibler divergence from soft targets [n, classes], mean over n."""
    entropy = torch.xlogy(targets, targets) if fixed else targets * targets.log()
    return (entropy - targets * logits.log_softmax(1)).sum(1).mean()


@bug("non-finite", within=0, acts_at=1)
def logarithm_of_zero(watch: Watch, fixed: bool) -> None:
    """Distillation that also takes plain labels: 0 log 0 is NaN."""
    data, _ = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.05)
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        divergence(model(x), F.one_hot(y, 10).float(), fixed).backward()
        optimizer.step()


@bug("non-finite", within=0, acts_at=1)
def deviation_of_zero(watch: Watch, fixed: bool) -> None:
    """Each pixel is divided by its deviation; those in the corners are 0 in every image."""
    data, _ = digits()
    images, labels = data.tensors
    scale = images.std(0) + (1e-6 if fixed else 0.0)
    data = TensorDataset((images - images.mean(0)) / scale, labels)
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


@bug("missing-grad", within=1, acts_at=1)
def outputs_by_way_of_numpy(watch: Watch, fixed: bool) -> None:
    """Some post-processing in NumPy cut the graph, and autograd said so; requires_grad_ silenced it."""
    data, _ = digits()
    model = perceptron()
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        logits = model(x)
        if not fixed:
            logits = torch.from_numpy(logits.detach().numpy().clip(-10, 10)).requires_grad_()
        F.cross_entropy(logits, y).backward()
        optimizer.step()
