"""The judge: signals in, violations out. One fold, the same while a run lives, on replay and in a test.

It picks thresholds by regime, merges repeats (one violation for each norm, aspect and place until it is cured),
follows what became of each, and orders by the hierarchy. It decides nothing: that is the agent's and people's.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple, get_args

from msgspec import Struct, field

from configs.errors import ConfigError
from norms.detectors import DETECTORS
from norms.finding import Detector, Finding, Limits, moment_of
from norms.norm import REGIMES, SEVERITIES, Level, Norm, Regime, catalogue, known_norm, rank
from norms.signals import AnySignal, Preflight, Signal, Step, Update
from norms.user import UserNorm
from norms.windows import Windows
from sessions.events import Json, Outcome, Severity, Verdict, ViolationFound

Standing = Literal["kept", "broken", "cured", "muted", "not applicable"]
Overrides = Mapping[str, Mapping[str, float | str]]
"""Of norms by id: limits by name, and ``level``, in place of the catalogue's for the run's regime."""
_STREAMED = (Step, Update)
"""Signals of single steps: each stream of them has statistics of its own, and needs patience."""
_NUMBERS = (int, float)
_MOST_DOUBLINGS = 6
_LEVELS: tuple[Level, ...] = get_args(Level)


class Violation(Struct, frozen=True, kw_only=True):
    """A norm is broken, and was not before."""

    id: str
    norm: str
    category: str
    severity: Severity
    step: int
    epoch: float | None
    message: str
    evidence: Json
    aspect: str = ""
    """What of the norm: remedies may be for one aspect only."""
    place: str = ""
    recurs: str | None = None
    """The violation of the same norm, aspect and place that was cured before."""

    def event(self, pictures: Sequence[str] = ()) -> ViolationFound:
        """Return it for the record; aspect, place and the one before stand in the evidence where there are any."""
        more = {"aspect": self.aspect, "place": self.place, "recurs": self.recurs}
        return ViolationFound(
            id=self.id,
            norm=self.norm,
            category=self.category,
            severity=self.severity,
            step=self.step,
            epoch=self.epoch,
            message=self.message,
            evidence=self.evidence | {key: text for key, text in more.items() if text},
            pictures=list(pictures),
        )


class Judged(NamedTuple):
    """What a signal led to; mostly nothing."""

    violations: Sequence[Violation] = ()
    """New ones, first in the hierarchy first."""
    outcomes: Sequence[Outcome] = ()
    """What became of violations reported before; a recurrence goes with the violation whose ``recurs`` names it."""
    problems: Sequence[str] = ()
    """Detectors that failed and are asked no more: a sentence each."""
    repeats: Sequence[str] = ()
    """Ids of open violations that this signal breaks again: a non-finite update is not to be applied even then."""


NOTHING = Judged()


class Reading(Struct, frozen=True, kw_only=True):
    """How a norm stands, for people."""

    norm: str
    category: str
    severity: Severity
    """Of the gravest violation that is open; without one, as the regime has it."""
    title: str
    standing: Standing
    value: float | None
    """The newest live value; of an aspect that is broken, where one is."""
    limit: float | None
    """What stands beside it; 0 where none may be found."""
    measures: str
    repeats: int = 0
    """How often it was found broken, all told."""
    open: list[str] = field(default_factory=list)
    """Ids of violations that are not cured."""


class _Case:
    """What is known of one norm's aspect in one place since it was first broken."""

    __slots__ = ("broken_after_remedy", "cures", "followed", "kept", "open", "repeats", "violation")

    def __init__(self, violation: Violation) -> None:
        self.violation = violation
        self.open = True
        self.repeats = 1
        self.kept = 0  # judgements in a row
        self.cures = 0
        self.followed = False
        self.broken_after_remedy = 0


