"""`densem results`: the table of a benchmark, on the terminal and as files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from densem.cli.app import app

if TYPE_CHECKING:
    from densem.experiments.folder import BenchmarkFolder
    from densem.report.results.table import ResultsTable, Row


@app.command()
def results(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="BENCHMARK|STUDY",
            help="Folder of a benchmark (STUDY/benchmarks/NAME), or a study that has one.",
            show_default=False,
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="Print csv, json, latex or html instead; nothing is written."),
    ] = None,
) -> None:
    """Make the results of a benchmark anew from its records, also while runs are missing."""
    from densem.experiments.export import check_form, find, results_of, text_of

    if form is None:
        show_results(find(folder))
        return
    chosen = check_form(form)
    benchmark = find(folder)
    typer.echo(text_of(benchmark, results_of(benchmark), chosen), nl=False)


def show_results(benchmark: BenchmarkFolder) -> None:
    """Print the table of a benchmark and write its files."""
    from densem.experiments.export import results_of, write_results

    table = results_of(benchmark)
    files = write_results(benchmark, table)
    show(table)
    typer.echo(f"Page of figures: {files[-1]}")
    typer.echo(f"Beside it: {', '.join(file.name for file in files[:-1])}")


def show(table: ResultsTable) -> None:
    """Print the table: in 100 columns whole, on a narrower terminal without the costs."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=_title(table))
    shown.title_justify = "left"
    shown.add_column("", overflow="fold", min_width=14)
    shown.add_column("runs", justify="right", no_wrap=True)
    for column in table.headlines:
        shown.add_column(_heading(column.heading), justify="right", no_wrap=True)
        shown.add_column("", no_wrap=True)
    costs = [c for key in _COSTS for c in table.columns if c.key == key and console.width >= _WIDE]
    for column in costs:
        shown.add_column(_COSTS[column.key], justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(*_cells(row, table, costs))
    console.print(shown)
    for line in _remarks(table):
        console.print(line)


_WIDE = 96
_COSTS = {"parameters": "million\nweights", "mflop_per_voxel": "MFLOP\na voxel", "training_seconds": "min"}


def _heading(text: str) -> str:
    """In lines no wider than the numbers below."""
    return _plain("\n".join(textwrap.wrap(text, 13)))


def _title(table: ResultsTable) -> str:
    return _plain(str(table.facts.get("title") or table.name))


def _cells(row: Row, table: ResultsTable, costs: list[Any]) -> list[str]:
    from densem.report.results.page import runs, spread
    from densem.report.results.table import MARKS

    cells = [_plain(row.title), runs(row)]
    for column in table.headlines:
        text = spread(row, column)
        comparison = row.comparisons.get(column.key)
        cells += [f"[bold]{text}[/]" if row.key in table.best(column) else text]
        cells += ["" if comparison is None else MARKS[comparison.verdict]]
    return [*cells, *(column.text(row.summary(column).mean) for column in costs)]


def _remarks(table: ResultsTable) -> list[str]:
    """What the marks say, and what is missing and why."""
    from densem.report.results.page import legend, what_is_missing

    reference = table.reference_row
    said = legend(table)
    lines = ["Mean ± standard deviation of the runs; a difference inside that spread means nothing."]
    if said and reference is not None:
        lines.append(f"Against {_plain(reference.title)} (ref.): {said}.")
    refused = table.facts.get("not_compared", {}).values()
    lines += [f"Not compared: {_plain(why)}" for reasons in refused for why in reasons]
    lines += [f"{_plain(row.title)}: {_plain(why)}" for row in table.rows if (why := what_is_missing(row))]
    return lines


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
