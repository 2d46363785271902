"""The page: a report's content as one HTML file that needs nothing beside it.

Figures are inside the file, and nothing is loaded from elsewhere: the page forbids it to the browser. No
script runs but that of the 3D view, where there is one. All text is escaped here and in `view3d`, and only
there. Figures and tables are numbered in the order they stand.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from html import escape
from itertools import count
from pathlib import Path
from typing import Any

from densem.report.content import (
    Block,
    Cell,
    Chart,
    Commands,
    Gallery,
    Legend,
    Notice,
    PanelRow,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
    View3D,
)
from densem.report.figures import THEME, Figure
from densem.report.stylesheet import STYLESHEET
from densem.report.view3d import markup

_WIDE = 640  # pixels; a wider chart does not share its row
_LONG = 15  # rows; a longer table may go on to another sheet of paper


def write_page(content: ReportContent, path: Path) -> Path:
    """Write the page; it appears whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    part.write_text(page(content), encoding="utf-8")
    part.replace(path)
    return path


def page(content: ReportContent) -> str:
    """The content as HTML."""
    printer = _Printer()
    sections = "\n".join(printer.section(s) for s in content.sections)
    title = escape(content.title)
    solid = any(isinstance(block, View3D) for s in content.sections for block in s.blocks)
    style, program = (STYLESHEET + markup.style(), markup.script()) if solid else (STYLESHEET, "")
    script = f"<script>{program}</script>\n" if solid else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="densem">
