"""``make bench``: print every figure beside its peer or limit, as a Markdown table.

``python tests/bench/run.py [--quick] [NAME…]`` runs only the named parts (sessions, cli, cockpit, vit, watch,
catboost).
"""

import argparse
import importlib
import platform
import sys

from table import markdown

from engine.environment import hardware

PARTS = ("sessions", "cli", "cockpit", "vit", "watch", "loop", "catboost")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="which parts; all without")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a look")
    options = parser.parse_args()
    machine = hardware()
    print(f"{machine['cpu']}, {machine['threads']} threads, Python {platform.python_version()}, medians\n", flush=True)
    rows = []
    for part in options.parts or PARTS:
        print(f"measuring {part} …", file=sys.stderr, flush=True)
        rows += importlib.import_module(f"bench_{part}").rows(options.quick)
    print(markdown(rows))


if __name__ == "__main__":
    main()
