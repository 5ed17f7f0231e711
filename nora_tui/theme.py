"""The cockpit's colours. Calm by intent: grey on near-black, and a colour only where it says something.

Train and validation are blue and amber, which every common kind of colour blindness keeps apart.
"""

from typing import NamedTuple

from textual.theme import Theme


class ToneLook(NamedTuple):
    """How a tone of text looks."""

    variable: str
    """The theme's variable that holds its colour."""
    bold: bool = False
    without_colour: str = ""
    """With NO_COLOR set: what says it by weight."""


TONES: dict[str, ToneLook] = {
    "plain": ToneLook("foreground"),
    "strong": ToneLook("strong", bold=True, without_colour="bold"),
    "muted": ToneLook("muted", without_colour="dim"),
    "faint": ToneLook("faint", without_colour="dim"),
    "accent": ToneLook("accent", without_colour="bold"),
    "good": ToneLook("success"),
    "busy": ToneLook("accent", without_colour="bold"),
    "warn": ToneLook("warning", bold=True, without_colour="bold"),
    "bad": ToneLook("error", without_colour="bold"),
    "train": ToneLook("train"),
    "val": ToneLook("val", without_colour="bold"),
    "test": ToneLook("test", without_colour="bold"),
    "other": ToneLook("other"),
}
"""Every tone that text can have."""
SELECTED = "selected"
"""The variable that holds the ground of a selected line."""

DARK = Theme(
    name="nora-dark",
    dark=True,
    background="#10141a",
    surface="#161b22",
    panel="#1d242d",
    foreground="#c9d1da",
    primary="#79b0d8",
    secondary="#e0a868",
    accent="#79b0d8",
    success="#82b487",
    warning="#e3b566",
    error="#dd7a72",
    variables={
        "strong": "#eef2f6",
        "muted": "#7d8895",
        "faint": "#39424d",
        "selected": "#1f2a36",
        "train": "#79b0d8",
        "val": "#e8a85c",
        "test": "#8fc08f",
        "other": "#b39ad0",
        "border": "#39424d",
        "border-blurred": "#2b333d",
        "scrollbar": "#2b333d",
        "scrollbar-hover": "#39424d",
        "scrollbar-active": "#4a5562",
        "scrollbar-background": "#10141a",
        "scrollbar-background-hover": "#10141a",
        "scrollbar-background-active": "#10141a",
        "scrollbar-corner-color": "#10141a",
        "block-cursor-background": "#1f2a36",
        "block-cursor-foreground": "#eef2f6",
        "block-cursor-text-style": "none",
        "block-cursor-blurred-background": "#1f2a36",
        "block-cursor-blurred-foreground": "#c9d1da",
        "input-selection-background": "#79b0d8 30%",
    },
)
