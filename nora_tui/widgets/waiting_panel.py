"""What waits for a person, over the foot of a run: it takes no focus, and goes when it is decided."""

import time
from collections.abc import Sequence

from textual.strip import Strip

from nora_tui.format import plural
from nora_tui.widgets.proposal_view import LABEL, Lines, brief_evidence, brief_proposal, proposal_text
from nora_tui.widgets.toned import Piece, Toned, cut, spread
from nora_tui.wording import deadline_words, hold_words
from sessions.events import Proposal
from sessions.state import SessionState

DEAF_SECONDS = 0.4
"""After something new appears, keys that may have been meant for what was there before do nothing."""
_EDGE: Piece = ("▌ ", "warn")


class WaitingPanel(Toned):
    """Shows the first of the proposals that wait: evidence, then proposal; cut to the room that there is."""

    def __init__(self) -> None:
        super().__init__()
        self._proposal: Proposal | None = None
        self._drawn_for: tuple[Proposal, int, int] | None = None
        self._head: list[Piece] = []
        self._lines: Lines = []
        self._since = 0.0

    @property
    def hears(self) -> bool:
        """Whether it has been there long enough for a key to be meant for it."""
        return self._proposal is not None and time.monotonic() - self._since >= DEAF_SECONDS

    def show(self, state: SessionState, waiting: Sequence[Proposal], width: int, room: int) -> None:
        """Show the first of ``waiting`` in at most ``room`` lines, or nothing."""
        proposal = waiting[0] if waiting else None
        if proposal is not self._proposal:
            if proposal is None or self._proposal is None or proposal.id != self._proposal.id:
                self._since = time.monotonic()
            self._proposal = proposal
        self.display = proposal is not None
        if proposal is None:
            return
        drawn_for = proposal, width, room
        if self._drawn_for is None or self._drawn_for[0] is not proposal or self._drawn_for[1:] != drawn_for[1:]:
            self._drawn_for = drawn_for
            self._lines = _fitted(state, proposal, width - 4, room - 1)
            self.styles.height = len(self._lines) + 1
            self.refresh()
        head = _head(proposal, len(waiting), width - 4)
        if head != self._head:
            self._head = head
            self.refresh()

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        lines = [self._head, *self._lines]
        line = lines[y] if y < len(lines) else []
        return self.strip([_EDGE, *cut(line, width - 3)], width)


def _head(proposal: Proposal, waiting: int, width: int) -> list[Piece]:
    left: list[Piece] = [(f"◆ {proposal.id} waits for you", "warn")]
    if waiting > 1:
        left.append((f"  {waiting - 1} more after it", "muted"))
    return spread(left, [(f"{hold_words(proposal)} · {deadline_words(proposal)}", "plain")], width)


def _fitted(state: SessionState, proposal: Proposal, width: int, room: int) -> Lines:
    """Return what fits in ``room`` lines: what a person needs first goes last."""
    text = proposal_text(state, proposal, width)
    number = len(proposal.alternatives)
    short: Lines = [[(f"  {'or':<{LABEL}}", "muted"), (plural(number, "alternative"), "plain")]] if number else []
    for proposed in (
        [[], *text.proposed, *text.alternatives],
        [*text.proposed, *text.alternatives],
        [*text.proposed, *short],
    ):
        if len(text.evidence) + len(proposed) <= room:
            return [*text.evidence, *proposed]
    brief = brief_evidence(state, proposal, width)
    action = brief_proposal(proposal, width)
    for proposed in ([*text.proposed, *short], [*action, *short], action, action[:1]):
        if len(brief) + len(proposed) <= room:
            return [*brief, *proposed]
    return [*brief[: room - 1], *action[:1]]
