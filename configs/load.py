"""From overrides to a typed configuration: Hydra composes the YAML groups, the schema validates what comes out."""

import hashlib
import math
import re
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from msgspec.structs import replace

from configs.describe import chosen, expected, is_open, type_at
from configs.errors import ConfigError
from configs.schema import WORKLOADS, AnyConfig

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

GROUPS = ("data", "workload", "mode", "regime", "violation", "launcher")
_DEFAULT_WORKLOAD = "vit"
_INFINITIES = {".inf": math.inf, "-.inf": -math.inf}
_AT = re.compile(r" - at `\$\.?(?P<key>[^`]*)`$")


def compose(overrides: Iterable[str]) -> AnyConfig:
    """Return the configuration that the overrides (Hydra's grammar) ask for.

    Raises:
        ConfigError: Names the key, the value, what is allowed and the nearest match.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for name, schema in WORKLOADS.items():
        defaults = {key: value for key, value in plain(schema()).items() if key not in GROUPS}
        ConfigStore.instance().store(group="schema", name=name, node=defaults)
    parsed = [_parse(text) for text in overrides]
    workload = next((str(o.value()) for o in reversed(parsed) if o.key_or_group == "workload"), _DEFAULT_WORKLOAD)
    _check_choice("workload", workload, WORKLOADS)
    lines, path = [], None
    for override in parsed:
        _check(override, workload)
        if override.key_or_group == "data" and str(override.value()) not in WORKLOADS[workload].data_sets:
            path = _absolute(str(override.value()))
            lines.append("data=file")
        elif _adds(override, workload):
            lines.append(f"++{override.input_line}")  # names in it are not of the schema: Hydra is to add them
        else:
            lines.append(override.input_line or "")
    try:
        with initialize_config_module("configs", version_base="1.3"):
            values = OmegaConf.to_container(hydra_compose("config", lines), resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"{' '.join(lines)}: {str(error).splitlines()[0]}") from error
    assert isinstance(values, dict)
    config = validate(_with_infinities(values, workload) | ({"data": path} if path else {}))
    if config.norms.file is not None:  # the run is another process, which may stand in another folder
        config = replace(config, norms=replace(config.norms, file=_absolute(config.norms.file)))
    return config


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _with_infinities(values: dict[Any, Any], workload: str) -> dict[str, Any]:
    """Return composed values in which YAML's ``.inf`` is a number under open keys too; Hydra reads it as a word."""
    schema = WORKLOADS[workload]

    def read(value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {name: read(item, f"{key}.{name}" if key else str(name)) for name, item in value.items()}
        if isinstance(value, str) and value in _INFINITIES and is_open(schema, key):
            return _INFINITIES[value]
        return value

    found: dict[str, Any] = read(values, "")
    return found


def validate(values: Any) -> AnyConfig:
    """Return plain data as a typed configuration.

    Raises:
        ConfigError: Names the first key that is unknown, of the wrong type or impossible, and what is allowed.
    """
    for key, value in _dotted(values) if isinstance(values, dict) else ():
        if isinstance(value, float) and not math.isfinite(value):
            _check_non_finite(key, value, values.get("workload"))
    try:
        config: AnyConfig = msgspec.convert(values, AnyConfig)
    except msgspec.ValidationError as error:
        raise ConfigError(_sentence(str(error), values)) from error
    return config


def _check_non_finite(key: str, value: float, workload: Any) -> None:
    """An infinite limit switches a comparison off; anywhere else only finite numbers mean something."""
    schema = WORKLOADS.get(workload) if isinstance(workload, str) else None
    limit = schema is not None and is_open(schema, key)
    if math.isnan(value) or not limit:
        what = "a number, or inf to switch the comparison off" if limit else "a finite number"
        raise ConfigError(f"{key}={value}: expected {what}")


def read_config(path: Path) -> AnyConfig:
    """Return the configuration in a session's config.yaml.

    Raises:
        ConfigError: The file is missing, or not a configuration.
    """
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    return validate(values)


def plain(config: AnyConfig) -> dict[str, Any]:
    values = msgspec.to_builtins(config)
    assert isinstance(values, dict)
    return values


def to_yaml(config: AnyConfig) -> str:
    return yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)


def digest(config: AnyConfig) -> str:
    """Return the SHA-256 of the configuration, equal for equal values whatever their order in a file."""
    return hashlib.sha256(msgspec.json.encode(_spelled(plain(config)), order="sorted")).hexdigest()


