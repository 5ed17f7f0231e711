"""``--set name=value``: parameters of actions as people type them."""

from collections.abc import Iterable
from typing import Any

import yaml

from configs.errors import ConfigError
from norms.actions import Param, action_spec


def parsed(action: str, given: Iterable[str]) -> dict[str, Any]:
    """Return the values by name, read as YAML where the action's table wants no text.

    Raises:
        ConfigError: There is no such action, a text is not name=value, or a value is not YAML.
    """
    spec = action_spec(action)
    params: dict[str, Any] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise ConfigError(f"--set {text}: write --set name=value")
        params[name] = _value(spec.params.get(name), value, text)
    return params


def _value(param: Param | None, text: str, whole: str) -> Any:
    if param is None or param.kind in ("text", "choice"):  # an unknown name is refused with the others (check_params)
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {whole}: {text!r} is not YAML") from error
    if param.kind == "names":
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if param.kind == "number" and isinstance(value, str):
        try:
            return float(value)  # YAML takes 1e-3 for a word, as it lacks a point
        except ValueError:
            return value
    return value
