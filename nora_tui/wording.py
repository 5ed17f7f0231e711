"""Proposals, verdicts, actions and evidence in words; the words are the same wherever they stand."""

from collections.abc import Iterable, Mapping
from typing import Any

from nora_tui import clock
from nora_tui.format import count, duration, size, value
from sessions.events import Action, Json, Proposal, Resolution

NOTHING = "none"
"""The action of a proposal, or of a resolution, after which a run goes on as it is."""
MOST_LISTED = 12
"""Names or numbers that a list in the evidence shows; all of them stand in events.jsonl."""
_VERDICTS = {
    "approved": "approved",
    "overridden": "overridden",
    "rejected": "rejected",
    "timed_out": "timed out",
    "by_policy": "by rule",
}


def json_text(found: Any, key: str = "") -> str:
    """Return a JSON value in words; ``key`` is what it is called, from which bytes are known."""
    match found:
        case None:
            return "–"
        case bool():
            return "yes" if found else "no"
        case int():
            return size(found) if key.endswith("_bytes") else count(found) if abs(found) >= 10_000 else str(found)
        case float():
            return size(found) if key.endswith("_bytes") else value(found)
        case list() | tuple():
            few = found if len(found) <= MOST_LISTED + 1 else found[:MOST_LISTED]
            words = [str(each) if type(each) is int else json_text(each) for each in few]
            words += [f"and {count(len(found) - len(few))} more"] if len(found) > len(few) else []
            return ", ".join(words) or "none"
        case dict():
            return ", ".join(f"{name} {json_text(each, name)}" for name, each in found.items()) or "none"
    return str(found)


def evidence_rows(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return evidence as (label, words), a group within it as rows of its own; what is empty shows nothing."""
    rows: list[tuple[str, str]] = []
    for key, found in evidence.items():
        if found is None or found in ([], {}, ""):
            continue
        label = key.replace("_", " ")
        if isinstance(found, Mapping) and any(isinstance(each, Mapping) for each in found.values()):
            rows += [(f"{label} {name}", json_text(each, name)) for name, each in found.items()]
        else:
            rows.append((label, json_text(found, key)))
    return rows


def call(action: str, params: Mapping[str, Any]) -> str:
    """Return an action with its parameters: set_lr factor=0.5."""
    if action == NOTHING:
        return "nothing"
    return " ".join([action, *(f"{name}={_param(given)}" for name, given in params.items())])


def _param(given: Any) -> str:
    match given:
        case bool():
            return str(given).lower()
        case list() | tuple():
            return ",".join(map(str, given))
        case float():
            return f"{given:g}"
    return str(given)


def effect_of(action: str) -> str:
    """Return what the run does, as the end of "The run will …"; "" for an action that this version does not know."""
    from norms.actions import ACTIONS

    return ACTIONS[action].effect if action in ACTIONS else ""


def undo_words(action: str) -> str:
    """Return whether an action can be undone; "" where that is not known."""
    from norms.actions import ACTIONS

    if action not in ACTIONS:
        return ""
    return "can be undone" if ACTIONS[action].reversible else "cannot be undone"


def hold_words(proposal: Proposal) -> str:
    return "the run waits" if proposal.hold == "pause" else "the run goes on"


def deadline_words(proposal: Proposal) -> str:
    """Return how long there is to answer, and what happens then: 9m 42s left, then the run stops."""
    if proposal.deadline is None:
        return "no deadline"
    left = (proposal.deadline - clock.now()).total_seconds()
    then = timeout_words(proposal)
    return f"{duration(left)} left, then {then}" if left > 0 else f"time is up: {then}"


def timeout_words(proposal: Proposal) -> str:
    match proposal.on_timeout:
        case "stop":
            return "the run stops"
        case "recommended":
            return f"{proposal.action} is done"
    return "it goes on as it is"


def verdict_words(resolution: Resolution) -> str:
    """Return who decided what: approved by ann, rejected by bob, timed out, by rule."""
    word = _VERDICTS.get(resolution.verdict, resolution.verdict)
    return f"{word} by {resolution.by}" if resolution.via != "policy" else word


def resolution_words(resolution: Resolution) -> str:
    """Return one sentence about a proposal that was decided."""
    what = "" if resolution.verdict == "rejected" else f": {call(resolution.action, resolution.params)}"
    return f"{resolution.proposal} {verdict_words(resolution)}{what}"


def change_words(effect: Json | None) -> str:
    """Return what an action changed: lr 0.002 → 0.001, step 143 → 100."""
    before, after = (_mapping((effect or {}).get(side)) for side in ("before", "after"))
    return ", ".join(_changes(before, after))


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[str]:
    for key in dict.fromkeys([*before, *after]):
        label = key.replace("_", " ")
        if before.get(key) == after.get(key) is None:
            continue
        if key in before and key in after:
            yield f"{label} {json_text(before[key], key)} → {json_text(after[key], key)}"
        else:
            yield f"{label} {json_text(after[key] if key in after else before[key], key)}"


def _mapping(found: object) -> Mapping[str, Any]:
    return found if isinstance(found, Mapping) else {}


def action_words(action: Action) -> str:
    """Return how an action stands: set_lr factor=0.5 done: lr 0.002 → 0.001."""
    said = action.error if action.state == "failed" else change_words(action.effect)
    return f"{call(action.action, action.params)} {action.state}" + (f": {said}" if said else "")
