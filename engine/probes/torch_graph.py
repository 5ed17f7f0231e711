"""The graph behind a loss: tensors that it holds and no ``parameters()`` does."""

from collections.abc import Collection
from typing import Any

from torch import Tensor

from norms.signals import Names

_AT_MOST = 20
"""Strays that are named; more say nothing new."""


def stray_leaves(losses: list[Tensor], known: Collection[int]) -> Names:
    """Return the leaves behind the losses that require a gradient, as "[64, 64] into AddmmBackward0".

    Args:
        losses: What is about to be differentiated.
        known: Ids of tensors that may require one: parameters, and inputs of the model.
    """
    seen: set[Any] = set()
    waiting = [(loss.grad_fn, "the loss") for loss in losses]
    strays: dict[int, str] = {}
    while waiting and len(strays) < _AT_MOST:
        node, user = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and not node.next_functions:
            if id(leaf) not in known:
                strays[id(leaf)] = f"{list(leaf.shape)} into {user}"
            continue
        waiting.extend((following, _transparent(node, user)) for following, _ in node.next_functions)
    return tuple(strays.values())


def _transparent(node: Any, user: str) -> str:
    """Return the name of the operation; a mere transposition or cast is named after what uses it."""
    name = str(node.name())
    return user if name in ("TBackward0", "ToCopyBackward0") else name
