"""``nora norms``: what runs are held to, and each norm explained."""

from typing import TYPE_CHECKING, Annotated

import typer

from nora_tui.cli.options import AsJson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from norms.norm import Norm


def norms_command(
    norm_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="A norm to explain, such as spike.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the norms that runs are held to, or explain one: what, why, thresholds, remedies, source.

    Norms of installed packages are among them; those that cannot be loaded are named on standard error.
    """
    from nora_tui.cli.output import print_json
    from norms.norm import catalogue, known_norm
    from norms.user import load_user_norms

    found = load_user_norms()
    for problem in found.problems:
        typer.echo(f"warning: {problem}", err=True)
    norms = dict(catalogue()) | {user.norm.id: user.norm for user in found.norms}
    if norm_id is not None:
        norm = norms[known_norm(norm_id, norms)]
        print_json(norm) if as_json else _explain(norm)
    elif as_json:
        print_json(list(norms.values()))
    else:
        _list(list(norms.values()))


def _list(norms: "list[Norm]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from norms.norm import CATEGORIES

    console = Console(highlight=False)
    width = max(len(norm.id) for norm in norms)
    for category in CATEGORIES:
        console.print(Text(category, style="bold"))
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(width=width + 2)
        table.add_column(width=8)
        table.add_column(overflow="fold")
        for norm in norms:
            if norm.category == category:
                table.add_row(Text(f"  {norm.id}"), Text(norm.severity, style="dim"), Text(norm.title))
        console.print(table)
        console.print()
    console.print(Text("`nora norms ID` explains one.", style="dim"))


def _explain(norm: "Norm") -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(highlight=False)
    console.print(Text.assemble((norm.id, "bold"), f"  {norm.category}, {norm.severity}"))
    console.print(Text(norm.title))
    sections: dict[str, Sequence[str]] = {
        "What breaks it": [norm.what],
        "Why it matters": [norm.why],
        "When it is judged": [", ".join(norm.judged)],
    }
    for heading, lines in sections.items():
        _section(console, heading, lines)
    console.print(Text("\nThresholds", style="bold"))
    console.print(Padding(_thresholds(norm), (0, 0, 0, 2)))
    rest: dict[str, Sequence[str]] = {
        "Evidence": [f"{key}: {text}" for key, text in norm.evidence.items()],
        "Remedies, best first": _remedies(norm),
        "What to do": [norm.advice],
        "What is none": norm.pitfalls,
        "Source": norm.sources,
    }
    for heading, lines in rest.items():
        _section(console, heading, lines)


def _section(console: "Console", heading: str, lines: "Sequence[str]") -> None:
    from rich.padding import Padding
    from rich.text import Text

    if lines:
        console.print(Text(f"\n{heading}", style="bold"))
        for line in lines:
            console.print(Padding(Text(line), (0, 0, 0, 2)))


def _thresholds(norm: "Norm") -> "Table":
    from rich.table import Table
    from rich.text import Text

    from norms.norm import REGIMES

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for regime in REGIMES:
        table.add_column(regime, justify="right", header_style="dim")
    words = {"violate": "a violation", "warn": "a warning", "label": "a label", "off": "not judged"}
    table.add_row(Text("A break is"), *(Text(words[norm.level_in(regime)]) for regime in REGIMES))
    for limit in norm.limits.values():
        table.add_row(Text(limit.means), *(Text(_limit(getattr(limit, regime))) for regime in REGIMES))
    if not norm.limits:
        table.add_row(Text(norm.measures), *(Text("0") for _ in REGIMES))
    return table


def _limit(value: float) -> str:
    return "–" if value == float("inf") else f"{value:g}"


def _remedies(norm: "Norm") -> list[str]:
    from norms.actions import ACTIONS

    lines = []
    for remedy in norm.remedies:
        given = [f"{name}={str(value).lower()}" for name, value in remedy.params.items()]
        given += [f"{name}=(from the evidence)" for name in remedy.params_from]
        name = f"{remedy.action}({', '.join(given)})" if given else remedy.action
        only = f" [{', '.join(remedy.aspects)} only]" if remedy.aspects else ""
        lines.append(f"{name}{only}: {ACTIONS[remedy.action].effect}")
    return lines
