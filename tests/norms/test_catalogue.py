"""The catalogue is complete, consistent with the detectors, and refuses what it cannot read in one sentence."""

import textwrap

import pytest

from configs.errors import ConfigError
from norms.actions import ACTIONS
from norms.detectors import DETECTORS
from norms.finding import moment_of
from norms.norm import CATEGORIES, REGIMES, catalogue, known_norm, parse_norms, rank

IDS = [
    "optimizer-coverage", "no-update", "missing-grad", "eval-mode", "train-mode", "split-overlap",
    "augmentation-leak", "test-selection", "feature-leak", "loss-contract", "zero-grad", "grad-scale", "at-chance",
    "scheduler", "non-finite", "spike", "update-ratio", "vanishing-gradient", "dead-units", "checkpoint-integrity",
    "seeding", "determinism", "worker-rng", "reshuffle", "provenance", "metric-aggregation", "single-run",
    "promotion-gate", "sla", "drift", "resources",
]  # fmt: skip


def test_the_ids_are_those_that_people_cite() -> None:
    assert list(catalogue()) == IDS
    assert len(IDS) == 31


def test_every_norm_has_its_detectors_and_every_detector_its_norm() -> None:
    for norm in catalogue().values():
        own = [detector for detector in DETECTORS if detector.norm == norm.id]
        assert {moment_of(detector.signal) for detector in own} == set(norm.judged), norm.id
        assert {aspect for remedy in norm.remedies for aspect in remedy.aspects} <= {d.aspect for d in own}, norm.id
        assert {detector.limit for detector in own} <= {"", None, *norm.limits}, norm.id
    assert {detector.norm for detector in DETECTORS} == set(catalogue())


def test_every_remedy_is_an_action_that_runs_know() -> None:
    for norm in catalogue().values():
        assert {remedy.action for remedy in norm.remedies} <= set(ACTIONS), norm.id


def test_categories_stand_together_in_the_order_of_the_hierarchy() -> None:
    assert [norm.category for norm in catalogue().values()] == sorted(
        (norm.category for norm in catalogue().values()), key=CATEGORIES.index
    )


def test_every_norm_is_explained() -> None:
    for norm in catalogue().values():
        for text in (norm.title, norm.what, norm.why, norm.advice, norm.measures):
            assert text.strip() and "\n" not in text, norm.id
        assert norm.sources and norm.evidence, norm.id
        assert len(norm.title) <= 60, norm.id
        assert norm.what.endswith(".") and norm.why.endswith("."), norm.id


def test_what_voids_the_result_is_critical() -> None:
    critical = {norm.id for norm in catalogue().values() if norm.severity == "critical"}
    assert critical == {
        "optimizer-coverage", "no-update", "missing-grad", "eval-mode", "split-overlap", "test-selection",
        "feature-leak", "loss-contract", "zero-grad", "non-finite",
    }  # fmt: skip
    assert {norm.category for norm in catalogue().values() if norm.id in critical} == {"validity", "stability"}


def test_symptoms_are_what_curves_show() -> None:
    assert {norm.id for norm in catalogue().values() if norm.symptom} == {"non-finite", "spike", "at-chance"}


def test_a_level_caps_the_severity() -> None:
    norm = catalogue()["optimizer-coverage"]
    assert [norm.severity_at(level) for level in ("violate", "warn", "label", "off")] == [
        "critical", "minor", "info", "info",
    ]  # fmt: skip
    assert norm.severity_at("violate", at_most="major") == "major"
    assert catalogue()["dead-units"].severity_at("violate") == "minor"


def test_the_hierarchy_goes_by_category_then_severity() -> None:
    order = [("validity", "minor"), ("stability", "critical"), ("stability", "info"), ("operations", "critical")]
    mixed = [order[i] for i in (2, 0, 3, 1)]
    assert sorted(mixed, key=lambda pair: rank(*pair)) == order


def test_an_unknown_norm_is_told_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'spike'"):
        known_norm("spikes", catalogue())
    with pytest.raises(ConfigError, match="lists them"):
        known_norm("zzz", catalogue())


ENTRY = """
- id: mine
  category: validity
  severity: minor
  title: Mine holds
  what: It does not.
  why: It matters.
  judged: [step]
  measures: nothing
  advice: Do.
"""


def test_an_entry_needs_little() -> None:
    (norm,) = parse_norms(ENTRY.encode(), "mine.yaml")
    assert norm.level_in("strict") == "violate" and norm.limits_in("balanced") == {} and norm.patience == 1


def test_a_bare_off_is_a_level() -> None:
    (norm,) = parse_norms((ENTRY + "  level: {exploratory: off}\n").encode(), "mine.yaml")
    assert [norm.level_in(regime) for regime in REGIMES] == ["violate", "violate", "off"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- [", "is not YAML"),
        ("a: 1", "expected a list of norms"),
        (ENTRY.replace("severity: minor", "severity: bad"), r"norm 'mine': .*\$\.severity"),
        (ENTRY.replace("  title: Mine holds\n", ""), "norm 'mine': .*title"),
        (ENTRY + "  colour: red\n", "unknown field `colour`"),
        ("- 3", "norm 1: Expected `object`"),
        (ENTRY * 2, "'mine' stands there twice"),
        (ENTRY.replace("[step]", "[]"), "names no moment"),
        (ENTRY.replace("[step]", "[noon]"), "judged"),
        (ENTRY + "  patience: 0\n", "patience=0"),
        (ENTRY + "  limits: {x: {means: m, strict: 1, balanced: .nan, exploratory: 1}}\n", "limit x in balanced"),
        (ENTRY + "  remedies: [{action: pray}]\n", "no action 'pray'"),
        (ENTRY + "  remedies: [{action: set_lr, params: {factor: -1}}]\n", "factor=-1 is not possible"),
        (ENTRY + "  remedies: [{action: drop_column, params_from: {columns: which}}]\n", "'which', which is no evid"),
    ],
    ids=range(14),
)
def test_a_broken_file_is_refused_in_one_sentence(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        parse_norms(textwrap.dedent(text).encode(), "mine.yaml")
    assert str(raised.value).startswith("mine.yaml")
    assert "\n" not in str(raised.value)
