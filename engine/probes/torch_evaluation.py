"""What the forward passes of an evaluation show: modes, inputs, buffers, and whether a second pass gives the same."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine.checkpoints import restore_rng, rng_state
from engine.probes.torch_modules import is_declared
from norms.signals import Names

REPEAT_EVERY = 10
"""Evaluations of a split between two whose first batch is done twice; the first is one."""
COPIED_ELEMENTS = 1_048_576
"""Buffers up to this size are copied, so that they can be put back; larger ones are only told by their version."""
HASHED_ELEMENTS = 4096
"""Numbers of a row that its hash is taken of, at places drawn once: a distorted row differs in most of its numbers."""


class EvaluationSeen:
    """One evaluation; ``facts`` gives fields of the Evaluation signal, None where nothing was seen.

    Args:
        model: The model.
        modal: Its modules that depend on the mode, by name.
        stochastic: Names of modules that are declared to draw random numbers in evaluation.
        count: How many evaluations of the split there were, this one included.
    """

    def __init__(self, model: nn.Module, modal: Mapping[str, nn.Module], stochastic: Names, count: int) -> None:
        self._model = model
        self._modal = {name: module for name, module in modal.items() if not is_declared(name, stochastic)}
        self._repeats = count % REPEAT_EVERY == 1 and not stochastic
        self._in_training: set[str] | None = None
        self._again: tuple[Any, Any] | None = None
        self._repeating = False
        self._difference: float | None = None
        self._digest = Digest()
        self._before = {name: (buffer, _version(buffer), _copy(buffer)) for name, buffer in model.named_buffers()}
        self._changed: Names = ()

    # --- as the passes go by -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def enter(self, name: str, args: Any, kwargs: Any) -> None:
        """Look at the inputs and modes as a root begins a pass."""
        if self._repeating:
            return
        prefix = f"{name}." if name else ""
        found = {path for path, module in self._modal.items() if module.training and path.startswith(prefix)}
        found |= {name} if name in self._modal and self._modal[name].training else set()
        self._in_training = (self._in_training or set()) | found
        for place, tensor in enumerate(tensors_of([args, kwargs])):
            self._digest.take(place, tensor)
        if self._repeats:
            self._again = _copied(args), _copied(kwargs)  # a model may write into its inputs

    def leave(self, root: nn.Module, output: Any) -> None:
        """Do the first pass again as it ends, and leave generators, buffers and attributes as they were."""
        if self._repeating or not self._repeats or self._again is None:
            return
        args, kwargs = self._again
        self._again, self._repeats, self._repeating = None, False, True
        first = [tensor.detach().clone() for tensor in tensors_of(output)]
        generators = rng_state()
        buffers = [(buffer, buffer.clone()) for buffer in root.buffers()]
        attributes = [(module, _attributes(module)) for module in root.modules()]
        try:
            second = list(tensors_of(root(*args, **kwargs)))
        finally:
            self._repeating = False
            with torch.no_grad():
                for buffer, copy in buffers:
                    buffer.copy_(copy)
            for module, values in attributes:
                for name in _attributes(module).keys() - values.keys():
                    del vars(module)[name]
                vars(module).update(values)
            restore_rng(generators)
        self._difference = relative_difference(first, second)

    def finish(self) -> None:
        """Compare the buffers with what they were when the evaluation began."""
        self._changed = tuple(
            name for name, (buffer, version, copy) in self._before.items() if _differs(buffer, version, copy)
        )

    # --- what was seen -----------------------------------------------------------------------------------------------

    def facts(self) -> dict[str, Any]:
        """Return in_training, buffers_changed, input_digest and repeat_difference."""
        seen = self._in_training is not None
        return {
            "in_training": tuple(name for name in self._modal if name in (self._in_training or ())) if seen else None,
            "buffers_changed": self._changed,
            "input_digest": self._digest.text(),
            "repeat_difference": self._difference,
        }

    @torch.no_grad()
    def restore_buffers(self) -> Names:
        """Put back the buffers that the evaluation changed, as far as they were copied; return their names."""
        restored = []
        for name in self._changed:
            buffer, _, copy = self._before[name]
            if copy is not None:
                buffer.copy_(copy)
                restored.append(name)
        return tuple(restored)


class Digest:
    """A digest of rows, whatever their order and the batches they come in; on a GPU it never waits for it.

    Each row's bits, as whole numbers, are multiplied by fixed random odd numbers, added up modulo 2^64 and mixed; the
    digest is the sum over all rows.
    """

    def __init__(self) -> None:
        self._sum: Tensor | None = None
        self._rows = 0
        self._keys: dict[tuple[int, int, torch.device], tuple[Tensor, Tensor | None]] = {}

    @torch.no_grad()
    def take(self, place: int, tensor: Tensor) -> None:
        """Take in the rows of the tensor at ``place`` among the inputs."""
        if not tensor.numel() or tensor.is_sparse:
            return
        rows = whole_numbers(tensor.detach()).reshape(tensor.shape[0] if tensor.ndim else 1, -1)
        factors, columns = self._key(place, rows.shape[1], rows.device)
        if columns is not None:
            rows = rows[:, columns]
        hashed = (rows.to(torch.int64) * factors).sum(1)
        hashed = (hashed ^ (hashed >> 31)) * 0x2545F4914F6CDD1D  # so that rows do not merely add up
        total = (hashed ^ (hashed >> 29)).sum()
        self._sum = total if self._sum is None else self._sum + total.to(self._sum.device)
        self._rows += len(rows)

    def _key(self, place: int, width: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
        if (key := (place, width, device)) not in self._keys:
            generator = np.random.default_rng((place, width))
            size = min(width, HASHED_ELEMENTS)
            factors = torch.from_numpy(generator.integers(0, 2**62, size) * 2 + 1).to(device)
            drawn = np.sort(generator.choice(width, size, replace=False)) if size < width else None
            self._keys[key] = factors, None if drawn is None else torch.from_numpy(drawn).to(device)
        return self._keys[key]

    def text(self) -> str | None:
        return None if self._sum is None else f"{self._rows}:{int(self._sum) % 2**64:016x}"


def whole_numbers(tensor: Tensor) -> Tensor:
    """Return the bits of a tensor's numbers as whole ones."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point():
        return tensor
    kinds = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(kinds[tensor.element_size()])


