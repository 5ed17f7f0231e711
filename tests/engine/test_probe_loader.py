"""What a loader draws: noted without changing it, in this process and in workers."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from engine.probes.loader import LoaderProbe

SAMPLES = 24


class Noisy(Dataset[Tensor]):
    """Adds a random number to each sample, drawn where ``source`` says."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.generator = np.random.default_rng(0)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        drawn = {
            "python": random.random,
            "numpy": np.random.rand,
            "torch": lambda: float(torch.rand(())),
            "own": self.generator.random,
            "none": lambda: 0.0,
        }[self.source]()
        return torch.tensor(index + drawn)


class Counting(IterableDataset[int]):
    def __iter__(self) -> Any:
        return iter(range(SAMPLES))


def loader(dataset: Any, **options: Any) -> "DataLoader[Any]":
    return DataLoader(dataset, **({"batch_size": 4, "shuffle": True} | options))


def same_seed(_: int) -> None:
    np.random.seed(0)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", ["python", "numpy", "torch", "own", "none"])
def test_a_loader_yields_the_same_with_and_without_the_probe(source: str, workers: int) -> None:
    def epochs(probed: bool) -> list[Tensor]:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        batches = loader(Noisy(source), num_workers=workers)
        probe = LoaderProbe(batches)
        if probed:
            probe.install()
        drawn = [batch for _ in range(2) for batch in batches]
        probe.remove()
        return [*drawn, *batches, torch.rand(3)]

    assert all(torch.equal(a, b) for a, b in zip(epochs(True), epochs(False), strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_new_order_has_another_digest_and_the_same_order_the_same(workers: int) -> None:
    shuffled, fixed = (loader(Noisy("none"), shuffle=shuffle, num_workers=workers) for shuffle in (True, False))
    with LoaderProbe(shuffled) as probe, LoaderProbe(fixed) as other:
        orders = []
        for _ in range(2):
            assert len(list(shuffled)) == len(list(fixed)) == SAMPLES // 4
            orders.append((probe.epoch_facts()["order_digest"], other.epoch_facts()["order_digest"]))
    assert orders[0][0] != orders[1][0]
    assert orders[0][1] == orders[1][1] != orders[0][0]


def test_one_batch_and_a_stream_have_no_order() -> None:
    for batches in (loader(Noisy("none"), batch_size=SAMPLES), loader(Counting(), shuffle=False)):
        with LoaderProbe(batches) as probe:
            assert list(batches)
            assert probe.epoch_facts() == {"order_digest": None, "worker_draws": None}


def test_a_sampler_is_reached_through_the_probe() -> None:
    from torch.utils.data.distributed import DistributedSampler

    dataset = TensorDataset(torch.arange(SAMPLES))
    sampler = DistributedSampler(dataset, num_replicas=2, rank=0, seed=1)
    batches = DataLoader(dataset, batch_size=4, sampler=sampler)
    with LoaderProbe(batches) as probe:
        digests = []
        for epoch in (0, 0, 1):
            batches.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            batches.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
            assert len(list(batches)) == len(batches)
            digests.append(probe.epoch_facts()["order_digest"])
    assert digests[0] == digests[1] != digests[2]
    assert batches.sampler is sampler


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("source", ["python", "numpy", "torch"])
def test_draws_differ_between_workers_and_epochs(source: str, workers: int) -> None:
    batches = loader(Noisy(source), num_workers=workers)
    with LoaderProbe(batches) as probe:
        drawn = []
        for _ in range(2):
            list(batches)
            drawn += probe.epoch_facts()["worker_draws"]
    assert len(set(drawn)) == len(drawn) == 2 * max(workers, 1)


def test_workers_that_share_a_generator_of_the_data_set_draw_the_same() -> None:
    batches = loader(Noisy("own"), num_workers=2)
    with LoaderProbe(batches) as probe:
        drawn = []
        for _ in range(2):
            list(batches)
            drawn += probe.epoch_facts()["worker_draws"]
    assert len(drawn) == 4
    assert len(set(drawn)) == 1  # each worker of each epoch starts from the main process's copy


def test_workers_seeded_alike_draw_the_same() -> None:
    batches = loader(Noisy("numpy"), num_workers=2, worker_init_fn=same_seed)
    with LoaderProbe(batches) as probe:
        list(batches)
        first, second = probe.epoch_facts()["worker_draws"]
    assert first == second
    assert batches.worker_init_fn is same_seed


def test_an_epoch_reseeded_in_this_process_repeats_its_draws() -> None:
    batches = loader(Noisy("numpy"))
    with LoaderProbe(batches) as probe:
        drawn = []
        for _ in range(2):
            np.random.seed(3)
            list(batches)
            drawn.append(probe.epoch_facts()["worker_draws"])
    assert drawn[0] is not None
    assert drawn[0] == drawn[1]


def test_transforms_without_chance_draw_nothing() -> None:
    for workers in (0, 2):
        batches = loader(Noisy("none"), num_workers=workers)
        with LoaderProbe(batches) as probe:
            list(batches)
            assert probe.epoch_facts()["worker_draws"] is None


def test_persistent_workers_are_noted_in_their_first_epoch() -> None:
    batches = loader(Noisy("numpy"), num_workers=2, persistent_workers=True)
    with LoaderProbe(batches) as probe:
        list(batches)
        assert len(set(probe.epoch_facts()["worker_draws"])) == 2
        list(batches)
        facts = probe.epoch_facts()
    assert facts["worker_draws"] is None
    assert facts["order_digest"] is not None


def test_spawned_workers_are_noted_too() -> None:
    batches = loader(Noisy("own"), num_workers=2, multiprocessing_context="spawn")
    with LoaderProbe(batches) as probe:
        list(batches)
        first, second = probe.epoch_facts()["worker_draws"]
    assert first == second


def test_the_loader_is_put_back_as_it_was() -> None:
    batches = loader(Noisy("none"))
    before = dict(vars(batches))
    with LoaderProbe(batches):
        assert vars(batches) != before
    assert vars(batches) == before
