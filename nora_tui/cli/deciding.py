"""``nora decide``: answer a proposal, and see the run take the answer."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, Literal, cast, get_args

import typer

from configs.errors import ConfigError
from nora_tui.cases import resolution_of, waiting
from nora_tui.cli.asking import answered, live
from nora_tui.cli.lines import decided, proposed, resolution_line
from nora_tui.cli.output import print_json
from nora_tui.cli.parameters import parsed
from nora_tui.wording import NOTHING
from norms.actions import check_params
from sessions.events import Proposal, Resolution
from sessions.paths import SessionPaths
from sessions.requests import Decide, ask
from sessions.state import SessionState

VerdictWord = Literal["approve", "override", "reject"]
_DONE: dict[VerdictWord, str] = {"approve": "approved", "override": "overridden", "reject": "rejected"}


def decide_proposal(
    paths: SessionPaths,
    words: Sequence[str],
    *,
    action: str | None,
    given: Sequence[str],
    reason: str | None,
    always: bool,
    wait: bool,
    as_json: bool,
) -> None:
    """Answer a proposal; ``words`` are its id, which may be left out where one waits, and the verdict.

    Raises:
        ConfigError: No such proposal waits, the verdict cannot be, or the run refused it.
    """
    proposal_id, verdict = _split(words)
    reader = live(paths, "decide")
    proposal = _find(reader.state, proposal_id, paths.run_id)
    params = _checked(proposal, verdict, action, given)
    request = Decide(
        via="cli",
        reason=reason,
        proposal=proposal.id,
        verdict=verdict,
        action=action,
        params=params,
        always=always,
    )
    if not wait:
        ask(paths, request)
        _print(paths, request, None, as_json)
        return
    _print(paths, request, answered(reader, request, lambda state: _resolution(state, request)), as_json)


def _split(words: Sequence[str]) -> tuple[str | None, VerdictWord]:
    verdicts = get_args(VerdictWord)
    if len(words) > 2:
        raise ConfigError(f"{' '.join(words)!r} is too much; write [ID] {'|'.join(verdicts)}")
    *ids, verdict = words
    if verdict not in verdicts:
        near = get_close_matches(verdict, verdicts, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{verdict!r} is no verdict: allowed is {', '.join(verdicts)}{hint}")
    return (ids[0] if ids else None), cast(VerdictWord, verdict)


def _find(state: SessionState, proposal_id: str | None, run_id: str) -> Proposal:
    """Return the proposal that is meant.

    Raises:
        ConfigError: It is unknown or decided; or none was named, and not exactly one waits.
    """
    open_ = waiting(state)
    listed = ", ".join(f"{proposal.id} ({proposed(proposal)})" for proposal in open_)
    if proposal_id is None:
        if not open_:
            raise ConfigError(f"no proposal waits in {run_id}; there is nothing to decide")
        if len(open_) > 1:
            raise ConfigError(f"{len(open_)} proposals wait in {run_id}: {listed}; name one")
        return open_[0]
    for proposal in open_:
        if proposal.id == proposal_id:
            return proposal
    if (resolution := resolution_of(state, proposal_id)) is not None:
        raise ConfigError(f"{resolution.proposal} is decided already: {decided(resolution)}")
    raise ConfigError(
        f"there is no proposal {proposal_id!r} in {run_id}; waiting: {listed}"
        if open_
        else f"there is no proposal {proposal_id!r} in {run_id}, and none waits"
    )


def _checked(proposal: Proposal, verdict: VerdictWord, action: str | None, given: Sequence[str]) -> dict[str, Any]:
    """Return the parameters to send: with another action all of them, else those that change.

    Raises:
        ConfigError: The verdict does not go with what was given, or the action cannot have these parameters.
    """
    if verdict != "override":
        if action is not None or given:
            raise ConfigError(f"{verdict} takes neither --action nor --set; `override` does")
        if verdict == "approve" and proposal.action == NOTHING:
            raise ConfigError(f"{proposal.id} recommends nothing that could be approved; override it or reject it")
        return {}
    if action is None and not given:
        raise ConfigError("override needs --action with another action, or --set with other parameters")
    if action is None or action == proposal.action:
        if proposal.action == NOTHING:
            raise ConfigError(f"{proposal.id} recommends no action; name one with --action")
        changed = parsed(proposal.action, given)
        check_params(proposal.action, proposal.params | changed)
        return changed
    offered = next((each.params for each in proposal.alternatives if each.action == action), {})
    params = offered | parsed(action, given)
    check_params(action, params)
    return params


def _resolution(state: SessionState, request: Decide) -> Resolution | None:
    """Return the run's answer; a resolution of somebody else's leaves this request to be refused."""
    mine = (request.proposal, _DONE[request.verdict], request.by, request.via)
    for resolution in state.resolutions:
        if (resolution.proposal, resolution.verdict, resolution.by, resolution.via) == mine:
            return resolution
    return None


def _print(paths: SessionPaths, request: Decide, resolution: Resolution | None, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "run": paths.run_id,
                "request": request.id,
                "proposal": request.proposal,
                "answered": resolution is not None,
                "verdict": resolution.verdict if resolution else request.verdict,
                "action": resolution.action if resolution else request.action,
                "params": resolution.params if resolution else request.params,
                "by": request.by,
                "reason": request.reason,
                "always": request.always,
            }
        )
    elif resolution is None:
        typer.echo(f"{paths.run_id} was asked to {request.verdict} {request.proposal}")
    else:
        always = ", and so whenever this norm is broken in this run" if request.always else ""
        typer.echo(resolution_line(resolution) + always)
