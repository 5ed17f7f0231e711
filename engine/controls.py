"""What a run can be told to do: the actions of norms/actions.py that whoever holds the live objects has offered."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from configs.errors import ConfigError, NoraError
from norms.actions import check_params
from sessions.events import Json

Effect = Json
"""``{"before": {…}, "after": {…}}``, read from the live objects."""
Handler = Callable[[Json], Effect]
Able = Callable[[Json], str | None]
"""Says why the run cannot do it with these parameters, or None."""
When = Literal["now", "boundary", "evaluation"]
"""now: at once, within the step; boundary: between two steps, as it moves the loop; evaluation: at once, and what was
being evaluated is evaluated again before it counts as done."""


class ActionFailed(NoraError):
    """An action that was tried and could not be carried out; the run goes on."""

    exit_code = 1


class Offer(NamedTuple):
    handler: Handler
    able: Able
    when: When


class Controls:
    """The actions that this run can carry out; a later offer replaces an earlier one."""

    def __init__(self) -> None:
        self._offers: dict[str, Offer] = {}

    def offer(self, action: str, handler: Handler, able: Able = lambda _: None, when: When = "now") -> None:
        """Have ``handler`` carry out ``action``.

        Args:
            action: One of norms.actions.ACTIONS.
            handler: Takes checked parameters and returns the effect; raises ActionFailed with one sentence.
            able: Why not, for parameters that are right in themselves.
            when: When the handler may be called.
        """
        self._offers[action] = Offer(handler, able, when)

    def withdraw(self, actions: Iterable[str]) -> None:
        """Take offers back, as when the objects that they change are gone."""
        for action in actions:
            self._offers.pop(action, None)

    def refusal(self, action: str, params: Mapping[str, Any]) -> str | None:
        """Return why the run cannot carry out the action with these parameters, in one sentence, or None."""
        try:
            check_params(action, params)
        except ConfigError as error:
            return str(error)
        if (offer := self._offers.get(action)) is None:
            return f"this run cannot do {action}"
        why = offer.able(dict(params))
        return None if why is None else f"this run cannot do {action}: {why}"

    def when(self, action: str) -> When:
        return self._offers[action].when

    def carry_out(self, action: str, params: Json) -> Effect:
        """Do it, and return the effect.

        Raises:
            ActionFailed: It could not be done.
        """
        return self._offers[action].handler(params)
