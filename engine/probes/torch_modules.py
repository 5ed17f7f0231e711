"""What a model is made of, as far as norms ask: names, modules that depend on the mode, roots, weight matrices."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from norms.signals import Names

_DROP_PATHS = ("DropPath", "StochasticDepth")
"""Stochastic depth of timm and torchvision, known by name: neither library has to be there."""


@dataclass(frozen=True)
class Declared:
    """What a person declared, so that it is not reported: names, names of what holds them, or patterns with ``*``."""

    frozen: Names = ()
    """Parameters that are not trained."""
    stochastic: Names = ()
    """Modules that draw random numbers in evaluation (Monte Carlo dropout)."""


class Held(NamedTuple):
    """A parameter in a group of an optimizer."""

    name: str
    parameter: Tensor
    group: dict[str, Any]
    optimizer: torch.optim.Optimizer


def is_declared(name: str, declared: Names) -> bool:
    return any(name == item or name.startswith(f"{item}.") or fnmatchcase(name, item) for item in declared)


def depends_on_mode(module: nn.Module) -> bool:
    """Whether the module computes something else in evaluation than in training."""
    match module:
        case nn.modules.dropout._DropoutNd():
            return module.p > 0
        case nn.modules.batchnorm._NormBase():
            return module.running_mean is not None
        case nn.MultiheadAttention() | nn.RNNBase():
            return module.dropout > 0
        case nn.RReLU():
            return module.lower != module.upper
    if type(module).__name__ in _DROP_PATHS:
        return bool(getattr(module, "drop_prob", 0) or getattr(module, "p", 0))
    return False


def roots_of(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules whose forward pass is that of a model: the model, or those that a bare container holds."""
    if isinstance(model, nn.ModuleList | nn.ModuleDict):
        for name, child in model.named_children():
            yield from roots_of(child, f"{prefix}{name}.")
    else:
        yield prefix.removesuffix("."), model


def joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix and name else prefix or name


def first_and_last_matrix(model: nn.Module) -> tuple[str, str] | None:
    """Return the names of the first and the last weight matrix in the model's order; embeddings are tables."""
    names = [
        joined(path, name)
        for path, module in model.named_modules()
        if not isinstance(module, nn.Embedding | nn.EmbeddingBag)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.ndim >= 2 and "weight" in name and parameter.requires_grad
    ]
    return (names[0], names[-1]) if len(names) > 1 else None


def unseen() -> bool:
    """Whether what runs now is only traced or captured, to be run later without us: nothing may be looked at."""
    if torch.compiler.is_compiling():
        return True
    return bool(torch.cuda.is_initialized()) and torch.cuda.is_current_stream_capturing()  # type: ignore[no-untyped-call]


def clear_gradients(optimizer: torch.optim.Optimizer) -> None:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


class Roster:
    """The parameters of a model and of the optimizers that train it, under their names."""

    def __init__(self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._model = model
        self.optimizers = optimizers
        self._names = {id(parameter): name for name, parameter in model.named_parameters()}

    def held(self, optimizers: Sequence[torch.optim.Optimizer]) -> list[Held]:
        """Return all parameters of the optimizers, as their groups are now."""
        return [
            Held(self.name_of(parameter, optimizer), parameter, group, optimizer)
            for optimizer in optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        ]

    def name_of(self, parameter: Tensor, optimizer: torch.optim.Optimizer) -> str:
        """Return the dotted name, or the place in the optimizer of a parameter that the model does not have."""
        name = self._names.get(id(parameter))
        if name is None:
            self._names |= {id(parameter): name for name, parameter in self._model.named_parameters()}
            places = itertools.count()
            for group in optimizer.param_groups:
                for other in group["params"]:
                    self._names.setdefault(id(other), f"{type(optimizer).__name__}.{next(places)}")
            name = self._names[id(parameter)]
        return name

    def uncovered(self, declared: Names) -> Names:
        """Return trainable parameters of the model that no optimizer holds; those declared are left out."""
        covered = {id(held.parameter) for held in self.held(self.optimizers)}
        return tuple(
            name
            for name, parameter in self._model.named_parameters()
            if parameter.requires_grad and id(parameter) not in covered and not is_declared(name, declared)
        )

    def knows(self, tensor: Tensor) -> bool:
        """Whether the tensor is a parameter of the model or of an optimizer."""
        return any(tensor is parameter for parameter in self._model.parameters()) or any(
            tensor is held.parameter for held in self.held(self.optimizers)
        )