class _Check:
    """A detector with the limits of the regime, and the cases of its aspect (shared with its other moments)."""

    __slots__ = ("aspect", "cases", "detect", "level", "limit", "limits", "measures", "norm", "patience", "value")

    def __init__(
        self, norm: Norm, detector: Detector, level: Level, limits: Limits, cases: dict[str, _Case], patience: int
    ) -> None:
        self.norm = norm
        self.aspect = detector.aspect
        self.detect: Callable[[Any, Limits, Windows], object] = detector.detect  # of users too: trust no type
        self.level: Level = level
        self.limits = limits
        self.limit = None if detector.limit is None else detector.limit or next(iter(limits), None)
        self.measures = norm.limits[detector.limit].means if detector.limit else norm.measures
        self.cases = cases
        self.patience = patience
        self.value: float | None = None


class Judge:
    """Holds a run to its norms. For one thread at a time.

    Args:
        regime: strict, balanced or exploratory.
        overrides: Changes to the catalogue for this run.
        muted: Norms that are not judged.
        user_norms: Norms of users (norms/user.py).
        first: Number of the first violation; a resumed run goes on where it stopped.

    Raises:
        ConfigError: An unknown regime, norm, limit or level; names the nearest match.
    """

    def __init__(
        self,
        regime: Regime,
        *,
        overrides: Overrides | None = None,
        muted: Collection[str] = (),
        user_norms: Sequence[UserNorm] = (),
        first: int = 1,
    ) -> None:
        if regime not in REGIMES:
            raise ConfigError(f"regime={regime}: allowed is {', '.join(REGIMES)}")
        self.regime: Regime = regime
        self.norms: dict[str, Norm] = dict(catalogue()) | {user.norm.id: user.norm for user in user_norms}
        self._next = first
        self._windows: dict[str, Windows] = {}
        self._total_steps: int | None = None
        self._unread: set[type[Signal]] = set()
        self._cases: dict[tuple[str, str], dict[str, _Case]] = {}
        detectors = [*DETECTORS, *(detector for user in user_norms for detector in user.detectors)]
        levels, limits = _changes(overrides or {}, self.norms)
        self._levels = {norm.id: norm.level_in(regime) for norm in self.norms.values()} | levels
        self._checks: dict[type[Signal], list[_Check]] = {}
        for detector in detectors:
            self._add(detector, limits.get(detector.norm, {}))
        self._muted: set[str] = set()
        for norm in muted:
            self.mute(norm)

    def _add(self, detector: Detector, changed: Mapping[str, float]) -> None:
        norm = self.norms[detector.norm]
        level = self._levels[norm.id]
        if level == "off":
            return
        cases = self._cases.setdefault((norm.id, detector.aspect), {})
        patience = norm.patience if detector.signal in _STREAMED else 1
        check = _Check(norm, detector, level, norm.limits_in(self.regime) | dict(changed), cases, patience)
        self._checks.setdefault(detector.signal, []).append(check)

    def feed(self, signal: AnySignal) -> Judged:
        """Judge a signal; signals must come in the order of the run."""
        windows = self._windows_of(signal)
        try:
            windows.take(signal)
        except Exception as error:  # a signal that is not as its type says must never end a run
            return self._unreadable(signal, error)
        violations: list[Violation] = []
        outcomes: list[Outcome] = []
        repeats: list[str] = []
        failed: list[tuple[_Check, str]] = []
        for check in self._checks.get(type(signal), ()):
            try:
                answer = check.detect(signal, check.limits, windows)
            except Exception as error:  # nor must a detector
                failed.append((check, f"{type(error).__name__}: {error}"))
                continue
            if answer is None:
                continue
            if isinstance(answer, _NUMBERS):
                check.value = answer
                if check.cases:
                    self._kept(check, signal, outcomes)
            elif isinstance(answer, Finding):
                check.value = answer.value
                case = check.cases.get(signal.place)
                if case is not None and case.open:
                    repeats.append(case.violation.id)
                    self._repeated(check, case, signal, outcomes)
                else:
                    violations.append(self._broken(check, answer, signal, outcomes))
            else:
                failed.append((check, f"it returned {answer!r} in place of a number, a Finding or None"))
        if not (violations or outcomes or failed or repeats):
            return NOTHING
        violations.sort(key=lambda violation: rank(self.norms[violation.norm].category, violation.severity))
        return Judged(violations, outcomes, [self._disable(check, why) for check, why in failed], repeats)

    def _unreadable(self, signal: Signal, error: Exception) -> Judged:
        if type(signal) in self._unread:
            return NOTHING
        self._unread.add(type(signal))
        what = f"{moment_of(type(signal))} signals cannot be read: {type(error).__name__}: {error}"
        return Judged(problems=(f"{what}; those of the kind that are broken are passed over",))

    def _windows_of(self, signal: AnySignal) -> Windows:
        stream = signal.stream if isinstance(signal, _STREAMED) else ""
        windows = self._windows.get(stream)
        if windows is None:
            windows = self._windows[stream] = Windows()
            windows.total_steps = self._total_steps
        if isinstance(signal, Preflight) and signal.total_steps is not None:
            self._total_steps = signal.total_steps
            for each in self._windows.values():
                each.total_steps = signal.total_steps
        return windows

    def _broken(self, check: _Check, finding: Finding, signal: Signal, outcomes: list[Outcome]) -> Violation:
        case = check.cases.get(signal.place)
        violation = Violation(
            id=f"v{self._next}",
            norm=check.norm.id,
            category=check.norm.category,
            severity=check.norm.severity_at(check.level, finding.at_most),
            step=signal.step,
            epoch=signal.epoch,
            message=finding.message,
            evidence=finding.evidence,
            aspect=check.aspect,
            place=signal.place,
            recurs=None if case is None else case.violation.id,
        )
        self._next += 1
        if case is None:
            check.cases[signal.place] = _Case(violation)
        else:
            outcomes.append(Outcome(violation=case.violation.id, state="recurred", step=signal.step))
            case.violation, case.open, case.kept, case.followed = violation, True, 0, False
            case.repeats += 1
        return violation

    def _repeated(self, check: _Check, case: _Case, signal: Signal, outcomes: list[Outcome]) -> None:
        case.repeats += 1
        case.kept = 0
        if case.followed:
            case.broken_after_remedy += 1
            if case.broken_after_remedy == check.norm.grace:
                outcomes.append(Outcome(violation=case.violation.id, state="persists", step=signal.step))

    def _kept(self, check: _Check, signal: Signal, outcomes: list[Outcome]) -> None:
        """A norm that breaks again and again must be kept twice as long each time before it counts as cured."""
        case = check.cases.get(signal.place)
        if case is None or not case.open:
            return
        case.kept += 1
        if case.kept >= check.patience << min(case.cures, _MOST_DOUBLINGS):
            case.open = False
            case.cures += 1
            outcomes.append(Outcome(violation=case.violation.id, state="cured", step=signal.step))

    def _disable(self, failed: _Check, why: str) -> str:
        for checks in self._checks.values():
            checks[:] = [check for check in checks if check.detect is not failed.detect]
        return f"the detector of norm {failed.norm.id} failed and is asked no more: {why}"

    def follow(self, violation: str) -> None:
        """Note that a remedy was applied: from here on it is cured, or persists once its grace has run out.

        An outcome comes from ``feed`` either way; follow it again after the next remedy.
        """
        for case in self._all_cases():
            if case.violation.id == violation and case.open:
                case.followed, case.broken_after_remedy, case.kept = True, 0, 0

    def rewind(self, step: int) -> None:
        """Note that the run was rolled back to ``step``: what was seen later is not what it stands by now."""
        for windows in self._windows.values():
            windows.rewind(step)

    def mute(self, norm: str) -> None:
        """Judge a norm no longer.

        Raises:
            ConfigError: There is no such norm; names the nearest.
        """
        self._muted.add(known_norm(norm, self.norms))
        for checks in self._checks.values():
            checks[:] = [check for check in checks if check.norm.id != norm]

    def judges(self, norm: str, signal: type[Signal]) -> bool:
        """Return whether a norm is judged by this kind of signal; what is costly to see need not be seen otherwise."""
        return any(check.norm.id == norm for check in self._checks.get(signal, ()))

    def limit(self, norm: str, name: str) -> float | None:
        """Return a limit as it holds in this run; None where the norm is not judged."""
        checks = (check for group in self._checks.values() for check in group)
        return next((check.limits[name] for check in checks if check.norm.id == norm), None)

    def readings(self) -> list[Reading]:
        """Return how every norm stands, in the catalogue's order."""
        checks: dict[str, list[_Check]] = {}
        for check in {id(check): check for group in self._checks.values() for check in group}.values():
            checks.setdefault(check.norm.id, []).append(check)
        return [self._reading(norm, checks.get(norm.id, [])) for norm in self.norms.values()]

    def _reading(self, norm: Norm, checks: list[_Check]) -> Reading:
        cases = [case for (norm_id, _), places in self._cases.items() if norm_id == norm.id for case in places.values()]
        judged = [check for check in checks if check.value is not None]
        shown = next((check for check in judged if any(case.open for case in check.cases.values())), None)
        shown = shown or next(iter(judged), None)
        limit = None
        if shown is not None:
            limit = 0.0 if shown.limit is None else shown.limits[shown.limit]
        severities = [case.violation.severity for case in cases if case.open]
        return Reading(
            norm=norm.id,
            category=norm.category,
            severity=max(severities or [norm.severity_at(self._levels[norm.id])], key=SEVERITIES.index),
            title=norm.title,
            standing=self._standing(norm, cases, judged),
            value=None if shown is None else shown.value,
            limit=limit,
            measures=norm.measures if shown is None else shown.measures,
            repeats=sum(case.repeats for case in cases),
            open=[case.violation.id for case in cases if case.open],
        )

    def _standing(self, norm: Norm, cases: list[_Case], judged: list[_Check]) -> Standing:
        if norm.id in self._muted:
            return "muted"
        if any(case.open for case in cases):
            return "broken"
        if cases:
            return "cured"
        return "kept" if judged else "not applicable"

    def verdict(self, overridden: Collection[str] = ()) -> Verdict:
        """Return how the run ends: kept (or cured), broken, and broken by leave of a person.

        Args:
            overridden: Norms whose remedy a person rejected; muted ones that were broken count with them.
        """
        kept: list[str] = []
        broken: list[str] = []
        allowed: list[str] = []
        for reading in self.readings():
            if reading.open:
                by_leave = reading.norm in overridden or reading.standing == "muted"
                (allowed if by_leave else broken).append(reading.norm)
            elif reading.standing in ("kept", "cured"):
                kept.append(reading.norm)
        return Verdict(kept=kept, broken=broken, overridden=allowed)

    def worst_open(self) -> Severity | None:
        """Return the gravest severity of what is broken and neither cured nor muted."""
        found = [case.violation for case in self._all_cases() if case.open]
        found = [violation for violation in found if violation.norm not in self._muted]
        return max((violation.severity for violation in found), key=SEVERITIES.index, default=None)

    def _all_cases(self) -> Iterable[_Case]:
        return (case for places in self._cases.values() for case in places.values())


def _changes(overrides: Overrides, norms: Mapping[str, Norm]) -> tuple[dict[str, Level], dict[str, dict[str, float]]]:
    """Return the changed levels and limits by norm, checked."""
    levels: dict[str, Level] = {}
    limits: dict[str, dict[str, float]] = {}
    for norm_id, changed in overrides.items():
        norm = norms[known_norm(norm_id, norms)]
        for key, value in changed.items():
            where = f"norm {norm_id}: {key}={value}"
            if key == "level":
                if value not in _LEVELS:
                    raise ConfigError(f"{where}: allowed is {', '.join(_LEVELS)}")
                levels[norm_id] = value
            elif key not in norm.limits:
                near = get_close_matches(key, [*norm.limits, "level"], n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join([*norm.limits, 'level'])}"
                raise ConfigError(f"norm {norm_id} has no limit {key!r}; {hint}")
            elif isinstance(value, bool) or not isinstance(value, _NUMBERS) or math.isnan(value):
                raise ConfigError(f"{where}: expected a number")
            else:
                limits.setdefault(norm_id, {})[key] = float(value)
    return levels, limits