<meta http-equiv="Content-Security-Policy" content="{_policy(program)}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{_header(content)}
<main>
{sections}
</main>
<footer><p>{escape(content.footer)}</p></footer>
{script}</body>
</html>
"""


def _policy(program: str) -> str:
    """What the browser may do: show what is in the page, run this one script, load nothing."""
    known = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    script = f"'sha256-{known}'" if program else "'none'"
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {script}"


def _header(content: ReportContent) -> str:
    lines = [
        f'<p class="kicker">{escape(content.kicker)}</p>',
        f"<h1>{escape(content.title)}</h1>",
        f'<p class="subtitle">{escape(content.subtitle)}</p>' if content.subtitle else "",
        f'<p class="date">{escape(content.date)}</p>' if content.date else "",
        f'<dl class="tiles">{"".join(map(_tile, content.tiles))}</dl>' if content.tiles else "",
        *(_notice(text) for text in content.warnings),
    ]
    return "<header>\n" + "\n".join(line for line in lines if line) + "\n</header>"


def _tile(tile: Tile) -> str:
    note = f'<dd class="note">{escape(tile.note)}</dd>' if tile.note else ""
    label, value = escape(tile.label), escape(tile.value)
    return f'<div class="tile"><dt>{label}</dt><dd class="value">{value}</dd>{note}</div>'


def _notice(text: str) -> str:
    return f'<div class="notice" role="note"><b>Note.</b> {escape(text)}</div>'


class _Printer:
    """Prints blocks, and keeps count of figures and tables."""

    def __init__(self) -> None:
        self._figures, self._tables = count(1), count(1)
        self._printers: dict[type, Callable[[Any], str]] = {
            Paragraph: lambda block: f"<p>{escape(block.text)}</p>",
            Notice: lambda block: _notice(block.text),
            Legend: _legend,
            Commands: _commands,
            Table: self._table,
            Chart: self._chart,
            Gallery: self._gallery,
            View3D: self._view,
        }

    def section(self, section: Section) -> str:
        body: list[str] = []
        charts: list[str] = []
        for block in section.blocks:
            if isinstance(block, Chart):
                charts.append(self._print(block))
                continue
            body += [*_side_by_side(charts), self._print(block)]
            charts = []
        body += _side_by_side(charts)
        return f"<section>\n<h2>{escape(section.title)}</h2>\n" + "\n".join(body) + "\n</section>"

    def _print(self, block: Block) -> str:
        return self._printers[type(block)](block)

    def _table(self, table: Table) -> str:
        number = next(self._tables)
        kinds = _kinds(table)
        head = "".join(
            f"<th{_css_class(n)}>{escape(c)}</th>" for c, n in zip(table.columns, kinds, strict=True)
        )
        rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
        caption = f"<caption><b>Table {number}.</b> {escape(table.caption)}</caption>"
        body = f"{caption}<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
        kind = ' class="long"' if len(table.rows) > _LONG else ""
        return f'<div class="scroll"><table{kind}>{body}</table></div>'

    def _chart(self, chart: Chart) -> str:
        picture, caption = _inlined(chart.figure), self._caption(chart.caption)
        name, uri = escape(chart.figure.name), _data_uri(chart.figure)
        save = f'<a download="{name}.{chart.figure.kind}" href="{uri}">{chart.figure.kind.upper()}</a>'
        wide = " wide" if _natural_width(chart.figure) > _WIDE else ""
        return (
            f'<figure class="chart{wide}"><div class="scroll">{picture}</div>'
            f"<figcaption>{caption}{save}</figcaption></figure>"
        )

    def _gallery(self, gallery: Gallery) -> str:
        rows = "\n".join(map(_panel_row, gallery.rows))
        caption = self._caption(gallery.caption)
        return (
            f'<figure class="gallery">{_legend(gallery.legend)}\n{rows}\n'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def _view(self, view: View3D) -> str:
        return markup.view_html(view.scene, self._caption(view.caption))

    def _caption(self, text: str) -> str:
        return f"<b>Figure {next(self._figures)}.</b> {escape(text)}"


def _side_by_side(charts: Sequence[str]) -> list[str]:
    """Charts that follow each other share a row where the page is wide enough."""
    if len(charts) < 2:
        return list(charts)
    return [f'<div class="charts">{"".join(charts)}</div>']


def _kinds(table: Table) -> list[bool]:
    """Whether each column is one of numbers: as in the first row that has all columns."""
    whole = next((row for row in table.rows if len(row) == len(table.columns)), None)
    return [cell.number for cell in whole] if whole else [False] * len(table.columns)


def _css_class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(cell: Cell) -> str:
    kind, text = _css_class(cell.number), escape(cell.text)
    text = f'<a href="{escape(cell.link)}">{text}</a>' if cell.link else text
    span = f' colspan="{cell.span}"' if cell.span > 1 else ""
    said = f"<strong>{text}</strong>" if cell.strong else text
    note = f'<span class="fine">{escape(cell.note)}</span>' if cell.note else ""
    return f"<td{kind}{span}>{_swatch(cell.color) if cell.color else ''}{said}{note}</td>"


def _swatch(color: str) -> str:
    if not color:
        return '<span class="swatch hatched"></span>'
    return f'<span class="swatch" style="background:{escape(color)}"></span>'


def _legend(legend: Legend) -> str:
    entries = "".join(f"<li>{_swatch(color)}{escape(name)}</li>" for name, color in legend.entries)
    return f'<ul class="legend">{entries}</ul>'


def _commands(commands: Commands) -> str:
    entries = "".join(
        f"<li>{escape(text)}<code>{escape(line)}</code></li>" for text, line in commands.entries
    )
    return f'<ul class="commands">{entries}</ul>'


def _panel_row(row: PanelRow) -> str:
    pictures = []
    for panel in row.panels:
        height, width = panel.pixels.shape[:2]
        data = base64.b64encode(panel.png).decode()
        alt = escape(f"{panel.title}, {row.title}")
        pictures.append(
            f'<label class="panel"><input type="checkbox" aria-label="enlarge {alt}">'
            f"<span>{escape(panel.title)}</span>"
            f'<img width="{width}" height="{height}" alt="{alt}" src="data:image/png;base64,{data}"></label>'
        )
    columns = row.columns or len(row.panels)
    return (
        f'<div class="row"><h3>{escape(row.title)}</h3>'
        f'<div class="panels" style="--columns:{columns}">{"".join(pictures)}</div></div>'
    )


# ---- figures inside the page -----------------------------------------------------------------


def _data_uri(figure: Figure) -> str:
    kind = {"svg": "image/svg+xml", "png": "image/png"}[figure.kind]
    return f"data:{kind};base64,{base64.b64encode(figure.data).decode()}"


def _inlined(figure: Figure) -> str:
    """An SVG as part of the page, in its colours and fonts; other formats as an image."""
    if figure.kind != "svg":
        return f'<img alt="{escape(figure.alt)}" src="{_data_uri(figure)}">'
    body = figure.data.decode().partition("<svg")[2].partition(">")[2]
    body = re.sub(r' id="(?:figure|axes|patch|text|line2d|matplotlib|xtick|ytick)[^"]*"', "", body)
    for color, variable in THEME.items():
        body = body.replace(color, f"var({variable})")
    return (
        f'<svg role="img" aria-label="{escape(figure.alt)}" viewBox="{_view_box(figure)}" '
        f'style="--natural:{_natural_width(figure)}px">{body}'
    )


def _view_box(figure: Figure) -> str:
    found = re.search(rb'viewBox="([-0-9. ]+)"', figure.data)
    assert found is not None
    return found.group(1).decode()


def _natural_width(figure: Figure) -> int:
    """Width of a chart in page pixels when its text has the size it was drawn for; 0 if it is no SVG."""
    return round(float(_view_box(figure).split()[2]) * 4 / 3) if figure.kind == "svg" else 0