def tensors_of(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in a value, in its own order: in tuples, lists, dictionaries and what behaves like these."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_of(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_of(item)


def relative_difference(first: list[Tensor], second: list[Tensor]) -> float | None:
    """Return the largest difference, over the largest magnitude of its tensor; infinite where shapes differ."""
    if len(first) != len(second) or any(a.shape != b.shape for a, b in zip(first, second, strict=True)):
        return math.inf
    found = [0.0]
    for a, b in zip(first, second, strict=True):
        if a.numel():
            a, b = a.detach().double(), b.detach().double()
            scale = max(a.abs().max().item(), b.abs().max().item())
            found.append((a - b).abs().max().item() / scale if scale else 0.0)
    return max(found, key=lambda value: math.inf if math.isnan(value) else value) if first else None


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return type(value)({key: _copied(item) for key, item in value.items()})
    if isinstance(value, list | tuple) and type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return value


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module, such as a counter or a hidden state."""
    return {name: value for name, value in vars(module).items() if not name.startswith("_")}


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version


def _copy(tensor: Tensor) -> Tensor | None:
    return tensor.detach().clone() if tensor.numel() <= COPIED_ELEMENTS else None


def _differs(buffer: Tensor, version: int | None, copy: Tensor | None) -> bool:
    if version is not None and version == buffer._version:
        return False
    if copy is None:
        return version is not None
    if not buffer.is_floating_point():
        return not torch.equal(buffer, copy)
    return not bool(((buffer == copy) | (buffer.isnan() & copy.isnan())).all())
