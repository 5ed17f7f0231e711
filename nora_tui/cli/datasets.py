"""``nora data``: the data sets, and fetching them."""

import sys

import typer

from engine.datasets.fetch import DataSet, data_sets, get
from nora_tui.cli.output import print_json


def print_data_sets(*, as_json: bool) -> None:
    found = data_sets()
    if as_json:
        print_json([_row(item) for item in found])
        return
    for item in found:
        where = str(item.path) if item.present else f"not here; `nora data get {item.name}`"
        typer.echo(f"{'✓' if item.present else '·'} {item.name:<9} {item.about}\n            {where}")


def fetch(name: str, *, as_json: bool) -> None:
    """Fetch a data set with a progress bar, or with one line a stage where there is no terminal."""
    if as_json:
        print_json(_row(get(name)))
        return
    item = _with_bar(name) if sys.stderr.isatty() else get(name, _Stages())
    size = f", {item.bytes / 1e6:.1f} MB" if item.bytes else ""
    typer.echo(f"{item.name} is at {item.path}{size} (licence: {item.licence})")


def _row(item: DataSet) -> dict[str, object]:
    return {
        "name": item.name,
        "about": item.about,
        "licence": item.licence,
        "present": item.present,
        "path": str(item.path),
        "bytes": item.bytes,
    }


class _Stages:
    def __init__(self) -> None:
        self._last = ""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if what != self._last:
            self._last = what
            typer.echo(what, err=True)


def _with_bar(name: str) -> DataSet:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), DownloadColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def report(what: str, done: int, total: int | None) -> None:
            progress.update(task, description=what, completed=done, total=total)

        return get(name, report)
