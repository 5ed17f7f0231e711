"""Muon, beside the one in torch."""

import copy

import torch

from engine.workloads.vit.muon import Muon, orthogonalised


def test_it_moves_weights_as_torchs_muon_does() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in ((48, 16), (16, 48), (48, 16), (16, 16))]
    ours, theirs = ([torch.nn.Parameter(matrix.clone()) for matrix in start] for _ in range(2))
    optimizers = (
        Muon(ours, lr=0.1, weight_decay=0.05, dtype=torch.bfloat16),
        torch.optim.Muon(theirs, lr=0.1, weight_decay=0.05),
    )
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert (one - other).norm() < 0.02 * moved  # bf16 products in another order


def test_an_update_has_singular_values_near_one() -> None:
    matrices = torch.randn(3, 40, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices, torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3
    assert torch.allclose(
        orthogonalised(matrices.mT, torch.float32), orthogonalised(matrices, torch.float32).mT, atol=1e-5
    )


def test_its_state_comes_back() -> None:
    one, two = (torch.nn.Parameter(torch.eye(4, 8)) for _ in range(2))
    first, second = (Muon([matrix], 0.1, 0.0, torch.float32) for matrix in (one, two))
    gradient = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    one.grad = gradient
    first.step()
    two.data.copy_(one.data)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    one.grad = two.grad = gradient.flip(0)
    first.step()
    second.step()
    assert torch.equal(one, two)
