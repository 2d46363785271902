"""The page: well formed, self-contained, escaped, numbered."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from densem.report import (
    Cell,
    Chart,
    Commands,
    Figure,
    Gallery,
    Legend,
    Notice,
    Panel,
    PanelRow,
    Paragraph,
    ReportContent,
    Section,
    Table,
    Tile,
    page,
    write_page,
)

VOID = {"meta", "img", "input", "br", "link", "use", "path", "rect"}
EVIL = "<script>alert('x')</script> & \"more\""
SVG = (
    b'<?xml version="1.0"?><svg viewBox="0 0 90 30" width="90pt">'
    b'<g id="figure_1"><text style="fill: #1c2430">t</text></g></svg>'
)


class Outline(HTMLParser):
    """Tags as they open, text by tag, and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[tuple[str, str]] = []
        self._stack: list[str] = []
        self.feed(html)
        self.close()
        assert self._stack == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        if tag not in VOID:
            self._stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self._stack:
            self.text.append((self._stack[-1], data.strip()))

    def texts(self, tag: str) -> list[str]:
        return [text for where, text in self.text if where == tag]


@pytest.fixture(scope="module")
def html() -> str:
    panel = Panel("image", np.zeros((4, 6, 3), np.uint8))
    chart = Chart(Figure("bars", f"alt {EVIL}", SVG), f"caption {EVIL}")
    table = Table(("Class", "IoU"), ((Cell(EVIL, "#0101e0"), Cell("0.5", number=True)),), f"table {EVIL}")
    gallery = Gallery(
        Legend((("cell", "#0101e0"), ("unlabelled", ""))), (PanelRow(EVIL, (panel, panel)),), EVIL
    )
    blocks = (
        Paragraph(EVIL),
        Notice(EVIL),
        table,
        chart,
        chart,
        gallery,
        Commands(((EVIL, f"densem {EVIL}"),)),
    )
    content = ReportContent(
        title=f"study {EVIL}",
        subtitle=EVIL,
        date=EVIL,
        kicker=EVIL,
        tiles=(Tile(EVIL, EVIL, EVIL),),
        warnings=(EVIL,),
        sections=(Section(EVIL, blocks),),
        footer=EVIL,
    )
    return page(content)


def test_the_page_is_well_formed_and_says_everything(html: str) -> None:
    outline = Outline(html)
    assert outline.texts("h1") == [f"study {EVIL}"]
    assert outline.texts("title") == [f"study {EVIL}"]
    assert outline.texts("h2") == [EVIL]
    assert outline.texts("h3") == [EVIL]
    assert outline.texts("code") == [f"densem {EVIL}"]
    assert EVIL in outline.texts("td")


def test_everything_is_escaped(html: str) -> None:
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 15
    assert not any(tag == "script" for tag, _ in Outline(html).opened)


def test_nothing_is_loaded_from_elsewhere(html: str) -> None:
    for tag, attributes in Outline(html).opened:
        assert tag not in ("link", "iframe", "object", "embed")
        for name in ("src", "href", "xlink:href", "srcset", "poster"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), (tag, value)
    assert "@import" not in html
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'none'\"" in html
    assert re.findall(r"url\((?!#)", html) == []


def test_figures_and_tables_are_numbered_in_order(html: str) -> None:
    assert Outline(html).texts("b") == ["Note.", "Note.", "Table 1.", "Figure 1.", "Figure 2.", "Figure 3."]


def test_charts_follow_the_theme_and_can_be_saved(html: str) -> None:
    outline = Outline(html)
    assert 'style="fill: var(--ink)"' in html
    assert 'id="figure_1"' not in html
    links = [a for tag, a in outline.opened if tag == "a"]
    assert [a["download"] for a in links] == ["bars.svg", "bars.svg"]
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_two_charts_share_a_row(html: str) -> None:
    assert html.count('<div class="charts">') == 1


def test_panels_carry_their_size_and_words(html: str) -> None:
    pictures = [a for tag, a in Outline(html).opened if tag == "img"]
    assert [(p["width"], p["height"]) for p in pictures] == [("6", "4"), ("6", "4")]
    assert pictures[0]["alt"] == f"image, {EVIL}"


def test_a_wide_chart_has_a_row_of_its_own() -> None:
    wide = Figure("wide", "", SVG.replace(b"0 0 90 30", b"0 0 900 30"))
    html = page(ReportContent("t", sections=(Section("s", (Chart(wide, "c"), Chart(wide, "c"))),)))
    assert html.count('class="chart wide"') == 2


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "first.html"
    assert write_page(ReportContent("first"), path) == path
    assert path.read_text(encoding="utf-8").endswith("</html>\n")
    assert [p.name for p in path.parent.iterdir()] == ["first.html"]
