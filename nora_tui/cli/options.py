"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

RunsDir = Annotated[
    Path | None,
    typer.Option(
        "--runs-dir", envvar="NORA_RUNS_DIR", help="The folder of the runs. [default: ./runs]", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Run = Annotated[str, typer.Argument(help="A run: path, name or unique prefix.")]
