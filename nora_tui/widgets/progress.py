"""A bar that fills."""

from nora_tui.widgets.toned import Piece


def bar(fraction: float, width: int, tone: str) -> list[Piece]:
    """Return a bar of ``width`` cells, filled to ``fraction`` (0 to 1) in half cells; the rest is a thinner line."""
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    full, half = divmod(halves, 2)
    filled = "━" * full + ("╸" if half else "")
    return [(filled, tone), ("─" * (width - len(filled)), "faint")]
