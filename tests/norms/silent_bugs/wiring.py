"""Parameters that never train: the optimizer, the graph or the arithmetic does not reach them."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam

from tests.norms.silent_bugs.harness import Watch, bug
from tests.norms.silent_bugs.scripts import CLASSES, batches, digits, loader, perceptron, train


@bug("optimizer-coverage", within=0)
def forgotten_parameter_group(watch: Watch, fixed: bool) -> None:
    """Groups with rates of their own, and the last layer in none of them."""
    data, _ = digits()
    model = perceptron()
    groups: list[dict[str, Any]] = [{"params": model[0].parameters(), "lr": 1e-2}]
    if fixed:
        groups.append({"params": model[2].parameters(), "lr": 1e-3})
    optimizer = Adam(groups)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


@bug("optimizer-coverage", within=0, also=["missing-grad"])
def head_replaced_after_the_optimizer(watch: Watch, fixed: bool) -> None:
    """Fine-tuning: the optimizer holds the head of the pretrained model, not the new one."""
    data, _ = digits()
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1000))
    optimizer = Adam(model.parameters(), lr=1e-3)
    model[2] = nn.Linear(32, CLASSES)
    if fixed:
        optimizer = Adam(model.parameters(), lr=1e-3)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


@bug("optimizer-coverage", within=0, also=["missing-grad"])
def model_copied_after_the_optimizer(watch: Watch, fixed: bool) -> None:
    """Each run was to have a copy of its own; the optimizer stayed with the original."""
    data, _ = digits()
    original = perceptron()
    optimizer = Adam(original.parameters())
    model = original if fixed else copy.deepcopy(original)
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


@bug("missing-grad", within=19, acts_at=24)
def head_reset_while_training(watch: Watch, fixed: bool) -> None:
    """After an epoch the head is made anew; the optimizer goes on with the old one."""
    data, _ = digits()
    model = perceptron()
    optimizer = SGD(model.parameters(), lr=0.1)
    watch.attach(model, [optimizer])

    def reset(epoch: int) -> None:
        if fixed:
            model[2].reset_parameters()  # type: ignore[operator]
        elif epoch == 1:
            model[2] = nn.Linear(32, CLASSES)

    train(watch, model, optimizer, loader(data), 3, done=reset)


@bug("no-update", within=2, acts_at=1)
def updates_lost_in_bfloat16(watch: Watch, fixed: bool) -> None:
    """Weights in bfloat16 have three digits: an update of a thousandth is rounded away."""
    data, _ = digits()
    dtype = torch.float32 if fixed else torch.bfloat16
    model = perceptron().to(dtype)
    optimizer = SGD(model.parameters(), lr=1e-4)
    watch.attach(model, [optimizer])
    for x, y in batches(watch, loader(data), 1):
        optimizer.zero_grad()
        F.cross_entropy(model(x.to(dtype)).float(), y).backward()
        optimizer.step()


class Encoded(nn.Module):
    """An encoder, and a head on what it says."""

    def __init__(self, cut: str) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, CLASSES)
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        if self.cut == "no_grad":
            with torch.no_grad():
                features = self.encoder(x)
        else:
            features = self.encoder(x)
        return self.head(features.detach() if self.cut == "detach" else features)


@bug("missing-grad", within=1, acts_at=1)
def encoder_detached(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = Encoded("" if fixed else "detach")
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


@bug("missing-grad", within=1, acts_at=1)
def encoder_under_no_grad(watch: Watch, fixed: bool) -> None:
    """Left from the days when the encoder was frozen."""
    data, _ = digits()
    model = Encoded("" if fixed else "no_grad")
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


class Stacked(nn.Module):
    """Hidden layers in a list; a plain one hides them from ``parameters()``."""

    def __init__(self, modules: bool) -> None:
        super().__init__()
        self.first = nn.Linear(64, 32)
        layers = [nn.Linear(32, 32) for _ in range(2)]
        self.layers = nn.ModuleList(layers) if modules else layers
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)  # type: ignore[no-any-return]


@bug("missing-grad", within=1, acts_at=1)
def layers_in_a_list(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = Stacked(modules=fixed)
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))


class CopyAndPaste(nn.Module):
    """Two hidden layers, of which the first is called twice."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.head = nn.Linear(64, CLASSES)
        self.fixed = fixed

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        x = (self.second if self.fixed else self.first)(x).relu()
        return self.head(x)  # type: ignore[no-any-return]


@bug("missing-grad", within=1, acts_at=1)
def layer_called_twice_for_another(watch: Watch, fixed: bool) -> None:
    data, _ = digits()
    model = CopyAndPaste(fixed)
    optimizer = Adam(model.parameters())
    watch.attach(model, [optimizer])
    train(watch, model, optimizer, loader(data))
