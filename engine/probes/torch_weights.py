"""Weights before and after an update: those that did not change, how large the change was, NaN and infinity."""

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from engine.probes.torch_gradients import dense, norms_of
from engine.probes.torch_modules import Held
from engine.probes.torch_scaling import Reading
from norms.signals import Names, Unchanged

SAMPLE_ELEMENTS = 131_072
"""Numbers that are compared at each update, in parameters taken in turn."""
SAMPLE_PARAMETERS = 8
SUSPECTS = 4
"""Parameters found unchanged that are looked at again at every update until they change."""
RATIO_ELEMENTS = 16_777_216
"""Numbers that are copied to measure the change of the weight matrices: 64 MiB in fp32."""
_EARLY_RATIOS, _RATIOS = 5, 25
"""Updates between two measurements of the ratio: up to the 50th, and later."""


def measures_ratio(number: int) -> bool:
    return number % (_EARLY_RATIOS if number <= 50 else _RATIOS) == 0


class Facts(NamedTuple):
    unchanged: tuple[Unchanged, ...] | None = None
    ratio: float | None = None
    non_finite: Names | None = None


class Looked(NamedTuple):
    """What was compared after an update, to be fetched with ``reading``."""

    reading: Reading
    finish: Callable[[], Facts]


class Weights:
    """Compares a few parameters bit by bit at each update, and all weight matrices now and then."""

    def __init__(self) -> None:
        self._next = 0
        self._suspects: set[str] = set()
        self._copies: list[tuple[Held, Tensor]] = []
        self._matrices: list[tuple[Held, Tensor]] = []

    @torch.no_grad()
    def before(self, held: Sequence[Held], number: int) -> None:
        """Copy what will be compared after update ``number``."""
        sample = [item for item in held if item.name in self._suspects][:SUSPECTS]
        sample += self._turn(held)
        self._copies = [(item, item.parameter.detach().clone()) for item in sample]
        self._matrices = []
        if measures_ratio(number):
            room = RATIO_ELEMENTS
            for item in held:
                if item.parameter.ndim >= 2 and item.parameter.grad is not None and item.parameter.numel() <= room:
                    room -= item.parameter.numel()
                    self._matrices.append((item, item.parameter.detach().clone()))

    def _turn(self, held: Sequence[Held]) -> list[Held]:
        """Return the next parameters in turn, as many as SAMPLE_ELEMENTS allows, and one at the least."""
        taken: list[Held] = []
        room = SAMPLE_ELEMENTS
        for _ in range(min(SAMPLE_PARAMETERS, len(held))):
            item = held[self._next % len(held)]
            if taken and item.parameter.numel() > room:
                break
            self._next = (self._next + 1) % len(held)
            room -= item.parameter.numel()
            if item.parameter.grad is not None and item.name not in self._suspects:
                taken.append(item)
        return taken

    @torch.no_grad()
    def after(self, left_out: set[int], factors: dict[int, float], whole: Sequence[Held]) -> Looked:
        """Compare with the copies.

        Args:
            left_out: Ids of optimizers whose update was left out; their parameters are not looked at.
            factors: By id of the optimizer, the scaler's factor that its gradients still hold.
            whole: Parameters that are all looked at for NaN and infinity; the sampled ones are in any case.
        """
        reading = Reading()
        copies = [(item, old) for item, old in self._copies if id(item.optimizer) not in left_out]
        changes = [
            (item, reading.add(_compared(item.parameter.detach(), old, item.parameter.grad))) for item, old in copies
        ]
        matrices = [(item, old) for item, old in self._matrices if id(item.optimizer) not in left_out]
        ratios = self._ratios(matrices, reading)
        looked = list({id(item.parameter): item for item in [*whole, *(item for item, _ in copies)]}.values())
        norms = reading.add(norms_of([item.parameter for item in looked])) if looked else None
        self._copies, self._matrices = [], []

        def finish() -> Facts:
            same = []
            for item, index in changes:
                moved, gradient, weight = reading.values(index)
                if not moved:
                    gradient /= factors.get(id(item.optimizer), 1.0)
                    same.append(
                        Unchanged(name=item.name, lr=float(item.group["lr"]), grad_max=gradient, weight_max=weight)
                    )
            self._suspects = {fact.name for fact in same}
            bad = (
                ()
                if norms is None
                else tuple(
                    item.name
                    for item, norm in zip(looked, reading.values(norms), strict=True)
                    if not math.isfinite(norm) and not bool(item.parameter.isfinite().all())
                )
            )
            return Facts(tuple(same) if changes else None, ratios(), bad if looked else None)

        return Looked(reading, finish)

    def _ratios(self, matrices: Sequence[tuple[Held, Tensor]], reading: Reading) -> Callable[[], float | None]:
        if not matrices:
            return lambda: None
        now = [item.parameter.detach() for item, _ in matrices]
        old = [copy for _, copy in matrices]
        weights = reading.add(norms_of(old))
        torch._foreach_sub_(old, now)
        changes = reading.add(norms_of(old))

        def finish() -> float | None:
            pairs = zip(reading.values(changes), reading.values(weights), strict=True)
            found = [change / weight for change, weight in pairs if weight]
            return median(found) if found else None

        return finish


def _compared(new: Tensor, old: Tensor, gradient: Tensor | None) -> Tensor:
    """Return [whether any number changed, largest magnitude of the gradient, and of the weights], in fp32.

    The magnitudes matter only where nothing changed: a CPU, which can be asked at no cost, is spared the rest.
    """
    if new.device.type == "cpu" and not torch.equal(new, old):
        return torch.tensor([1.0, 0.0, 0.0])
    nothing = torch.zeros((), device=new.device)
    return torch.stack(
        [
            (new != old).any().float(),
            nothing if gradient is None else torch.linalg.vector_norm(dense(gradient.detach()), math.inf).float(),
            torch.linalg.vector_norm(new, math.inf).float(),
        ]
    )
