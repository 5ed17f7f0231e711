"""Whether several backward passes add up to the gradient of one batch, told without another pass.

A gradient is linear in the factor on its loss. A pass that differentiates ``weight * loss``, where ``loss`` is the mean
over ``count`` samples, adds ``weight * gradient``; one batch of all samples gives the sum of ``count / total *
gradient``. Where each weight is the same multiple of ``count / total``, that multiple is the exact ratio of the two,
whatever the gradients are; it is the sum of the weights. Weights that are all the same, of unequal counts, are no
multiple of them: there the sum of the weights is only the factor on the average, which is the ratio where the parts'
gradients are alike.

Not seen, as it takes the gradients of the parts themselves: that a mean of means, rightly divided by the number of
parts, gives each sample (each token) of a smaller part more weight than one of a larger. Class weights do not count as
samples, and what batch norm or dropout make of a smaller batch is no matter of scale. Nothing is told (None) where the
loss was compiled, reduced otherwise than to its mean, or bears more than constant factors; where these vary otherwise
than the counts; where one is above 1, a weight that somebody chose; or where two passes are not the parts of one batch:

- several forward passes to a backward pass, or the other way round: terms of one loss
- other functions, numbers of classes or optimizers: tasks, adversaries
- the same object as target twice, inputs that require a gradient, a target that is one number throughout (real, fake)

Two losses of the same form on data of their own, differentiated one after the other, look as parts do.
"""

import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from msgspec.structs import replace
from torch import Tensor
from torch.autograd.graph import Node

from engine.probes.torch_scaling import Reading
from norms.signals import Step

TOLERANCE = 1e-3
"""Relative, within which factors are the same."""
_KEY = "nora.mean"
_FACTORS = frozenset(
    f"{name}Backward0" for name in ("Mul", "Div", "ToCopy", "Clone", "View", "Squeeze", "Unsqueeze", "Alias")
)
"""Nodes that multiply a number by a constant, or leave it as it is."""
_AT_MOST = 8
"""Such nodes between a loss and what is differentiated."""


class Mean(NamedTuple):
    """The result of a loss function with the reduction "mean"."""

    kind: tuple[str, int]
    """The function, and the number of classes."""
    value: Tensor
    samples: Tensor
    """How many the mean is over, infinite where the target is one number throughout."""
    target: weakref.ref[Tensor]


class Part(NamedTuple):
    """One backward pass, through one mean."""

    mean: Mean
    weight: Tensor
    """The factor on it in what was differentiated."""


@torch.no_grad()
def note_mean(name: str, given: Mapping[str, Any], loss: Any) -> None:
    """Note with the node of a loss in the graph what it is the mean of; the note goes with the graph."""
    inputs, target = given.get("input"), given.get("target")
    if not (isinstance(inputs, Tensor) and isinstance(target, Tensor) and isinstance(loss, Tensor) and target.numel()):
        return
    if loss.grad_fn is None or given.get("reduction", "mean") != "mean":
        return
    if given.get("size_average") is not None or given.get("reduce") is not None:
        return
    if not target.is_floating_point():
        count = (target != given.get("ignore_index", -100)).sum()
    elif target.numel() > 1:
        count = target.numel() / (target.amax() != target.amin())
    else:
        count = torch.ones(())
    classes = inputs.shape[1] if inputs.ndim > 1 else 1
    value = loss.detach().clone()  # a loop may divide the loss in place
    _notes(loss.grad_fn)[_KEY] = Mean((name, classes), value, count, weakref.ref(target))


def part_of(differentiated: Tensor, unscaled: Tensor) -> Part | None:
    """Follow what is differentiated down to a noted mean; None where there is more to it than constant factors.

    Args:
        differentiated: A scalar in a graph.
        unscaled: Its value without the scaler's factor.
    """
    node = differentiated.grad_fn
    for _ in range(_AT_MOST):
        if node is None:
            return None
        mean = _notes(node).get(_KEY)
        if isinstance(mean, Mean):
            return Part(mean, unscaled.float() / mean.value.float())
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if node.name() not in _FACTORS or len(parents) != 1:
            return None
        node = parents[0]
    return None


def _notes(node: Node) -> dict[Any, Any]:
    """Return what torch keeps for others with a node, as long as the node lives; its stub takes this for a method."""
    return cast("dict[Any, Any]", node.metadata)


class Accumulation:
    """Finds ``Step.accumulated_ratio`` of the updates that share every optimizer."""

    def __init__(self) -> None:
        self.met = False
        """Whether an update was made of several backward passes: from then on means are noted."""
        self._passes = 0
        self._samples = 0.0

    def read(self, parts: Sequence[Part | None], reading: Reading) -> Callable[[Step], Step]:
        """Have the backward passes of an update read; the callable puts the ratio into its signal."""
        if len(parts) < 2:
            return lambda signal: signal
        self.met = True
        known = [part for part in parts if part is not None]
        targets = {id(part.mean.target) for part in known}  # one reference for all who refer to the same object
        if len(known) < len(parts) or len(targets) < len(known) or len({part.mean.kind for part in known}) > 1:
            return lambda signal: signal
        at = [(reading.add(part.weight), reading.add(part.mean.samples)) for part in known]

        def finish(signal: Step) -> Step:
            weights, counts = zip(*((reading.values(w)[0], reading.values(n)[0]) for w, n in at), strict=True)
            return replace(signal, accumulated_ratio=self._ratio(weights, counts))

        return finish

    def _ratio(self, weights: Sequence[float], counts: Sequence[float]) -> float | None:
        """NaN (a loss of 0, or of nothing but ignored targets) and infinity: no ratio can be had."""
        total = math.fsum(counts)
        if not all(0 < n < math.inf for n in counts) or not all(0 < w <= 1 + TOLERANCE for w in weights):
            return None
        self._passes = max(self._passes, len(weights))
        self._samples = max(self._samples, total)
        by_sample = [weight / count for weight, count in zip(weights, counts, strict=True)]
        if not (_all_are(weights[0], weights) or _all_are(by_sample[0], by_sample)):
            return None
        ratio = math.fsum(weights)
        # What is left over at the end of an epoch may be divided as what is full, so that each sample counts the same.
        as_full = _all_are(1 / self._passes, weights) or _all_are(1 / self._samples, by_sample)
        return None if as_full and not _all_are(1.0, [ratio]) else ratio


def _all_are(wanted: float, values: Sequence[float]) -> bool:
    return all(math.isclose(value, wanted, rel_tol=TOLERANCE) for value in values)
