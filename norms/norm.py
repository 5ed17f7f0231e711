"""What a norm is: one typed entry of the catalogue, and the catalogue itself, loaded and checked once."""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any, Literal, cast, get_args

import msgspec
import yaml
from msgspec import Struct, field

from configs.errors import ConfigError
from norms.actions import check_params
from sessions.events import Json, Severity

Category = Literal["validity", "stability", "reproducibility", "reporting", "operations"]
Regime = Literal["strict", "balanced", "exploratory"]
Level = Literal["violate", "warn", "label", "off"]
"""What a broken norm is: of its own severity; minor at most; info at most; not judged."""
Moment = Literal[
    "preflight", "step", "update", "epoch", "evaluation", "checkpoint", "replay", "resources", "timings", "end"
]
"""When a norm is judged: the kind of signal that it reads (norms/signals.py)."""

CATEGORIES: tuple[Category, ...] = get_args(Category)
"""The hierarchy: where norms are at odds, the earlier category goes first."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the lightest to the gravest."""
REGIMES: tuple[Regime, ...] = get_args(Regime)


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the catalogue; an unknown key in it is an error."""


class Levels(Entry, frozen=True, kw_only=True):
    strict: Level = "violate"
    balanced: Level = "violate"
    exploratory: Level = "violate"


class Limit(Entry, frozen=True, kw_only=True):
    """One number that a detector compares with, in each regime; ``.inf`` switches its comparison off."""

    means: str
    strict: float
    balanced: float
    exploratory: float


class Remedy(Entry, frozen=True, kw_only=True):
    """An action that may cure a violation."""

    action: str
    params: Json = field(default_factory=dict)
    params_from: dict[str, str] = field(default_factory=dict)
    """Parameters that come from the evidence: parameter → key of the evidence."""
    aspects: tuple[str, ...] = ()
    """The aspects of the norm that it fits; empty: all."""

    def params_for(self, evidence: Mapping[str, Any]) -> Json:
        """Return the parameters for a violation with this evidence."""
        found = {name: evidence[key] for name, key in self.params_from.items() if evidence.get(key) is not None}
        return self.params | found


class Norm(Entry, frozen=True, kw_only=True):
    id: str
    category: Category
    severity: Severity
    title: str
    """The rule, as it should hold, in a few words."""
    what: str
    """What breaks it, in one sentence."""
    why: str
    """What a break does to the result, and so why it has its severity."""
    judged: tuple[Moment, ...]
    measures: str
    """What its live value is; the first limit stands beside that value. Without limits none may be found: 0."""
    level: Levels = Levels()
    limits: dict[str, Limit] = field(default_factory=dict)
    patience: int = 1
    """How many training steps in a row it must be kept to be called cured; at other moments one judgement will do."""
    grace: int = 1
    """How many judgements it may stay broken after a remedy before it is said to persist."""
    symptom: bool = False
    """Whether it is seen in the curves alone: what a reactive agent acts on."""
    remedies: tuple[Remedy, ...] = ()
    """Best first."""
    advice: str
    """What a person does about it."""
    pitfalls: tuple[str, ...] = ()
    """What looks like a break and is none; its detector lets these pass."""
    evidence: dict[str, str] = field(default_factory=dict)
    """What the evidence of a violation holds."""
    sources: tuple[str, ...] = ()
    detector: str | None = None
    """For norms of users: ``module:function``."""

    def level_in(self, regime: Regime) -> Level:
        return cast(Level, getattr(self.level, regime))

    def limits_in(self, regime: Regime) -> dict[str, float]:
        return {name: getattr(limit, regime) for name, limit in self.limits.items()}

    def severity_at(self, level: Level, at_most: Severity = "critical") -> Severity:
        """Return how grave a violation is at a level, and with a finding's own ``at_most``."""
        caps: dict[Level, Severity] = {"violate": "critical", "warn": "minor", "label": "info", "off": "info"}
        return min((self.severity, caps[level], at_most), key=SEVERITIES.index)


def rank(category: Category, severity: Severity) -> tuple[int, int]:
    """Return the place in the hierarchy, for sorting: the lowest goes first."""
    return CATEGORIES.index(category), -SEVERITIES.index(severity)


@cache
def catalogue() -> Mapping[str, Norm]:
    """Return NORA's own norms by id, in the catalogue's order."""
    text = (resources.files("norms") / "catalog.yaml").read_bytes()
    return MappingProxyType({norm.id: norm for norm in parse_norms(text, "catalog.yaml")})


def known_norm(norm_id: str, norms: Iterable[str]) -> str:
    """Return ``norm_id`` if it is one of ``norms``.

    Raises:
        ConfigError: It is not; names the nearest.
    """
    norms = list(norms)
    if norm_id in norms:
        return norm_id
    near = get_close_matches(norm_id, norms, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "`nora norms` lists them"
    raise ConfigError(f"there is no norm {norm_id!r}; {hint}")


def parse_norms(text: bytes, where: str) -> list[Norm]:
    """Return the norms in a YAML file: a list of entries.

    Args:
        text: The file's content.
        where: The file, for messages.

    Raises:
        ConfigError: Not YAML, not a list, or an entry that is no norm; names file, norm and key.
    """
    norms: list[Norm] = []
    for position, entry in enumerate(entries_of(text, where), 1):
        norm = parse_norm(entry, where, position)
        if any(norm.id == other.id for other in norms):
            raise ConfigError(f"{where}: norm {norm.id!r} stands there twice; give each its own id")
        norms.append(norm)
    return norms


def entries_of(text: bytes, where: str) -> list[Any]:
    """Return the raw entries of a norm file.

    Raises:
        ConfigError: Not YAML, or not a list.
    """
    try:
        # CSafeLoader is safe_load, some ten times as fast.
        values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, list):
        raise ConfigError(f"{where}: expected a list of norms, each with an id")
    return values


def parse_norm(entry: Any, where: str, position: int) -> Norm:
    """Return one entry as a norm.

    Raises:
        ConfigError: Names the norm (or its position in the list), the key and what is expected.
    """
    name = entry.get("id", position) if isinstance(entry, dict) else position
    place = f"{where}, norm {name!r}"
    try:
        norm = msgspec.convert(_with_words(entry), Norm)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{place}: {error}") from error
    _check(norm, place)
    return norm


def _with_words(entry: Any) -> Any:
    """YAML reads a bare ``off`` as false; as a level it is a word."""
    if isinstance(entry, dict) and isinstance(entry.get("level"), dict):
        levels = {regime: "off" if level is False else level for regime, level in entry["level"].items()}
        return entry | {"level": levels}
    return entry


def _check(norm: Norm, place: str) -> None:
    if not norm.judged:
        raise ConfigError(f"{place}: `judged` names no moment; give at least one of {', '.join(get_args(Moment))}")
    for name, value in (("patience", norm.patience), ("grace", norm.grace)):
        if value < 1:
            raise ConfigError(f"{place}: {name}={value}; expected at least 1")
    for name, limit in norm.limits.items():
        for regime in REGIMES:
            if math.isnan(getattr(limit, regime)):
                raise ConfigError(f"{place}: limit {name} in {regime} is not a number")
    for remedy in norm.remedies:
        try:
            check_params(remedy.action, remedy.params, complete=False)
        except ConfigError as error:
            raise ConfigError(f"{place}: {error}") from error
        if unknown := set(remedy.params_from.values()) - set(norm.evidence):
            raise ConfigError(f"{place}: remedy {remedy.action} takes {sorted(unknown)[0]!r}, which is no evidence")
