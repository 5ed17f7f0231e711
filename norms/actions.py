"""What a run can be told to do, as data: effect, whether it can be undone, parameters and their ranges.

The engine carries actions out; norms name them as remedies; people are shown them. All three read this one table.
"""

import math
from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct, field

from configs.errors import ConfigError

ParamKind = Literal["number", "count", "text", "names", "flag", "choice"]
"""number: a finite float; count: a whole number; names: a list of texts; flag: true or false; choice: one of a few."""


class Param(Struct, frozen=True, kw_only=True):
    """One parameter of an action; bounds are inclusive unless ``above`` is given."""

    kind: ParamKind
    means: str
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False


class ActionSpec(Struct, frozen=True, kw_only=True):
    name: str
    effect: str
    """What the run does, as the end of "The run will …"."""
    reversible: bool
    """Whether one further action puts the run back to where it was. Where it does not say so itself, the engine writes
    a safety checkpoint first."""
    params: dict[str, Param] = field(default_factory=dict)
    one_of: tuple[str, ...] = ()
    """Parameters of which exactly one must be given."""


def _spec(name: str, effect: str, *, reversible: bool, one_of: tuple[str, ...] = (), **params: Param) -> ActionSpec:
    return ActionSpec(name=name, effect=effect, reversible=reversible, params=params, one_of=one_of)


_SPECS = (
    _spec("skip_step", "leave this update out; the weights stay as they are", reversible=True),
    _spec("amp_off", "compute in fp32 from the next step on", reversible=True),
    _spec(
        "set_lr",
        "change the learning rate of every group from the next step on, the schedule with it",
        reversible=True,
        one_of=("factor", "lr"),
        factor=Param(kind="number", means="what the learning rate is multiplied by", above=0, maximum=1000),
        lr=Param(kind="number", means="the learning rate of the first group; the others keep their ratio", above=0),
    ),
    _spec(
        "clip_gradients",
        "scale gradients down to a norm of at most max_norm from the next step on",
        reversible=True,
        max_norm=Param(kind="number", means="largest total gradient norm", above=0, required=True),
    ),
    _spec(
        "roll_back",
        "go back to a complete checkpoint: weights, optimizer, scheduler, scaler, random generators and sampler",
        reversible=True,
        steps=Param(kind="count", means="how many steps back at the least", minimum=0),
        skip_batches=Param(kind="flag", means="whether the batches since then are left out"),
        checkpoint=Param(kind="text", means="path of the checkpoint in the session; without it, the newest that fits"),
    ),
    _spec(
        "set_mode",
        "put the model into training or evaluation mode where it belongs, and evaluate again where it did not",
        reversible=True,
        mode=Param(kind="choice", means="the mode", choices=("train", "eval"), required=True),
        modules=Param(kind="names", means="modules to change; without it, the whole model"),
    ),
    _spec("swap_eval_transform", "evaluate without random transforms, and evaluate again", reversible=True),
    _spec(
        "add_parameters",
        "give the optimizer the parameters that it lacks",
        reversible=True,
        names=Param(kind="names", means="names of the parameters", required=True),
    ),
    _spec("zero_gradients", "clear all gradients now and after every update", reversible=True),
    _spec(
        "reseed_restart",
        "seed every random generator and start again from step 0",
        reversible=False,
        seed=Param(kind="count", means="the seed; without it, the run's own", minimum=0, maximum=2**32 - 1),
    ),
    _spec("enable_determinism", "use deterministic algorithms from the next step on", reversible=True),
    _spec("save_again", "save the checkpoint again, whole, and keep the one before", reversible=True),
    _spec(
        "drop_column",
        "leave columns out of the features and train again from the start",
        reversible=False,
        columns=Param(kind="names", means="names of the columns", required=True),
    ),
    _spec(
        "launch_seeds",
        "start the same run with further seeds",
        reversible=False,
        count=Param(kind="count", means="how many further seeds", minimum=1, maximum=100, required=True),
    ),
    _spec("halve_batch", "halve the batch and accumulate two, so that updates stay the same", reversible=True),
    _spec("checkpoint_now", "save a checkpoint", reversible=True),
    _spec("pause", "hold after this step until told to go on", reversible=True),
    _spec("resume", "go on", reversible=True),
    _spec("stop", "end after this step, with a checkpoint", reversible=False),
    _spec(
        "mute",
        "judge this norm no longer in this run",
        reversible=True,
        norm=Param(kind="text", means="id of the norm", required=True),
        reason=Param(kind="text", means="why, for the record", required=True),
    ),
)
ACTIONS: Mapping[str, ActionSpec] = MappingProxyType({spec.name: spec for spec in _SPECS})


def action_spec(name: str) -> ActionSpec:
    """Return what is known of an action.

    Raises:
        ConfigError: There is no such action; names the nearest.
    """
    if name in ACTIONS:
        return ACTIONS[name]
    near = get_close_matches(name, ACTIONS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"the actions are {', '.join(ACTIONS)}"
    raise ConfigError(f"there is no action {name!r}; {hint}")


def check_params(name: str, params: Mapping[str, Any], *, complete: bool = True) -> None:
    """Check an action's parameters against its table.

    Args:
        name: The action.
        params: JSON values.
        complete: Whether what is required must be there; a remedy in a catalogue takes some from the evidence later.

    Raises:
        ConfigError: Names the first parameter that is unknown, missing, of the wrong kind or out of range.
    """
    spec = action_spec(name)
    for key, value in params.items():
        if key not in spec.params:
            known = ", ".join(spec.params) or "none"
            raise ConfigError(f"action {name} has no parameter {key!r}; it takes {known}")
        if (allowed := _refusal(spec.params[key], value)) is not None:
            raise ConfigError(f"action {name}: {key}={value!r} is not possible; allowed is {allowed}")
    if not complete:
        return
    for key, param in spec.params.items():
        if param.required and key not in params:
            raise ConfigError(f"action {name} needs {key} ({param.means})")
    if spec.one_of and sum(key in params for key in spec.one_of) != 1:
        raise ConfigError(f"action {name} needs exactly one of {', '.join(spec.one_of)}")


def _refusal(param: Param, value: Any) -> str | None:
    """Return what is allowed where ``value`` is not, else None."""
    match param.kind:
        case "flag":
            return None if isinstance(value, bool) else "true or false"
        case "text":
            return None if isinstance(value, str) and value else "text"
        case "choice":
            return None if value in param.choices else " or ".join(param.choices)
        case "names":
            good = isinstance(value, list | tuple) and value and all(isinstance(item, str) and item for item in value)
            return None if good else "a list of names"
        case "count" | "number":
            kinds = int if param.kind == "count" else (int, float)
            good = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
            return None if good and _within(param, value) else _range(param)


def _within(param: Param, value: float) -> bool:
    return (
        (param.minimum is None or value >= param.minimum)
        and (param.above is None or value > param.above)
        and (param.maximum is None or value <= param.maximum)
    )


def _range(param: Param) -> str:
    bounds = ((param.minimum, "from"), (param.above, "above"), (param.maximum, "up to"))
    words = " ".join(f"{word} {bound:g}" for bound, word in bounds if bound is not None)
    kind = "a whole number" if param.kind == "count" else "a number"
    return f"{kind} {words}".strip()
