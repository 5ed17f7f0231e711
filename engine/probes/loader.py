"""What a loader of torch draws in an epoch: the order of its samples, and the random numbers of its workers.

Nothing is drawn here and no generator is moved: states are read, and compared for equality. Equal states give equal
numbers.
"""

import hashlib
import pickle
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

KINDS = ("python", "numpy", "torch", "own")
"""Generators: the three global ones, and those that data set and transforms keep for themselves."""
_DIGEST = 16
_DEPTH = 4
"""Attributes from the data set down in which a generator of its own is looked for."""
_HELD = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)


class LoaderProbe:
    """Notes what a ``DataLoader`` draws, from ``install`` to ``remove``. A context manager.

    Attributes that the loader hands to its workers are wrapped: what it yields stays as it was, to the last bit. A run
    on persistent workers has its draws noted in the first epoch only: later ones go on from there.
    """

    def __init__(self, loader: "DataLoader[Any]") -> None:
        self._loader = loader
        self._kept: dict[str, Any] = {}
        self._order: _Order | None = None
        self._draws = _Draws(loader)
        self._before: dict[str, frozenset[str]] = {}

    def install(self) -> "LoaderProbe":
        """Begin; epochs that are under way are not seen."""
        loader = self._loader
        name = "sampler" if loader.batch_sampler is None else "batch_sampler"
        self._kept = {
            name: getattr(loader, name),
            "collate_fn": loader.collate_fn,
            "worker_init_fn": loader.worker_init_fn,
        }
        if not isinstance(loader.dataset, IterableDataset):
            self._order = _Order(self._kept[name], self._draws.begin)
            object.__setattr__(loader, name, self._order)  # the loader's own refuses; nothing is derived from it
        loader.collate_fn = self._draws.collate
        loader.worker_init_fn = self._draws.init_worker
        return self

    def remove(self) -> None:
        """Put the loader back as it was."""
        for name, value in self._kept.items():
            object.__setattr__(self._loader, name, value)
        self._kept = {}

    def __enter__(self) -> "LoaderProbe":
        return self.install()

    def __exit__(self, *_: object) -> None:
        self.remove()

    def epoch_facts(self) -> dict[str, Any]:
        """Return what the epoch that has just ended drew, as fields of ``EpochEnd``; None is "not seen"."""
        digest = self._order.digest() if self._order is not None else None
        return {"order_digest": digest, "worker_draws": self._worker_draws()}

    def _worker_draws(self) -> tuple[str, ...] | None:
        """Return the digests of that generator, of those drawn from, which repeats most: one kind shared is a fault."""
        drawn = {kind: digests for kind, digests in self._draws.taken().items() if digests}
        if not drawn:
            return None

        def own(kind: str) -> int:
            return len(set(drawn[kind]) - self._before.get(kind, frozenset()))

        chosen = min(drawn, key=lambda kind: own(kind) / len(drawn[kind]))
        self._before = {kind: frozenset(digests) for kind, digests in drawn.items()}
        return drawn[chosen]


class _Order:
    """A sampler that notes what it yields, and is the one that it wraps for whoever else asks."""

    def __init__(self, sampler: Any, begin: Callable[[], None]) -> None:
        self._sampler = sampler
        self._begin = begin
        self._hash = hashlib.blake2b(digest_size=_DIGEST)
        self._batches = 0

    def __iter__(self) -> Iterator[Any]:
        # A loader with workers asks twice for an iterator and uses one: an epoch begins where the first item is drawn.
        self._hash = hashlib.blake2b(digest_size=_DIGEST)
        self._batches = 0
        for rows in self._sampler:
            self._hash.update(repr(rows).encode())
            self._batches += 1
            if self._batches == 1:
                self._begin()
            yield rows

    def __len__(self) -> int:
        return len(self._sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_sampler":  # asked for while it is unpickled, before it has any
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def digest(self) -> str | None:
        """Return the digest of the order; None for one batch, whose order says nothing."""
        return self._hash.hexdigest() if self._batches > 1 else None


class _Draws:
    """Which generators the transforms of each worker draw from for its first batch, and in which state these were.

    It is copied into every worker with the loader's own functions; the digests come back through shared memory.
    """

    def __init__(self, loader: "DataLoader[Any]") -> None:
        self._dataset = loader.dataset if loader.num_workers == 0 else None
        self._init: Callable[[int], None] | None = loader.worker_init_fn
        self._collate: Callable[[Any], Any] = loader.collate_fn
        self._states: dict[str, bytes] | None = None
        self._digests = torch.zeros(max(loader.num_workers, 1), len(KINDS), _DIGEST, dtype=torch.uint8)
        self._digests.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """An epoch begins, in the main process; without workers, the first batch is about to be fetched here."""
        if self._dataset is not None:
            self._states = _states(self._dataset)

    def init_worker(self, worker: int) -> None:
        if self._init is not None:
            self._init(worker)
        info = get_worker_info()
        assert info is not None
        self._states = _states(info.dataset)

    def collate(self, samples: Any) -> Any:
        if self._states is not None:  # the first batch: what has moved since has been drawn from
            self._note(self._states)
            self._states = None
        return self._collate(samples)

    def _note(self, before: dict[str, bytes]) -> None:
        info = get_worker_info()
        after = _states(self._dataset if info is None else info.dataset)
        for i, kind in enumerate(KINDS):
            if before[kind] != after[kind]:
                self._digests[0 if info is None else info.id, i] = torch.tensor(list(before[kind]), dtype=torch.uint8)

    def taken(self) -> dict[str, tuple[str, ...]]:
        """Return the digests by kind of generator, of those workers that drew from it, and forget them."""
        found = {}
        for i, kind in enumerate(KINDS):
            rows = [bytes(row.tolist()).hex() for row in self._digests[:, i] if row.any()]
            found[kind] = tuple(rows)
        self._digests.zero_()
        return found


def _states(dataset: Any) -> dict[str, bytes]:
    """Return a digest of the state of each kind of generator."""
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "own": [_state(generator) for generator in _generators(dataset, _DEPTH)],
    }
    return {kind: hashlib.blake2b(pickle.dumps(state), digest_size=_DIGEST).digest() for kind, state in states.items()}


def _generators(item: Any, depth: int) -> Iterator[Any]:
    """Yield the generators that an object holds, in its attributes or in those of what it holds."""
    if isinstance(item, _HELD):
        yield item
    elif depth and hasattr(item, "__dict__") and not isinstance(item, torch.Tensor | type):
        for value in vars(item).values():
            # Transforms come in short lists; long ones hold samples.
            for inner in value if isinstance(value, list | tuple) and len(value) < 100 else (value,):
                yield from _generators(inner, depth - 1)


def _state(generator: Any) -> Any:
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    if isinstance(generator, torch.Generator):
        return generator.get_state().numpy().tobytes()
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()
