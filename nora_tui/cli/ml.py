"""``nora ml``: the tabular pipeline, step by step."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.errors import ConfigError, DataError
from nora_tui.cli.options import AsJson

if TYPE_CHECKING:
    from configs.schema import CatBoostConfig

BUILD_KEYS = ("data", "seed", "features.exclude", "train.val_fraction", "train.test_fraction")
TRAIN_KEYS = ("seed", "train.iterations", "train.early_stopping", "model", "optimizer", "runtime")

app = typer.Typer(
    no_args_is_help=True,
    help="The tabular pipeline, step by step: validate, build-features, train, evaluate.",
    pretty_exceptions_enable=False,
)

Force = Annotated[bool, typer.Option("--force", help="Replace files that exist.")]
FeaturesFile = Annotated[Path, typer.Option("--features", help="The file that build-features wrote.")]


class Part(StrEnum):
    train = "train"
    val = "val"
    test = "test"


@app.command()
def validate(
    data: Annotated[
        str, typer.Argument(help="bank (embedded), or the path of a CSV file of the same columns.")
    ] = "bank",
    output: Annotated[Path | None, typer.Option("--output", help="Also write the report here, as JSON.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Check data against the schema: columns, types, ranges, words. Ends with 3 where it is broken."""
    from engine import tabular
    from nora_tui.cli.output import print_json

    report = tabular.validate(data, output, force=force)
    if as_json:
        print_json(report)
    else:
        _print_report(report)
    if not report["valid"]:
        raise typer.Exit(DataError.exit_code)


@app.command()
def build_features(
    overrides: Annotated[
        list[str] | None, typer.Argument(help=f"key=value …, of {', '.join(BUILD_KEYS)}.", show_default=False)
    ] = None,
    output: Annotated[Path, typer.Option("--output", help="The Parquet file to write.")] = Path("features.parquet"),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the columns to learn from, the target and both splittings as Parquet, with a JSON record beside it."""
    config = _config("build-features", overrides or [], BUILD_KEYS)
    from engine import tabular
    from nora_tui.cli.output import print_json

    record = tabular.build_features(config, output, force=force)
    if as_json:
        print_json(record)
        return
    typer.echo(f"{output}: {record['data']['rows']} rows, {len(record['features'])} features", nl=False)
    typer.echo(f", without {', '.join(record['excluded'])}" if record["excluded"] else "")
    for splitting, parts in record["splits"].items():
        counts = ", ".join(f"{name} {part['rows']} ({_share(part)} positive)" for name, part in parts.items())
        typer.echo(f"{splitting}: {counts}")


@app.command()
def train(
    overrides: Annotated[
        list[str] | None, typer.Argument(help=f"key=value …, of {', '.join(TRAIN_KEYS)}.", show_default=False)
    ] = None,
    features: FeaturesFile = Path("features.parquet"),
    output: Annotated[Path, typer.Option("--output", help="The folder for models and metrics.json.")] = Path("model"),
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Fit one model tested on rows drawn at random and one tested on the newest rows."""
    config = _config("train", overrides or [], TRAIN_KEYS)
    from engine import tabular
    from nora_tui.cli.output import print_json

    with _busy("fitting two models"):
        metrics = tabular.train(config, features, output, force=force)
    if as_json:
        print_json(metrics)
        return
    _print_scores({f"{name} test": metrics[name]["test"] for name in tabular.SPLITTINGS})
    for name in tabular.SPLITTINGS:
        found = metrics[name]
        typer.echo(f"{output / found['model']}: {found['trees']} trees; F1 at probability ≥ {found['threshold']:.3f}")


@app.command()
def evaluate(
    features: FeaturesFile = Path("features.parquet"),
    model: Annotated[Path, typer.Option("--model", help="A model that train wrote.")] = Path("model/model.cbm"),
    split: Annotated[Part, typer.Option("--split", help="The part of the model's own splitting to score.")] = Part.test,
    output: Annotated[Path | None, typer.Option("--output", help="Also write the metrics here, as JSON.")] = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score a model and say how well its probabilities are calibrated."""
    from engine import tabular
    from nora_tui.cli.output import print_json

    result = tabular.evaluate(features, model, split.value, output, force=force)
    if as_json:
        print_json(result)
        return
    _print_scores({f"{result['splitting']} {result['part']}": result["scores"]})
    _print_calibration(result["calibration"])


def _config(step: str, overrides: list[str], keys: tuple[str, ...]) -> "CatBoostConfig":
    """Return the configuration, and refuse keys that the step does not read: they would change nothing."""
    from configs.load import compose
    from configs.schema import CatBoostConfig

    for text in overrides:
        key = text.partition("=")[0]
        if not any(key == known or key.startswith(f"{known}.") for known in keys):
            raise ConfigError(f"{key}: `nora ml {step}` reads only {', '.join(keys)}")
    config = compose(["workload=catboost", *overrides])
    assert isinstance(config, CatBoostConfig)
    return config


@contextmanager
def _busy(what: str) -> Iterator[None]:
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        yield


def _share(counts: dict[str, Any]) -> str:
    return f"{counts['positives'] / counts['rows']:.1%}"


def _print_report(report: dict[str, Any]) -> None:
    from nora_tui.cli.output import harmless

    if not report["valid"]:
        for problem in report["problems"]:
            line = "" if problem["line"] is None else f"line {problem['line']}, "
            typer.echo(harmless(f"{line}column {problem['column']!r}: {problem['text']}"))
        if left := report["problem_count"] - len(report["problems"]):
            typer.echo(f"… and {left} more")
        typer.echo(f"{report['data']}: {report['problem_count']} problems")
        return
    for column in report["columns"]:
        allowed = ", ".join(column["values"]) if column["type"] == "category" else f"{column['min']} … {column['max']}"
        typer.echo(f"{column['name']:<10} {column['type']:<9} {allowed}")
    typer.echo(f"{report['data']}: {report['rows']} rows keep the schema, {_share(report)} positive")


def _print_scores(scores: dict[str, dict[str, float]]) -> None:
    names = ["split", *next(iter(scores.values()))]
    _print_table(names, [[name, *(f"{value:.4f}" for value in found.values())] for name, found in scores.items()])


def _print_calibration(bins: list[dict[str, float]]) -> None:
    rows = [
        [f"{b['low']:.2f} to {b['high']:.2f}", str(b["rows"]), f"{b['predicted']:.4f}", f"{b['observed']:.4f}"]
        for b in bins
    ]
    _print_table(["probability", "rows", "predicted", "observed"], rows)


def _print_table(names: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="right" if i else "left")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
