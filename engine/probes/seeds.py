"""Which random number generators a process has seeded, and whether it drew from them before."""

import functools
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from engine.probes.patches import Patches
from norms.signals import Generator


@dataclass
class _Source:
    """One generator of the process."""

    state: Callable[[], Any]
    fresh: Any
    """Its state when the watch began."""
    seeded: bool | None = None
    """Whether a seed was given before it was drawn from; None while nobody has given any."""

    def give(self, explicit: bool) -> None:
        """Note that it is about to be seeded: by a person, or by what the system had at hand."""
        if not explicit:
            self.seeded = False
        elif self.seeded is None:
            self.seeded = self.state() == self.fresh

    @property
    def drawn(self) -> bool:
        return bool(self.state() != self.fresh)


class SeedProbe:
    """Notes seeds as they are given to python's, numpy's and torch's generators, while it is installed.

    Install it before the run begins. It does not load torch; call ``install`` again once that is there.
    """

    def __init__(self) -> None:
        self._patches = Patches()
        self._sources: dict[str, _Source] = {}

    def install(self) -> Self:
        """Begin to watch what is loaded; what is watched already stays as it is noted."""
        new = {name: _Source(state, state()) for name, state in _states().items() if name not in self._sources}
        self._sources |= new
        if "python" in new:
            self._wrap(random, "seed", "python")
            self._wrap(np.random, "seed", "numpy")
        if "torch" in new:
            self._wrap_torch()
        return self

    def _wrap_torch(self) -> None:
        import torch

        for owner in (torch, torch.random):
            self._wrap(owner, "manual_seed", "torch")
            self._wrap(owner, "seed", "torch", "cuda", drawn_from_system=True)
        for owner in (torch.cuda, torch.cuda.random):
            for name in ("manual_seed", "manual_seed_all"):
                self._wrap(owner, name, "cuda")
            for name in ("seed", "seed_all"):
                self._wrap(owner, name, "cuda", drawn_from_system=True)

    def remove(self) -> None:
        """Put every function back; what was noted stays."""
        self._patches.restore()

    __enter__ = install

    def __exit__(self, *_: object) -> None:
        self.remove()

    def begin(self) -> None:
        """Forget what was noted: the run begins, or begins again. Seeds count from here on."""
        self._sources = {name: _Source(source.state, source.state()) for name, source in self._sources.items()}

    def generators(self) -> tuple[Generator, ...]:
        """Return the generators that were seeded or drawn from until now; others the run may never need."""
        return tuple(
            Generator(name=name, seeded=bool(source.seeded))
            for name, source in self._sources.items()
            if (source.seeded is not None or source.drawn) and source.state() is not None
        )

    def _wrap(self, owner: Any, function: str, *names: str, drawn_from_system: bool = False) -> None:
        def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(original)
            def seed(*args: Any, **kwargs: Any) -> Any:
                given = [*args[:1], *kwargs.values()]
                explicit = not drawn_from_system and bool(given) and given[0] is not None
                if self._patches.active and explicit:
                    self._give(names, True)
                result = original(*args, **kwargs)
                if self._patches.active and not explicit:  # afterwards: torch.seed hands what it drew on to the GPUs
                    self._give(names, False)
                return result

            return seed

        self._patches.replace(owner, function, wrap)

    def _give(self, names: tuple[str, ...], explicit: bool) -> None:
        for name in names:
            if name in self._sources:
                self._sources[name].give(explicit)


def _states() -> dict[str, Callable[[], Any]]:
    """Return how to ask each generator of the libraries that are loaded for its state."""
    states: dict[str, Callable[[], Any]] = {"python": random.getstate, "numpy": _numpy_state}
    return states | ({"torch": _torch_state, "cuda": _cuda_state} if "torch" in sys.modules else {})


def _numpy_state() -> Any:
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return name, np.asarray(keys).tobytes(), position, has_gauss, cached


def _torch_state() -> bytes:
    import torch

    return bytes(torch.get_rng_state().numpy())


def _cuda_state() -> Any:
    """Return how far the generator of the current GPU is; None while CUDA has not started, and nothing was drawn."""
    import torch

    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    return int.from_bytes(torch.cuda.get_rng_state().numpy()[8:16].tobytes(), "little")
