"""Which few metrics stand for a run where there is room for few."""

from sessions.state import SessionState

_NAMES = ("accuracy", "auc", "f1", "loss", "logloss")
_SPLITS = ("test", "val", "train")


def headline(state: SessionState, most: int = 2) -> list[tuple[str, float]]:
    """Return up to ``most`` (label, newest value), such as ("val accuracy", 0.97).

    The split nearest to the end result that has any of the known names speaks; where none has, the first metrics of the
    first split do.
    """
    for split in _SPLITS:
        values = {name.lower(): value for name, value in state.latest.get(split, {}).items()}
        found = [(f"{split} {name}", values[name]) for name in _NAMES if name in values]
        if found:
            return found[:most]
    return [(f"{split} {name}", value) for split, values in state.latest.items() for name, value in values.items()][
        :most
    ]
