"""Which generators were seeded, and whether before anything was drawn from them."""

import random
import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from engine import checkpoints
from engine.probes.seeds import SeedProbe


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    state = checkpoints.rng_state()
    yield
    checkpoints.restore_rng(state)


DRAWS: dict[str, Callable[[], object]] = {
    "python": random.random,
    "numpy": np.random.rand,
    "torch": lambda: torch.nn.Linear(2, 2),
}


def seed(name: str) -> Callable[[int], object]:
    """Return the function as a script finds it now, wrapped or not."""
    return {"python": random.seed, "numpy": np.random.seed, "torch": torch.manual_seed}[name]


def system_seed(name: str) -> None:
    {"python": lambda: random.seed(), "numpy": lambda: np.random.seed(None), "torch": lambda: torch.seed()}[name]()


def seen(probe: SeedProbe) -> dict[str, bool]:
    return {generator.name: generator.seeded for generator in probe.generators()}


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_a_seed_counts_when_it_comes_before_the_first_draw(name: str) -> None:
    with SeedProbe() as probe:
        seed(name)(7)
        DRAWS[name]()
    assert seen(probe) == {name: True}
    with SeedProbe() as probe:
        DRAWS[name]()
        assert seen(probe) == {name: False}
        seed(name)(7)
    assert seen(probe) == {name: False}


@pytest.mark.parametrize("name", sorted(DRAWS))
def test_what_the_system_had_at_hand_is_no_seed(name: str) -> None:
    with SeedProbe() as probe:
        system_seed(name)
    assert seen(probe) == {name: False}
    with SeedProbe() as probe:
        seed(name)(7)
        system_seed(name)
    assert seen(probe) == {name: False}


def test_generators_that_nobody_uses_are_not_listed() -> None:
    with SeedProbe() as probe:
        assert probe.generators() == ()
        random.seed(1)
        random.seed(2)
    assert seen(probe) == {"python": True}


def test_a_run_that_begins_again_counts_anew() -> None:
    with SeedProbe() as probe:
        DRAWS["numpy"]()
        probe.begin()
        checkpoints.seed_all(3)
        DRAWS["numpy"]()
    assert seen(probe) == {"python": True, "numpy": True, "torch": True}


def test_removing_it_puts_every_function_back_and_seeding_works_throughout() -> None:
    before = (random.seed, np.random.seed, torch.manual_seed, torch.random.manual_seed, torch.seed, torch.cuda.seed)
    with SeedProbe():
        assert random.seed is not before[0]
        assert torch.manual_seed(5).initial_seed() == 5
        drawn = torch.rand(2)
    after = (random.seed, np.random.seed, torch.manual_seed, torch.random.manual_seed, torch.seed, torch.cuda.seed)
    assert after == before
    assert torch.equal(torch.rand(2, generator=torch.Generator().manual_seed(5)), drawn)


def test_torch_that_is_loaded_later_is_watched_from_the_next_install_on() -> None:
    script = (
        "import sys; from engine.probes.seeds import SeedProbe; probe = SeedProbe().install();"
        "assert 'torch' not in sys.modules; import torch; before = probe.generators(); probe.install();"
        "torch.rand(1); print(before, [(g.name, g.seeded) for g in probe.generators()])"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout == "() [('torch', False)]\n"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_generators_of_a_gpu_are_seeded_with_torch() -> None:
    torch.cuda.init()
    with SeedProbe() as probe:
        torch.manual_seed(3)
        torch.rand(1, device="cuda")
    assert seen(probe) == {"torch": True, "cuda": True}
