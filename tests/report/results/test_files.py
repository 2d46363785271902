"""CSV, JSON and LaTeX: read back, escaped, with every row in it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess

import pytest
from made_up_table import EVAL, ROWS, TEST, made_up_table
from small import FLOP, MIOU, row, run, table

from densem.errors import FormatError, NotFoundError
from densem.evaluation import Verdict
from densem.report.results import comma_separated, latex, record
from densem.report.results.table import Comparison, Run

EVIL = 'A_1 & <b>50 %</b> {#$} ~^ \\x "[*]"'


def test_the_csv_is_read_back_with_the_same_numbers() -> None:
    made = made_up_table()
    lines = list(csv.DictReader(io.StringIO(comma_separated.to_csv(made))))
    assert [line["row"] for line in lines] == [entry[0] for entry in ROWS]
    for line, entry in zip(lines, made.rows, strict=True):
        for column in made.columns:
            found = entry.summary(column)
            for name in comma_separated.SUMMARY:
                text, value = line[f"{column.key} {name}"], getattr(found, name)
                assert (None if text == "" else float(text)) == value
    assert (lines[3]["planned"], lines[3]["done"], lines[3][f"{TEST} verdict"]) == ("6", "6", "reference")
    assert (lines[19]["collapsed"], lines[19]["state"]) == ("1", "1 of 3 collapsed")
    assert lines[23]["not run"] == "3"
    assert float(lines[4][f"{TEST} p holm"]) == 0.0004


def test_a_csv_without_comparisons_has_no_columns_of_them() -> None:
    head = comma_separated.to_csv(table(row("a", 0.5))).splitlines()[0].split(",")
    assert head == [*comma_separated.FIRST, *(f"{MIOU} {name}" for name in comma_separated.SUMMARY)]


def test_the_csv_quotes_what_is_in_titles() -> None:
    text = comma_separated.to_csv(table(row("a", 0.5, title='a, "b"\nc')))
    assert [line["title"] for line in csv.DictReader(io.StringIO(text))] == ['a, "b"\nc']


def test_the_json_is_read_back_as_the_same_table() -> None:
    made = made_up_table()
    text = record.to_json(made)
    assert record.from_dict(json.loads(text)) == made
    data = json.loads(text)
    assert data["rows"][3]["summary"][EVAL]["mean"] == made.rows[3].summary(made.column(EVAL)).mean
    assert data["facts"]["versions"] == {"densem": "0.1.0", "torch": "2.9.1"}
    assert "NaN" not in text


def test_a_json_that_is_none(tmp_path) -> None:
    path = tmp_path / "results.json"
    with pytest.raises(NotFoundError, match="no results there; make them with  densem results FOLDER"):
        record.read(path)
    path.write_text('{"format": 1')
    with pytest.raises(FormatError, match="not a JSON file"):
        record.read(path)
    path.write_text('{"format": 1, "name": "x"}')
    with pytest.raises(FormatError, match=r"results that densem writes.*'study' is missing or wrong"):
        record.read(path)
    path.write_text('{"format": 7}')
    with pytest.raises(FormatError, match="format 7 is missing or wrong"):
        record.read(path)
    path.write_text(record.to_json(table(row("a", 0.5))))
    assert record.read(path) == table(row("a", 0.5))


# ---- LaTeX -----------------------------------------------------------------------------------


def body(text: str) -> list[list[str]]:
    """The cells of every line between the rules, groups left out."""
    inside = text.partition("\\midrule\n")[2].partition("\\bottomrule")[0]
    lines = [line.removesuffix(r" \\") for line in inside.splitlines() if "&" in line]
    return [re.split(r"(?<!\\) & ", line) for line in lines]


def test_latex_escapes_everything_that_is_special() -> None:
    assert latex.escape(EVIL) == (
        r"A\_1 \& \textless{}b\textgreater{}50 \%\textless{}/b\textgreater{} \{\#\$\} "
        r"\textasciitilde{}\textasciicircum{} \textbackslash{}x ''{[}{*}{]}''"
    )
    assert latex.escape("Gómez µ\n💥") == r"Gómez \textmu{}??"
    text = latex.to_latex(table(row("a", 0.5, title=EVIL), row("b", 0.4), name="x_y z%"))
    assert body(text)[0][0] == latex.escape(EVIL)
    assert r"\label{tab:xyz}" in text


def test_latex_holds_every_row_with_as_many_cells_as_columns() -> None:
    made = made_up_table()
    text = latex.to_latex(made)
    lines = body(text)
    assert [cells[0] for cells in lines] == [latex.escape(r.title) for r in made.rows]
    width = len(re.search(r"\\begin\{tabular\}\{(.*)\}", text)[1])
    assert {len(cells) for cells in lines} == {width} == {7}
    assert text.count("{") == text.count("}")
    assert text.count("$") % 2 == 0
    for name in ("table", "tabular"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") == 1
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert lines[23][1:] == ["0/3", *["--"] * 5]
    assert text.isascii()


def test_latex_sets_the_best_in_bold_and_explains_its_marks() -> None:
    compared = {MIOU: Comparison(Verdict.LOWER, -0.1, -0.2, -0.05, 0.001, 0.002)}
    made = table(
        row("a", 0.6, 0.7, comparisons={MIOU: Comparison(Verdict.REFERENCE)}),
        row("b", 0.5, 0.6, comparisons=compared),
        reference="a",
    )
    text = latex.to_latex(made)
    assert body(text) == [
        ["A", "2", r"\textbf{0.650} $\pm$ 0.071$^{\ast}$"],
        ["B", "2", r"0.550 $\pm$ 0.071$^{\downarrow}$"],
    ]
    assert r"Compared with A ($\ast$): $\downarrow$ lower, also after correction" in text
    assert r"\approx" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_compiles(tmp_path) -> None:
    """Also with every symbol that has to be escaped, and without a line wider than the page."""
    (tmp_path / "made.tex").write_text(latex.to_latex(made_up_table()))
    (tmp_path / "evil.tex").write_text(latex.to_latex(table(row("a", 0.5, title=EVIL), name="x_y z%")))
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage[margin=15mm,landscape]{geometry}\usepackage[T1]{fontenc}"
        r"\usepackage{booktabs}\begin{document}\input{made}\input{evil}\end{document}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_latex_says_what_is_missing() -> None:
    runs = (run("a/s1", 0.5), Run("a/s2", "collapsed", "100 % background"))
    text = latex.to_latex(table(row("a", runs=runs), row("b", runs=(Run("b/s1", "not run"),))))
    assert "Incomplete rows: A: 1 of 2 collapsed; B: not run." in text
    assert body(text) == [["A", "1/2", "0.500"], ["B", "0/1", "--"]]


def test_costs_have_no_spread_in_latex() -> None:
    runs = tuple(run(f"a/s{n}", 0.5, values={FLOP: 2.0 + n}) for n in (0, 1))
    assert body(latex.to_latex(table(row("a", runs=runs))))[0] == ["A", "2", r"0.500 $\pm$ 0.000", "2.50"]
