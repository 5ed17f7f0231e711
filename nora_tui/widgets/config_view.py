"""config.yaml as toned lines. The file is written by the launcher as block-style YAML, a key or an item a line."""

import re

from nora_tui.widgets.toned import Piece

_KEY = re.compile(r"^(?P<indent>[ -]*)(?P<key>[^:#\s][^:]*):(?P<value>\s.*|)$")


def config_lines(text: str) -> list[list[Piece]]:
    """Return the lines of a YAML file: keys quiet, values plain, comments faint."""
    return [_line(line) for line in text.splitlines()]


def _line(line: str) -> list[Piece]:
    if line.lstrip().startswith("#"):
        return [(line, "faint")]
    found = _KEY.match(line)
    if found is None:
        return [(line, "plain")]
    head = "muted" if found["value"].strip() else "accent"
    return [(found["indent"] + found["key"], head), (":", "faint"), (found["value"], "plain")]
