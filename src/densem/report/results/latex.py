"""The table as LaTeX: booktabs, best means in bold, marks explained in the caption.

Needs `\\usepackage{booktabs}`. It holds what a paper prints: the headline scores with spread and mark, size,
work a voxel and training time. The rest is in the CSV.
"""

from __future__ import annotations

import unicodedata

from densem.evaluation import Verdict
from densem.report.results.columns import Column
from densem.report.results.table import READING, ResultsTable, Row

SYMBOLS: dict[Verdict, str] = {
    Verdict.REFERENCE: r"\ast",
    Verdict.HIGHER: r"\uparrow",
    Verdict.LOWER: r"\downarrow",
    Verdict.NOT_TOLD_APART: r"\approx",
    Verdict.SPREAD_UNKNOWN: "?",
}
_COSTS = ("parameters", "mflop_per_voxel", "training_seconds")
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
    "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': "''", "[": "{[}", "]": "{]}", "*": "{*}",
    "±": r"$\pm$", "×": r"$\times$", "≈": r"$\approx$", "–": "--", "µ": r"\textmu{}", "μ": r"\textmu{}",
}  # fmt: skip


def escape(text: str) -> str:
    """Plain text as LaTeX, safe in any encoding that takes accented letters; other symbols become `?`."""
    return "".join(_ESCAPES.get(letter, letter if _plain(letter) else "?") for letter in text)


def _plain(letter: str) -> bool:
    """Letters with accents are known to every modern LaTeX (UTF-8), symbols and controls are not."""
    return (letter.isascii() and letter.isprintable()) or unicodedata.category(letter) in ("Lu", "Ll")


def to_latex(table: ResultsTable) -> str:
    """A whole `table` environment."""
    columns = (*table.headlines, *(c for key in _COSTS for c in table.columns if c.key == key))
    head = " & ".join(["", "$n$", *(escape(c.heading) for c in columns)])
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(table)}}}",
        rf"\label{{tab:{''.join(c for c in table.name if c.isascii() and (c.isalnum() or c == '-'))}}}",
        rf"\begin{{tabular}}{{lr{'r' * len(columns)}}}",
        r"\toprule",
        rf"{head} \\",
        r"\midrule",
        *_body(table, columns),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _body(table: ResultsTable, columns: tuple[Column, ...]) -> list[str]:
    best = {c.key: table.best(c) for c in columns}
    lines: list[str] = []
    group = ""
    for row in table.rows:
        if row.group != group:
            lines += [r"\addlinespace"] if lines else []
            lines += (
                [rf"\multicolumn{{{len(columns) + 2}}}{{l}}{{\emph{{{escape(row.group)}}}}} \\"]
                if row.group
                else []
            )
        group = row.group
        cells = [_value(row, c, row.key in best[c.key]) for c in columns]
        lines.append(" & ".join([escape(row.title), _runs(row), *cells]) + r" \\")
    return lines


def _runs(row: Row) -> str:
    done = row.count("done")
    return str(done) if done == len(row.runs) else f"{done}/{len(row.runs)}"


def _value(row: Row, column: Column, best: bool) -> str:
    found = row.summary(column)
    if found.mean is None:
        return "--"
    mean = column.text(found.mean)
    text = rf"\textbf{{{mean}}}" if best else mean
    if column.is_score and found.sd is not None:
        text += rf" $\pm$ {column.text(found.sd)}"
    comparison = row.comparisons.get(column.key)
    return text if comparison is None else rf"{text}$^{{{SYMBOLS[comparison.verdict]}}}$"


def _caption(table: ResultsTable) -> str:
    words = [
        f"{escape(str(table.facts.get('title') or table.name))}.",
        r"Mean $\pm$ standard deviation over $n$ trainings that differ in their seed alone; best means in "
        r"bold.",
    ]
    present = {c.verdict for row in table.rows for key, c in row.comparisons.items() if key in table.headline}
    reference = table.reference_row
    if present and reference is not None:
        marks = [
            f"${SYMBOLS[v]}$ {READING[v]}" for v in SYMBOLS if v in present and v is not Verdict.REFERENCE
        ]
        words.append(f"Compared with {escape(reference.title)} ($\\ast$): {'; '.join(marks)}.")
    states = [f"{escape(row.title)}: {escape(row.state)}" for row in table.rows if row.state != "done"]
    if states:
        words.append(f"Incomplete rows: {'; '.join(states)}.")
    return " ".join(words)
