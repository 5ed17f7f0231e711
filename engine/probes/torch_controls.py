"""What can be done to a model in training and its optimizers, each effect read back from the live objects."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints import restore_rng, rng_state
from engine.controls import ActionFailed, Effect, Handler
from engine.probes.patches import Patches
from engine.probes.torch import TorchProbe
from sessions.events import Json

RATES = ("lr", "initial_lr", "peak_lr", "max_lr", "min_lr")
"""Keys of a group that go with its learning rate: now, before any schedule, and the peaks and floors of schedules."""
CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
_LISTED = 20


class TorchControls:
    """Changes, saves and restores what one TorchProbe watches.

    Args:
        model: The model.
        optimizers: All that train it; the first takes parameters that were forgotten, if it fits.
        scaler: The gradient scaler, if there is one.
        scheduler: The learning-rate scheduler, if there is one of torch's.
        probe: Sees the update that an action takes hold of.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        scaler: Any,
        scheduler: Any,
        probe: TorchProbe,
    ) -> None:
        self._model = model
        self._optimizers = list(optimizers)
        self._scaler = scaler
        self._scheduler = scheduler
        self._probe = probe
        self._patches = Patches()

    def handlers(self) -> dict[str, Handler]:
        """Return what carries out each action."""
        return {
            "skip_step": self.skip_step,
            "amp_off": self.amp_off,
            "set_lr": self.set_lr,
            "clip_gradients": self.clip_gradients,
            "zero_gradients": self.zero_gradients,
            "set_mode": self.set_mode,
            "add_parameters": self.add_parameters,
            "enable_determinism": self.enable_determinism,
        }

    def close(self) -> None:
        """Let autocast and compiled code be what they were; for a process that goes on to do something else."""
        if self._patches.active and _compiles():
            torch.compiler.set_stance("default")
        self._patches.restore()

    # --- actions -----------------------------------------------------------------------------------------------------

    def skip_step(self, params: Json) -> Effect:
        """Leave out the update that is being decided on."""
        if not self._probe.deciding:
            raise ActionFailed("skip_step: no update is about to be done; it can only be left out before it")
        before = self._probe.skips
        self._probe.skip()
        return {"before": {"left_out": before}, "after": {"left_out": self._probe.skips}}

    def amp_off(self, params: Json) -> Effect:
        """Have no autocast compute in lower precision from now on; compiled code, which has it built in, runs eagerly.

        The gradient scaler ends with the update that is under way, as gradients may still hold its factor.
        """
        before = self._precision()
        if not self._patches.active:
            self._patches.replace(torch.autocast, "__enter__", _in_full_precision)
            for device in {"cpu", *(parameter.device.type for parameter in self._model.parameters())}:
                if torch.is_autocast_enabled(device):  # within one already
                    torch.set_autocast_enabled(device, False)
            torch.clear_autocast_cache()
            if _compiles():
                torch.compiler.set_stance("force_eager")
        if self._probe.scaling.under_way:
            self._probe.scaling.at_update(self._disable_scaler)
        else:
            self._disable_scaler()
        return {"before": before, "after": self._precision()}

    def _disable_scaler(self) -> None:
        if self._scaler is not None:
            self._scaler._enabled = False  # what GradScaler(enabled=False) is, and all that it asks

    def _precision(self) -> Json:
        """Return whether an autocast has any effect now, by entering one, and the scaler's factor."""
        device = next((parameter.device.type for parameter in self._model.parameters()), "cpu")
        with torch.autocast(device):
            works = torch.is_autocast_enabled(device)
        scale = self._scaler.get_scale() if self._scaler is not None and self._scaler.is_enabled() else None
        ends = scale is not None and self._patches.active
        return {"autocast": "on" if works else "off", "loss_scale": scale} | (
            {"scaler": "ends with this update"} if ends else {}
        )

    def set_lr(self, params: Json) -> Effect:
        """Multiply the learning rates of all groups, with what their schedules are reckoned from."""
        before = self._rates()
        if not before:
            raise ActionFailed("set_lr: the optimizers have no learning rate")
        factor = params.get("factor")
        if factor is None:
            if not before[0]:
                raise ActionFailed(
                    "set_lr: the first group's learning rate is 0, so no ratio can be kept; give factor instead of lr"
                )
            factor = params["lr"] / before[0]
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                for key in RATES:
                    if key in group:
                        group[key] = _scaled(group[key], factor)
        for scheduler in _schedulers(self._scheduler):
            for name in ("base_lrs", "_last_lr", "min_lrs", "max_lrs"):
                if isinstance(values := getattr(scheduler, name, None), list):
                    setattr(scheduler, name, [_scaled(value, factor) for value in values])
            if isinstance(floor := getattr(scheduler, "eta_min", None), float | int):
                scheduler.eta_min = floor * factor
        after = self._rates()
        return {"before": {"lr": before[0], "lrs": before}, "after": {"lr": after[0], "lrs": after}}

    def _rates(self) -> list[float]:
        return [
            float(group["lr"]) for optimizer in self._optimizers for group in optimizer.param_groups if "lr" in group
        ]

    def clip_gradients(self, params: Json) -> Effect:
        """Clip gradients to a total norm from the next update that is decided on."""
        before = self._probe.max_norm
        self._probe.clip(float(params["max_norm"]))
        return {"before": {"max_norm": before}, "after": {"max_norm": self._probe.max_norm}}

    def zero_gradients(self, params: Json) -> Effect:
        """Clear all gradients, and again after every update; an update that is being decided on is left out."""
        before = {"gradients": self._gradients(), "after_each_update": self._probe.zeroes}
        self._probe.zero_after(True)
        if self._probe.deciding:
            self._probe.skip()
        else:
            for parameter in self._parameters():
                parameter.grad = None
        left_out = {"update": "left out, and its gradients with it"} if self._probe.deciding else {}
        after = {"gradients": 0 if left_out else self._gradients(), "after_each_update": self._probe.zeroes}
        return {"before": before, "after": after | left_out}

    def _gradients(self) -> int:
        return sum(parameter.grad is not None for parameter in self._parameters())

    def _parameters(self) -> Iterator[Tensor]:
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                yield from group["params"]

    def set_mode(self, params: Json) -> Effect:
        """Put the model, or modules of it, into training or evaluation mode."""
        modules = dict(self._model.named_modules())
        names = params.get("modules") or [""]
        if unknown := [name for name in names if name not in modules]:
            raise ActionFailed(f"set_mode: the model has no module {unknown[0]!r}")
        told = [name for name in names if name] or list(self._probe.modal)
        before = self._modes(told)
        for name in names:
            modules[name].train(params["mode"] == "train")
        return {"before": before, "after": self._modes(told)}

    def _modes(self, names: Sequence[str]) -> Json:
        modules = dict(self._model.named_modules())
        mode = {True: "train", False: "eval"}
        return {
            "model": mode[self._model.training],
            "modules": {name: mode[modules[name].training] for name in names[:_LISTED]},
        }

    def add_parameters(self, params: Json) -> Effect:
        """Give parameters to the first optimizer that fits, in the group of their kind: matrices, or the rest.

        They join a group that is there: schedulers count groups. Gradients that nobody ever cleared are dropped.
        """
        named = dict(self._model.named_parameters())
        if unknown := [name for name in params["names"] if name not in named]:
            raise ActionFailed(f"add_parameters: the model has no parameter {unknown[0]!r}")
        held = {id(parameter) for parameter in self._parameters()}
        chosen = {name: named[name] for name in params["names"] if id(named[name]) not in held}
        groups = {name: self._group_for(name, parameter) for name, parameter in chosen.items()}
        before = self._probe.preflight().uncovered or ()
        for name, parameter in chosen.items():
            parameter.grad = None
            groups[name]["params"].append(parameter)
        after = self._probe.preflight().uncovered or ()
        return {"before": {"uncovered": list(before)}, "after": {"uncovered": list(after)}}

    def _group_for(self, name: str, parameter: Tensor) -> dict[str, Any]:
        fitting = [optimizer for optimizer in self._optimizers if _takes(optimizer, parameter)]
        if not fitting:
            raise ActionFailed(
                f"add_parameters: no optimizer here takes {name} of shape {list(parameter.shape)}; all want matrices"
            )
        groups = fitting[0].param_groups
        matrix = parameter.ndim >= 2

        def kin(group: dict[str, Any]) -> int:
            return sum(1 if (other.ndim >= 2) == matrix else -1 for other in group["params"])

        return max(groups, key=kin)

    def enable_determinism(self, params: Json) -> Effect:
        """Use deterministic algorithms only."""
        before = _determinism()
        if torch.cuda.is_available():
            if torch.cuda.is_initialized() and CUBLAS not in os.environ:  # type: ignore[no-untyped-call]
                raise ActionFailed(
                    f"enable_determinism: {CUBLAS}=:4096:8 must be in the environment before CUDA starts; "
                    "start the run again with it"
                )
            os.environ.setdefault(CUBLAS, ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        return {"before": before, "after": _determinism()}

    # --- state -------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return a copy of all that goes on from one update to the next, but for the loop's own place.

        Under the names of engine.checkpoints.CONTENTS, without ``sampler``; a loop that computes its schedule itself
        puts its own ``scheduler`` in the place of the empty one. It loads with ``weights_only=True``.
        """
        return {
            "model": copied(self._model.state_dict()),
            "optimizers": [copied(optimizer.state_dict()) for optimizer in self._optimizers],
            "scheduler": {} if self._scheduler is None else copied(self._scheduler.state_dict()),
            "scaler": {} if self._scaler is None else copied(self._scaler.state_dict()),
            "rng": rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put everything back, bit by bit; gradients are cleared. The state given stays as it is.

        Raises:
            ActionFailed: It is the state of another model or of other optimizers.
        """
        if len(state["optimizers"]) != len(self._optimizers):
            raise ActionFailed(
                f"the state is that of {len(state['optimizers'])} optimizers, and there are {len(self._optimizers)}"
            )
        try:
            self._model.load_state_dict(state["model"])
            for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
                _restore_optimizer(optimizer, saved)
        except (RuntimeError, ValueError) as error:
            raise ActionFailed(f"the state does not fit the run: {str(error).splitlines()[0]}") from error
        if self._scheduler is not None:
            self._scheduler.load_state_dict(copied(state["scheduler"]))
        if self._scaler is not None and self._scaler.is_enabled() and state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        for parameter in self._parameters():
            parameter.grad = None
        restore_rng(state["rng"])
        self._probe.rewound()


def copied(value: Any) -> Any:
    """Return a copy that shares no tensor, and holds plain numbers where numpy's were."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        same: Any = {key: copied(item) for key, item in value.items()}
        same = same if type(value) is dict else type(value)(same)
        if hasattr(value, "_metadata"):  # of a module's state: the versions of its parts
            same._metadata = value._metadata
        return same
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else value


def _restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Load a state; parameters that have come in since start afresh, and no number is cast to its parameter's dtype."""
    saved = copied(saved)
    live = [group["params"] for group in optimizer.param_groups]
    places = [list(group["params"]) for group in saved["param_groups"]]
    free = 1 + max((place for group in places for place in group), default=-1)
    for group, parameters in zip(saved["param_groups"], live, strict=False):
        missing = len(parameters) - len(group["params"])
        group["params"] = [*group["params"], *range(free, free + missing)]
        free += max(0, missing)
    optimizer.load_state_dict(saved)
    for group, parameters in zip(places, live, strict=True):
        for place, parameter in zip(group, parameters, strict=False):
            for key, value in saved["state"].get(place, {}).items():
                now = optimizer.state[parameter].get(key)
                if isinstance(value, Tensor) and isinstance(now, Tensor) and now.dtype != value.dtype:
                    optimizer.state[parameter][key] = value.to(now.device)


def _in_full_precision(original: Callable[..., Any]) -> Callable[..., Any]:
    def __enter__(self: torch.autocast) -> Any:
        entered = original(self)
        torch.set_autocast_enabled(self.device, False)
        return entered

    return __enter__


def _compiles() -> bool:
    """Whether anything here may have been compiled; asking the compiler itself would load it."""
    return "torch._dynamo" in sys.modules


def _takes(optimizer: torch.optim.Optimizer, parameter: Tensor) -> bool:
    """Whether the optimizer can update the parameter: Muon and its like are for matrices only."""
    kinds = {other.ndim for group in optimizer.param_groups for other in group["params"]}
    return "muon" not in type(optimizer).__name__.lower() or (parameter.ndim == 2 and kinds <= {2})


def _schedulers(scheduler: Any) -> Iterable[Any]:
    """Yield a scheduler, and those that it is made of."""
    if scheduler is not None:
        yield scheduler
        for part in getattr(scheduler, "_schedulers", ()):
            yield from _schedulers(part)


def _scaled(rate: Any, factor: float) -> Any:
    return rate.mul_(factor) if isinstance(rate, Tensor) else rate * factor


def _determinism() -> Json:
    return {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    } | ({CUBLAS: os.environ.get(CUBLAS)} if torch.cuda.is_available() else {})
