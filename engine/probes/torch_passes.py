"""Forward and backward passes, as they go by: modes, the loss, and what is in the graph."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge

from engine.probes.patches import Hook, Patches
from engine.probes.torch_accumulation import Part, part_of
from engine.probes.torch_evaluation import EvaluationSeen
from engine.probes.torch_gradients import Gradients
from engine.probes.torch_graph import stray_leaves
from engine.probes.torch_modules import Roster, roots_of, unseen
from engine.probes.torch_scaling import Scaling
from norms.signals import Names

GRAPH_EVERY = 500
"""Updates between two looks at the graph, once nothing was found in the first two."""


@dataclass
class Seen:
    """What has gone by since the update before."""

    loss: Tensor | None = None
    unknown_loss: bool = False
    """Whether something else than a scalar was differentiated as well."""
    backward: int = 0
    """Backward passes."""
    in_eval: set[str] = field(default_factory=set)
    root_in_eval: bool | None = None
    strays: Names | None = None
    inputs: list[Tensor] = field(default_factory=list)
    """Of the model, that require a gradient."""
    forward: int = 0
    """Forward passes since the last backward pass."""
    parts: list[Part | None] = field(default_factory=list)
    """What each backward pass adds to the gradient; None where it cannot be told."""


class Passes:
    """Hooks the roots of a model, and wraps torch.autograd.backward, which every backward pass goes through."""

    def __init__(
        self,
        model: nn.Module,
        modal: Mapping[str, nn.Module],
        roster: Roster,
        scaling: Scaling,
        gradients: Gradients,
        settle: Callable[[], None],
    ) -> None:
        self.seen = Seen()
        self.updates = 0
        """Announced so far."""
        self.evaluation: EvaluationSeen | None = None
        """Who looks at forward passes instead, while an evaluation goes on."""
        self._model = model
        self._modal = modal
        self._roots = dict(roots_of(model))
        self._roster = roster
        self._scaling = scaling
        self._gradients = gradients
        self._settle = settle
        self._training: dict[str, bool] = {}  # by module: its mode when its root last ran
        self._nested = False
        self._strays = False
        self._handles: list[Any] = []

    def install(self, patches: Patches) -> None:
        patches.replace(torch.autograd, "backward", functools.partial(self._wrap_backward, patches))
        for name, root in self._roots.items():
            enter = Hook(functools.partial(self._enter, name))
            self._handles.append(root.register_forward_pre_hook(enter, with_kwargs=True))
            self._handles.append(root.register_forward_hook(Hook(self._leave)))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def next_update(self) -> None:
        """Begin anew: an update was announced."""
        self.restart()
        self.updates += 1

    def restart(self) -> None:
        """Forget what has gone by. Modes stay known, as a forward pass may serve two updates."""
        self.seen = Seen()

    # --- forward -----------------------------------------------------------------------------------------------------

    def _enter(self, name: str, root: nn.Module, args: Any, kwargs: Any) -> None:
        """Look at modes as a root begins: a hook on each module would switch torch's transformers to another path."""
        if unseen():
            return
        if self.evaluation is not None:
            self.evaluation.enter(name, args, kwargs)
        elif torch.is_grad_enabled():
            self._training[name] = root.training
            prefix = f"{name}." if name else ""
            for path, module in self._modal.items():
                if path.startswith(prefix):
                    self._training[path] = module.training
            self.seen.forward += 1
            self.seen.inputs += [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.requires_grad]

    def _leave(self, root: nn.Module, args: Any, output: Any) -> None:
        if not unseen() and self.evaluation is not None:
            self.evaluation.leave(root, output)

    # --- backward ----------------------------------------------------------------------------------------------------

    def _wrap_backward(self, patches: Patches, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            if unseen() or not patches.active or self._nested:  # checkpointed activations run one within another
                return original(tensors, grad_tensors, *args, **kwargs)
            roots = [tensors] if isinstance(tensors, Tensor | GradientEdge) else list(tensors)
            self._begin(roots, grad_tensors)
            self._nested = True
            try:
                original(roots, grad_tensors, *args, **kwargs)
            finally:
                self._nested = False

        return backward

    @torch.no_grad()
    def _begin(self, roots: list[Tensor | GradientEdge], grad_tensors: Any) -> None:
        losses = [root for root in roots if isinstance(root, Tensor)]
        self._settle()
        if self.seen.backward and all(item.parameter.grad is None for item in self._gradients.sample):
            # its gradients were cleared: it was for something else
            self.seen = Seen(inputs=self.seen.inputs, forward=self.seen.forward)
        self.seen.backward += 1
        if grad_tensors is not None or len(losses) < len(roots) or any(loss.numel() != 1 for loss in losses):
            self.seen.unknown_loss = True
            self.seen.parts.append(None)
        else:
            self._take_loss(losses)
        self._take_modes()
        if self.seen.backward == 1 and self._looks_at_graph():
            known = {id(tensor) for tensor in (*self._model.parameters(), *self.seen.inputs)}
            known |= {id(item.parameter) for item in self._roster.held(self._roster.optimizers)}
            self.seen.strays = stray_leaves(losses, known)
            self._strays = bool(self.seen.strays)
        self.seen.inputs.clear()
        self.seen.forward = 0

    def _take_loss(self, losses: list[Tensor]) -> None:
        seen = self.seen
        plain = len(losses) == seen.forward == 1 and not seen.inputs
        for loss in losses:
            value = self._scaling.unscaled_loss(loss).reshape(())
            seen.loss = value.clone() if seen.loss is None else seen.loss + value.to(seen.loss.device)
        seen.parts.append(part_of(losses[0], value) if plain else None)
        self._scaling.differentiated()

    def _take_modes(self) -> None:
        for name in self._roots:
            if name in self._training:
                self.seen.root_in_eval = bool(self.seen.root_in_eval) or not self._training[name]
        self.seen.in_eval |= {name for name in self._modal if self._training.get(name) is False}

    def _looks_at_graph(self) -> bool:
        """Whether to walk the graph: at first, rarely later, and again for as long as something was found."""
        return self._strays or self.updates < 2 or (self.updates + 1) % GRAPH_EVERY == 0
