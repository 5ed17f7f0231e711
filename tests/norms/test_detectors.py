"""Every detector, in every regime: what breaks its norm, what only seems to, what was not seen, and NaN."""

from itertools import chain

import pytest
from msgspec.structs import replace

from norms.detectors import DETECTORS
from norms.finding import Detector, moment_of
from norms.judge import Judge, Violation
from norms.norm import REGIMES, catalogue
from norms.signals import AnySignal, CheckpointSaved, Evaluation, Replay
from norms.windows import Windows
from sessions.codec import decode, encode
from tests.norms.cases import CASES, WITHOUT_NUMBERS, Case


def found(case: Case, regime: str) -> list[Violation]:
    judge = Judge(regime)
    judged = [judge.feed(signal) for signal in case.signals]
    assert not [problem for each in judged for problem in each.problems]
    violations = chain.from_iterable(each.violations for each in judged)
    return [violation for violation in violations if (violation.norm, violation.aspect) == (case.norm, case.aspect)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.norm}-{case.aspect}-{case.what}")
def test_case(case: Case) -> None:
    for regime, severity in zip(REGIMES, case.expected, strict=True):
        violations = found(case, regime)
        assert [violation.severity for violation in violations[:1]] == ([] if severity is None else [severity]), regime


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.norm}-{case.aspect}-{case.what}")
def test_a_violation_says_itself_in_one_sentence_and_keeps_its_evidence(case: Case) -> None:
    norm = catalogue()[case.norm]
    for violation in found(case, "strict"):
        assert "\n" not in violation.message
        assert not violation.message.endswith(".")
        assert len(violation.message) < 250
        assert set(violation.evidence) <= set(norm.evidence), "evidence that the catalogue does not explain"
        recorded = replace(violation.event(), seq=0)
        assert repr(decode(encode(recorded)).evidence) == repr(recorded.evidence)
        for remedy in norm.remedies:
            if not remedy.aspects or violation.aspect in remedy.aspects:
                remedy.params_for(violation.evidence)


@pytest.mark.parametrize("norm_aspect", sorted({(d.norm, d.aspect) for d in DETECTORS}), ids="-".join)
def test_every_detector_has_its_cases(norm_aspect: tuple[str, str]) -> None:
    kinds = {case.kind for case in CASES if (case.norm, case.aspect) == norm_aspect}
    assert kinds >= ({"broken", "healthy"} if norm_aspect in WITHOUT_NUMBERS else {"broken", "healthy", "nan"})
    assert not ("nan" in kinds and norm_aspect in WITHOUT_NUMBERS)


def test_thresholds_that_differ_are_told_apart_by_a_case() -> None:
    """Where a norm has other limits or severities in two regimes, some case is judged otherwise in the two."""
    untold = []
    for norm in catalogue().values():
        for one, other in ((0, 1), (1, 2)):
            first, second = REGIMES[one], REGIMES[other]
            severities = [norm.severity_at(norm.level_in(regime)) for regime in (first, second)]
            if norm.limits_in(first) == norm.limits_in(second) and severities[0] == severities[1]:
                continue
            if all(case.expected[one] == case.expected[other] for case in CASES if case.norm == norm.id):
                untold.append((norm.id, first, second))
    assert untold == []


def bare(kind: type[AnySignal]) -> AnySignal:
    """Return a signal in which nothing was seen."""
    required = {Evaluation: {"split": "val"}, CheckpointSaved: {"path": "x"}, Replay: {"steps": 3}}
    return kind(step=1000, **required.get(kind, {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: f"{d.norm}-{d.aspect}-{moment_of(d.signal)}")
@pytest.mark.parametrize("regime", REGIMES)
def test_a_detector_is_silent_on_what_was_not_seen(detector: Detector, regime: str) -> None:
    windows = Windows()
    signal = bare(detector.signal)
    windows.take(signal)
    assert detector.detect(signal, catalogue()[detector.norm].limits_in(regime), windows) is None


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.norm}-{case.aspect}-{case.what}")
def test_a_detector_is_a_pure_function(case: Case) -> None:
    """Asked twice it answers the same, and leaves the statistics as they are."""
    detectors = [d for d in DETECTORS if (d.norm, d.aspect) == (case.norm, case.aspect)]
    limits = catalogue()[case.norm].limits_in("strict")
    windows = Windows()
    for signal in case.signals:
        windows.take(signal)
        for detector in detectors:
            if isinstance(signal, detector.signal):
                answers = [detector.detect(signal, limits, windows) for _ in range(2)]
                assert repr(answers[0]) == repr(answers[1])


def test_the_first_regime_to_find_something_is_the_strictest() -> None:
    for case in CASES:
        broken = [severity is not None for severity in case.expected]
        assert broken == sorted(broken, reverse=True), case.what
