"""Defects planted on purpose into the training of the ViT (``violation=…``): each the real one, in the real path.

Whoever trains calls `begin`, `forgets_seeds` and `plant`; nothing else knows of them, the norms least of all. What a
defect needs to show (dropout, mixed precision) is switched on by its file in configs/violation.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from configs.schema import VitConfig
from sessions.events import Json

if TYPE_CHECKING:
    from engine.watch import Watch
    from engine.workloads.vit.train import Resident

LOGIT_SCALE = 2.0**20
"""A power of two, so that nothing is rounded where it does no harm; logits from 1/16 on overflow fp16, which ends at
65,504: those of an untrained model do."""
OVERFLOWS_AFTER = 0.35
"""Share of the run after which the logits overflow: when much has been learned that can be lost, within an epoch."""
LEFT_OUT = ("optimizers", "rng")
"""What an incomplete checkpoint lacks, as one that was written for inference does."""
Keep = Callable[[Json], Json]
"""Takes the whole state of a run and returns what of it is saved."""


def begin(config: VitConfig) -> None:
    """Have a process whose seeds will be forgotten begin as unpredictably as it should.

    Python and NumPy take their first seed from the system; torch would start from a constant.
    """
    if forgets_seeds(config):
        torch.seed()


def forgets_seeds(config: VitConfig) -> bool:
    """Whether nobody seeds the random generators."""
    return config.violation == "nondeterminism"


def plant(
    config: VitConfig,
    total: int,
    model: nn.Module,
    evaluated: Sequence["Resident"],
    augment: Callable[[Tensor], Tensor],
    watch: "Watch",
) -> Keep:
    """Plant the defect that the configuration asks for, and return what of a state is saved.

    Args:
        config: Names the defect.
        total: Updates of the whole run.
        model: With a layer ``head``.
        evaluated: What is evaluated on.
        augment: A random transform of training.
        watch: Told what was planted, for the record.
    """
    match config.violation:
        case "amp_nan":
            after = max(1, round(OVERFLOWS_AFTER * total))
            _overflow(model, lambda: watch.steps_done >= after)
            watch.log("info", f"planted: the logits overflow in half precision from update {after + 1} on", "injection")
        case "eval_mode_bug":
            model.eval = lambda: model  # type: ignore[method-assign]
            watch.log("info", "planted: model.eval() does nothing", "injection")
        case "aug_leak":
            for part in evaluated:
                part.transforms = (augment,)
            watch.log("info", "planted: evaluation goes through the random crop of training", "injection")
        case "checkpoint_incomplete":
            watch.log("info", f"planted: checkpoints lack {' and '.join(LEFT_OUT)}", "injection")
            return lambda state: {name: part for name, part in state.items() if name not in LEFT_OUT}
    return lambda state: state


def _overflow(model: nn.Module, begun: Callable[[], bool]) -> None:
    """Have the logits of ``model.head`` overflow once it has ``begun``, where it computes in half precision.

    They are scaled up and down again, as by a temperature or a loss scale; in fp16 that is infinite, and the loss NaN.
    """

    def scaled(module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor | None:
        if not begun() or not torch.is_autocast_enabled(logits.device.type):
            return None
        return (logits.half() * LOGIT_SCALE / LOGIT_SCALE).to(logits.dtype)

    assert isinstance(model.head, nn.Module)
    model.head.register_forward_hook(scaled)
