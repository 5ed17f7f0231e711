"""Units of ReLU and its kin that were active for no sample of an epoch."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from engine.probes.patches import Hook
from engine.probes.torch_modules import unseen
from norms.signals import LayerUnits

_KINDS = (nn.ReLU, nn.ReLU6)
ALL_SAMPLES, EVERY = 1024, 16
"""Each forward pass is looked at until an epoch has had so many samples, and later one of EVERY."""


class _Layer:
    """What one activation showed since the epoch began."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.active: Tensor | None = None
        self.samples = 0
        self.passes = 0
        self.zeros: Tensor | None = None
        self.inputs = 0


class Units:
    """Hooks the activations with an exact zero, where a model has any."""

    def __init__(self, model: nn.Module) -> None:
        layers = [isinstance(module, nn.TransformerEncoderLayer) for module in model.modules()]
        # A hook within such a layer would switch it to another path in evaluation.
        self._modules: dict[str, nn.Module] = (
            {}
            if any(layers)
            else {name: module for name, module in model.named_modules() if isinstance(module, _KINDS)}
        )
        self._before = _layers_before(model, self._modules)
        self._layers = {name: _Layer() for name in self._modules}
        self._handles: list[Any] = []

    def install(self) -> None:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_hook(Hook(functools.partial(self._look, self._layers[name]))))
        for name, module in self._before.items():
            hook = Hook(functools.partial(self._look_before, self._layers[name]))
            self._handles.append(module.register_forward_pre_hook(hook))

    def remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def take(self) -> tuple[LayerUnits, ...] | None:
        """Return what was seen since the last call; None where there is nothing to see."""
        found = [
            LayerUnits(
                layer=name,
                units=layer.active.numel(),
                dead=layer.active.numel() - int(layer.active.sum()),
                samples=layer.samples,
                zero_input=float(layer.zeros) / layer.inputs if layer.zeros is not None else None,
            )
            for name, layer in self._layers.items()
            if layer.active is not None
        ]
        for layer in self._layers.values():
            layer.reset()
        return tuple(found) or None

    def _look_before(self, layer: _Layer, module: nn.Module, args: Any) -> None:
        if torch.compiler.is_compiling() or unseen() or not module.training or not torch.is_grad_enabled():
            return
        if not layer.passes and args and isinstance(args[0], Tensor):
            with torch.no_grad():
                zeros = args[0].numel() - args[0].count_nonzero()
            layer.zeros = zeros if layer.zeros is None else layer.zeros + zeros
            layer.inputs += args[0].numel()

    @torch.no_grad()
    def _mark(self, layer: _Layer, output: Tensor) -> None:
        axis = 1 if output.ndim >= 4 else output.ndim - 1  # channels of an image, else features
        active = (output > 0).movedim(axis, -1).flatten(0, -2).any(0)
        if layer.active is None or layer.active.shape != active.shape:
            layer.active, layer.samples = active, 0
        else:
            layer.active |= active
        layer.samples += output.shape[0]

    def _look(self, layer: _Layer, module: nn.Module, args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or unseen() or not module.training or not torch.is_grad_enabled():
            return
        layer.passes = (layer.passes + 1) % EVERY if layer.samples >= ALL_SAMPLES else 0
        if not layer.passes and isinstance(output, Tensor) and output.ndim > 1 and output.numel():
            self._mark(layer, output)


def _layers_before(model: nn.Module, activations: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Return, by the activation's name, the linear or convolutional layer that stands before it in the same parent."""
    before: dict[str, nn.Module] = {}
    for path, parent in model.named_modules():
        layer = None
        for name, child in parent.named_children():
            if isinstance(child, nn.Linear | nn.modules.conv._ConvNd):
                layer = child
            elif layer is not None and (full := f"{path}.{name}" if path else name) in activations:
                before[full] = layer
    return before