def _spelled(value: Any) -> Any:
    """Return ``value`` with infinite numbers as words: JSON would make null of them all."""
    if isinstance(value, dict):
        return {key: _spelled(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _parse(text: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(f"{text!r} is no override; write key=value, with quotes around special characters") from error
    if override.is_add() or override.is_delete() or override.is_force_add():
        raise ConfigError(f"{text!r}: keys are neither added nor removed; write key=value")
    if override.is_sweep_override():
        raise ConfigError(f"{text!r} gives several values; a run takes one, a list is written [a,b]")
    return override


def _adds(override: "Override", workload: str) -> bool:
    """Whether an override gives names to an open table."""
    key, value = override.key_or_group, override.value()
    keys = [key, *(inner for inner, _ in _dotted(value, f"{key}."))] if isinstance(value, dict) else [key]
    return any(is_open(WORKLOADS[workload], each) for each in keys)


def _check(override: "Override", workload: str) -> None:
    key, value = override.key_or_group, str(override.value())
    schema = WORKLOADS[workload]
    if override.package is not None:
        raise ConfigError(f"{override.input_line!r}: a key has no '@'; write key=value")
    if isinstance(nested := override.value(), dict):
        for inner, _ in _dotted(nested, f"{key}."):
            _check_known(inner, schema, workload)
    if value == "" and (key in GROUPS or (override.input_line or "").rstrip().endswith("=")):
        raise ConfigError(f"{key}= has no value; write {key}=value")
    if key == "data":
        if "${" in value:
            raise ConfigError(f"data={value}: a path is written out; let the shell fill in variables")
        is_path = "/" in value or "." in value or Path(value).exists()
        if not is_path:
            _check_choice("data", value, schema.data_sets, f" with workload={workload}, or a path to a file")
    elif key in GROUPS:
        _check_group(key, value, schema, workload)
    else:
        _check_known(key, schema, workload)


def _check_known(key: str, schema: type[Any], workload: str) -> None:
    if type_at(schema, key) is None:
        near = get_close_matches(key, keys_of(schema), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(sorted(_tops(schema)))}"
        raise ConfigError(f"there is no key {key!r} with workload={workload}; {hint}")


def _check_group(key: str, value: str, schema: type[Any], workload: str) -> None:
    """A choice may be for some workloads only: then those are named, and what this one allows."""
    choices = chosen(schema, key) or options(key)
    elsewhere = [name for name, other in WORKLOADS.items() if value in chosen(other, key)]
    if value not in choices and elsewhere:
        allowed = ", ".join(sorted(choices))
        raise ConfigError(
            f"{key}={value} is for workload={' or '.join(elsewhere)}; with workload={workload} allowed is {allowed}"
        )
    _check_choice(key, value, choices, f" with workload={workload}" if key == "violation" else "")


def _check_choice(key: str, value: str, choices: Iterable[str], rest: str = "") -> None:
    choices = sorted(choices)
    if value not in choices:
        near = get_close_matches(value, choices, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{key}={value}: allowed is {', '.join(choices)}{rest}{hint}")


def options(group: str) -> list[str]:
    """Return the choices of a group: the YAML files in its folder."""
    folder = resources.files("configs") / group
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))


def keys_of(schema: type[Any]) -> list[str]:
    """Return every key of a workload's configuration, dotted."""
    return [key for key, _ in _dotted(plain(schema()))]


def _dotted(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _tops(schema: type[Any]) -> set[str]:
    return {key.split(".")[0] for key in keys_of(schema)}


def _sentence(error: str, values: Any) -> str:
    """Return msgspec's error as ``key=value: what is allowed``."""
    found = _AT.search(error)
    key = found["key"] if found else ""
    what = _AT.sub("", error)
    workload = values.get("workload") if isinstance(values, dict) else None
    if not isinstance(workload, str) or workload not in WORKLOADS:
        return f"the configuration needs `workload`, one of {', '.join(sorted(WORKLOADS))}"
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        full = f"{key}.{unknown[1]}" if key else unknown[1]
        near = get_close_matches(full, keys_of(WORKLOADS[workload]), n=1, cutoff=0.5)
        return f"there is no key {full!r} with workload={workload}" + (f"; did you mean {near[0]!r}?" if near else "")
    if not what.startswith(("Expected", "Invalid", "Object")):
        return what  # a rule over several keys (__post_init__ in the schema) names them itself
    key = key.partition("[")[0]
    value: Any = values
    for part in key.split("."):
        value = value[part]
    kind = type_at(WORKLOADS[workload], key)
    assert kind is not None, f"msgspec names {key}, which the schema lacks"
    shown = "none" if value is None else value
    near = get_close_matches(str(value), [str(v) for v in getattr(kind, "values", ())], n=1)
    return f"{key}={shown}: expected {expected(WORKLOADS[workload], key)}" + (
        f"; did you mean {near[0]!r}?" if near else ""
    )
