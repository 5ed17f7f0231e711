"""What regime, severity, reversibility and --approve make of a proposal: the whole table."""

import pytest

from norms.norm import REGIMES, SEVERITIES
from norms.policy import decide


@pytest.mark.parametrize(
    ("regime", "severity", "reversible", "expected"),
    [
        ("strict", "critical", True, ("ask", "pause", "stop")),
        ("strict", "critical", False, ("ask", "pause", "stop")),
        ("strict", "major", True, ("ask", "pause", "stop")),
        ("strict", "minor", True, ("record", "continue", None)),
        ("strict", "info", True, ("record", "continue", None)),
        ("balanced", "critical", True, ("ask", "pause", "recommended")),
        ("balanced", "critical", False, ("ask", "pause", "recommended")),
        ("balanced", "critical", None, ("ask", "pause", "continue")),
        ("balanced", "major", True, ("act", "continue", None)),
        ("balanced", "major", False, ("ask", "continue", "continue")),
        ("balanced", "major", None, ("ask", "continue", "continue")),
        ("balanced", "minor", True, ("record", "continue", None)),
        ("exploratory", "critical", True, ("ask", "continue", "continue")),
        ("exploratory", "major", True, ("record", "continue", None)),
        ("exploratory", "minor", True, ("record", "continue", None)),
    ],
)
def test_what_a_regime_decides(regime, severity, reversible, expected) -> None:
    decision = decide(regime, severity, "ask", reversible=reversible, deadline_seconds=30)
    assert (decision.how, decision.hold, decision.on_timeout) == expected
    assert decision.deadline_seconds == (30 if decision.how == "ask" else None)
    assert f"regime={regime}: {severity}" in decision.policy


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("reversible", [True, False, None])
def test_without_a_person(regime, severity, reversible) -> None:
    """record never acts; auto never asks, and does nothing that a person would not have been asked about."""
    asked, auto, record = (decide(regime, severity, how, reversible=reversible) for how in ("ask", "auto", "record"))
    assert record.how == "record"
    assert auto.how in ("act", "record")
    if asked.how == "record":
        assert auto == record == asked
    elif reversible is None:
        assert auto.how == "record"
    else:
        assert auto.how == "act"
        assert auto.policy == ("approve=auto" if asked.how == "ask" else asked.policy)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("approve", ["ask", "auto", "record"])
def test_when_no_remedy_is_left_only_a_person_ends_a_run_for_less_than_critical(regime, severity, approve) -> None:
    usual, last = (decide(regime, severity, approve, reversible=False, exhausted=each) for each in (False, True))
    if approve == "auto" and severity == "major" and regime != "exploratory":
        assert (usual.how, last.how) == ("act", "record")
        assert "no remedy is left" in last.policy
    else:
        assert last == usual
