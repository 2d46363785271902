"""Export: the files of a results table, each written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from densem.errors import ConfigError, NotFoundError, nearest
from densem.experiments.cell import benchmark_cell
from densem.experiments.comparisons import compared
from densem.experiments.cut import benchmark_cut
from densem.experiments.folder import BENCHMARKS, SUITE, BenchmarkFolder
from densem.experiments.results import gather
from densem.report.page import page
from densem.report.results.comma_separated import to_csv
from densem.report.results.latex import to_latex
from densem.report.results.page import results_page
from densem.report.results.record import to_json
from densem.report.results.table import ResultsTable

Form = Literal["csv", "json", "latex", "html"]
FORMS: tuple[Form, ...] = get_args(Form)
FILES: dict[Form, str] = {
    "csv": "results.csv", "json": "results.json", "latex": "results.tex", "html": "results.html"
}  # fmt: skip


def results_of(folder: BenchmarkFolder) -> ResultsTable:
    """The table of a benchmark with its comparisons.

    Raises:
        NotFoundError: no benchmark there.
        ConfigError, FormatError: a suite or record that cannot be read.
    """
    return compared(gather(folder), folder)


def find(folder: Path) -> BenchmarkFolder:
    """The benchmark of a folder: its own, or the only one of a study.

    Raises:
        NotFoundError: none there, or several, with their names.
    """
    if (folder / SUITE).is_file():
        return BenchmarkFolder(folder)
    inside = sorted(path.parent for path in (folder / BENCHMARKS).glob(f"*/{SUITE}"))
    if len(inside) == 1:
        return BenchmarkFolder(inside[0])
    if inside:
        raise NotFoundError(
            f"{folder}: expected one benchmark, found {len(inside)}; give one of them: "
            f"{', '.join(map(str, inside))}"
        )
    raise NotFoundError(
        f"{folder}: no benchmark there; expected a folder such as STUDY/benchmarks/NAME, or a study that has "
        "one. Begin one with  densem benchmark STUDY"
    )


def write_results(folder: BenchmarkFolder, table: ResultsTable | None = None) -> list[Path]:
    """Write all forms into the `results` folder of a benchmark, also while runs are missing; the page last.

    Args:
        folder: of the benchmark.
        table: its table, if it is at hand.
    """
    table = table or results_of(folder)
    folder.results.mkdir(parents=True, exist_ok=True)
    return [_write(folder.results / FILES[form], text_of(folder, table, form)) for form in FORMS]


def text_of(folder: BenchmarkFolder, table: ResultsTable, form: Form) -> str:
    """The table in one form: a whole file as text."""
    if form == "html":
        return page(results_page(table, benchmark_cut(table, folder), benchmark_cell(table, folder)))
    return {"csv": to_csv, "json": to_json, "latex": to_latex}[form](table)


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)
    return path


def check_form(form: str) -> Form:
    """The form of that name.

    Raises:
        ConfigError: with the nearest one there is.
    """
    for known in FORMS:
        if form == known:
            return known
    raise ConfigError(f"--format {form}: expected csv, json, latex or html.{nearest(form, FORMS)}")
