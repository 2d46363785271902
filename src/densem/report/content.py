"""What a report page holds: frozen records that whoever makes a report fills in, and the page prints.

Everything is plain text; escaping is the page's work.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from densem.report.figures import Figure
from densem.report.panels import Panel
from densem.report.view3d.scene import Scene


@dataclass(frozen=True)
class Tile:
    """A headline number: what it is, its value, and a short note below."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Notice:
    """Something the reader must see: a warning, a restarted run."""

    text: str


@dataclass(frozen=True)
class Cell:
    """An entry of a table.

    Attributes:
        text: what it says.
        color: `#rrggbb` of a swatch before the text, or empty.
        number: whether it is aligned as one.
        strong: whether it is set in bold: the best of its column, the heading of a group.
        span: columns it takes up.
        note: small print below the text.
        link: a place on the page that it leads to, such as `#object-12` for an object in the 3D view.
    """

    text: str
    color: str = ""
    number: bool = False
    strong: bool = False
    span: int = 1
    note: str = ""
    link: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under headings; a caption says what it shows."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A figure with its caption."""

    figure: Figure
    caption: str


@dataclass(frozen=True)
class Legend:
    """Colour swatches with names; an empty colour is the hatching of unlabelled voxels."""

    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class PanelRow:
    """The panels of one view under a heading, so many beside each other (0: all of them)."""

    title: str
    panels: tuple[Panel, ...]
    columns: int = 0


@dataclass(frozen=True)
class Gallery:
    """Views of a volume, a legend above and one caption below."""

    legend: Legend
    rows: tuple[PanelRow, ...]
    caption: str


@dataclass(frozen=True)
class View3D:
    """Surfaces that can be turned, with a caption."""

    scene: Scene
    caption: str


@dataclass(frozen=True)
class Commands:
    """What to type next: pairs of a sentence and a command."""

    entries: tuple[tuple[str, str], ...]


Block = Paragraph | Notice | Table | Chart | Legend | Gallery | View3D | Commands


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class ReportContent:
    """A whole page.

    Attributes:
        title: the heading.
        subtitle: a line below it.
        date: as it shall be printed.
        kicker: a few words above the heading, the kind of report.
        tiles: headline numbers.
        warnings: printed at the top.
        sections: in order.
        footer: the last line: versions, hashes.
    """

    title: str
    subtitle: str = ""
    date: str = ""
    kicker: str = "densem evaluation"
    tiles: tuple[Tile, ...] = ()
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = field(default=())
    footer: str = ""
