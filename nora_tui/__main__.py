"""``python -m nora_tui``: the same as ``nora``."""

from nora_tui.cli import main

main()
