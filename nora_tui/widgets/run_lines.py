"""The lines at the head of a run: who it is, how far it is, how it ended."""

from nora_tui import clock
from nora_tui.cases import paused
from nora_tui.format import PAUSED, STATUS, count, duration
from nora_tui.widgets.progress import bar
from nora_tui.widgets.toned import Piece, width_of
from sessions.state import SessionState

_LEAST_BAR, _MOST_BAR = 8, 60


def status_pieces(state: SessionState) -> list[Piece]:
    """Return shape, word and time: ● running 1m 23s."""
    look = PAUSED if not state.ended and paused(state) else STATUS[state.status]
    pieces: list[Piece] = [(f"{look.glyph} {look.word}", look.tone)]
    if state.started_at:
        until = (state.finished_at or state.updated_at or state.started_at) if state.ended else clock.now()
        word = " in " if state.status == "completed" else " after " if state.ended else " for "
        pieces += [(word, "muted"), (duration((until - state.started_at).total_seconds()), "plain")]
    return pieces


def fact_pieces(state: SessionState, data: str) -> list[Piece]:
    """Return what kind of run it is: vit on digits · pipeline · balanced · seed 42 · host."""
    facts = [
        f"{state.workload} on {data}" if state.workload and data else state.workload,
        state.mode,
        state.regime,
        f"{state.violation} planted" if state.violation not in ("", "none") else "",
        "" if state.seed is None else f"seed {state.seed}",
        f"attempt {state.attempt}" if state.attempt > 1 else "",
        state.host,
        *(f"#{tag}" for tag in state.tags),
    ]
    return [(" · ".join(filter(None, facts)), "muted")]


def progress_pieces(state: SessionState, width: int, *, loading: bool) -> list[Piece]:
    """Return a bar and figures that fill ``width`` cells; where it is narrow the last figures go first."""
    figures = _figures(state)
    if loading:
        figures.insert(1, [("reading …", "muted")])
    fraction = state.fraction
    least = 0 if fraction is None else _LEAST_BAR + 7
    while len(figures) > 1 and width_of(_joined(figures)) + least > width:
        figures.pop()
    joined = _joined(figures)
    if fraction is None:
        return joined
    room = min(_MOST_BAR, width - width_of(joined) - 7)
    tone = "muted" if state.ended else "accent"
    return [*bar(fraction, room, tone), (f" {fraction:4.0%}  ", "plain"), *joined]


def _figures(state: SessionState) -> list[list[Piece]]:
    total = f"/{count(state.total_steps)}" if state.total_steps else ""
    figures: list[list[Piece]] = [[("step ", "muted"), (f"{count(state.step)}{total}", "plain")]]
    if state.eta_seconds is not None and not state.ended:
        figures.append([(duration(state.eta_seconds), "plain"), (" left", "muted")])
    if state.epoch is not None:
        epochs = f"/{state.total_epochs}" if state.total_epochs else ""
        figures.append([("epoch ", "muted"), (f"{state.epoch:.4g}{epochs}", "plain")])
    if state.samples_per_second:
        figures.append([(f"{count(state.samples_per_second)}", "plain"), (" samples/s", "muted")])
    if state.phase:
        figures.append([(state.phase.name, "accent")])
    return figures


def _joined(figures: list[list[Piece]]) -> list[Piece]:
    pieces: list[Piece] = []
    for figure in figures:
        pieces += [(" · ", "faint"), *figure] if pieces else figure
    return pieces


def ending(state: SessionState) -> list[Piece]:
    """Return in words how a run ended that did not complete; nothing for others."""
    if not state.ended or state.status == "completed":
        return []
    at = f" at step {count(state.step)}" + (f" of {count(state.total_steps)}" if state.total_steps else "")
    words = {
        "stopped": "Stopped",
        "failed": "Failed",
        "crashed": "Crashed",
        "lost": "Lost sight of",
    }
    tone = STATUS[state.status].tone
    reason = state.reason.removeprefix("stopped ") if state.status == "stopped" else state.reason
    joint = " " if reason.startswith("by ") else ": "
    return [
        (words[state.status] + at, tone if tone != "muted" else "strong"),
        (f"{joint}{reason}" if reason else "", "plain"),
    ]
