"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): momentum whose every update is orthogonalised.

The same arithmetic as ``torch.optim.Muon`` (tests/engine/test_muon.py compares them), but matrices of one shape are
orthogonalised together: with six blocks that is a sixth of the kernel launches, and on a CPU about two thirds of
the time (tests/bench/bench_vit.py).
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """For matrices between hidden layers only; embeddings, heads, biases and norms want AdamW.

    Args:
        params: Matrices [out, in].
        lr: Multiplied by √(out/in) for tall matrices, as in the original.
        weight_decay: Decoupled, times ``lr``.
        dtype: To orthogonalise in. bf16 is enough, and only worth it where the hardware computes in it.
        momentum: Nesterov's.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, weight_decay: float, dtype: torch.dtype, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for matrices in by_shape.values():
                self._update(matrices, **{key: group[key] for key in ("lr", "weight_decay", "momentum")})

    def _update(self, matrices: list[Tensor], lr: float, weight_decay: float, momentum: float) -> None:
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        assert len(gradients) == len(matrices), "every matrix takes part in every step"
        averages = [self._average(matrix) for matrix in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        updates = orthogonalised(torch.stack(gradients).lerp(torch.stack(averages), momentum), self._dtype)
        rows, columns = matrices[0].shape
        torch._foreach_mul_(matrices, 1 - lr * weight_decay)
        torch._foreach_add_(matrices, list(updates.unbind()), alpha=-lr * math.sqrt(max(1, rows / columns)))

    def _average(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum_buffer"]
        return average


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Return U S' Vᵀ for each matrix U S Vᵀ of [n, rows, columns], with S' from about 0.7 to 1.2, by Newton–Schulz."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)
