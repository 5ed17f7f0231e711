"""Who decides: what regime, severity, reversibility and ``--approve`` make of a proposal.

Regimes: strict asks about critical and major violations, holding the run, and stops it when nobody answers; balanced
asks about critical ones, holding the run, and then does what was recommended, lets major ones be remedied at once where
that can be undone, else asks while the run goes on; exploratory asks about critical ones while the run goes on, and
then lets it. All else is recorded.

Headless: ``ask`` waits for a person until the deadline; ``auto`` does what is recommended; ``record`` changes nothing.
"""

from typing import Literal

from msgspec import Struct

from norms.norm import Regime
from sessions.events import Severity

Approve = Literal["ask", "auto", "record"]
How = Literal["record", "act", "ask"]
OnTimeout = Literal["stop", "recommended", "continue"]

DEADLINE_SECONDS = 600.0
"""How long a person has to answer."""


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done about a violation, before anybody was asked."""

    how: How
    """record: leave it on record; act: carry the recommended action out; ask: propose it and wait for a verdict."""
    hold: Literal["pause", "continue"] = "continue"
    """Whether the run waits meanwhile."""
    deadline_seconds: float | None = None
    on_timeout: OnTimeout | None = None
    """What happens when nobody has answered by the deadline; ``continue`` leaves things as they are."""
    policy: str
    """The rule that says so, in words: for resolutions that no person made."""


def decide(
    regime: Regime,
    severity: Severity,
    approve: Approve,
    *,
    reversible: bool | None,
    exhausted: bool = False,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> Decision:
    """Return what to do about a violation.

    Args:
        regime: The run's.
        severity: The violation's, of several the gravest.
        approve: The run's ``--approve``.
        reversible: Whether the recommended action can be undone; None where there is none to recommend.
        exhausted: Whether all remedies have been tried, so that ending the run is what is left; without a person that
            is done for critical violations only.
        deadline_seconds: How long a person has to answer.
    """
    decision = _by_regime(regime, severity, reversible, deadline_seconds)
    if decision.how == "record":
        return decision
    if approve == "record":
        return Decision(how="record", policy="approve=record")
    if approve == "auto" and decision.how == "ask":
        if reversible is None:
            return Decision(how="record", policy="approve=auto: there is no action to take")
        if exhausted and severity != "critical":
            return Decision(how="record", policy=f"approve=auto: no remedy is left, and {severity} ends no run")
        return Decision(how="act", policy="approve=auto")
    return decision


def _by_regime(regime: Regime, severity: Severity, reversible: bool | None, seconds: float) -> Decision:
    rule = f"regime={regime}: {severity}"

    def ask(hold: Literal["pause", "continue"], on_timeout: OnTimeout, because: str = "") -> Decision:
        if reversible is None and on_timeout == "recommended":
            on_timeout = "continue"
        return Decision(
            how="ask", hold=hold, deadline_seconds=seconds, on_timeout=on_timeout, policy=f"{rule}{because} asks"
        )

    match regime, severity:
        case "strict", "critical" | "major":
            return ask("pause", "stop")
        case "balanced", "critical":
            return ask("pause", "recommended")
        case "balanced", "major" if reversible:
            return Decision(how="act", policy=f"{rule}, reversible")
        case "balanced", "major":
            return ask("continue", "continue", ", not reversible,")
        case "exploratory", "critical":
            return ask("continue", "continue")
    return Decision(how="record", policy=f"{rule} is recorded")
