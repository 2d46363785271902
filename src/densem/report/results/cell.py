"""One cell in 3D: the truth, and what the best run of each row made of it, seen alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from densem.report.content import Gallery, Legend, PanelRow
from densem.report.panels import Panel, with_scale_bar
from densem.report.render import Subject, draw_apart

COLUMNS = 4
SIZE = (480, 400)
"""Width and height of a picture, pixels."""


@dataclass(frozen=True, eq=False)
class Cell:
    """What is shown.

    Attributes:
        subject: a scene for the truth, then one for each row.
        title: volume and cell.
    """

    subject: Subject
    title: str


def cell_gallery(cell: Cell, missing: Sequence[str] = ()) -> Gallery:
    """The scenes as pictures beside each other.

    Args:
        cell: what is shown.
        missing: titles of rows of which nothing can be shown.
    """
    pictures, frame = draw_apart(cell.subject, *SIZE)
    panels = [Panel(s.title, p) for s, p in zip(cell.subject.scenes, pictures, strict=True)]
    panels[0] = Panel(panels[0].title, with_scale_bar(panels[0].pixels, frame.nm_per_pixel))
    legend = tuple((e.label, "#{:02x}{:02x}{:02x}".format(*e.color)) for e in cell.subject.entries)
    return Gallery(Legend(legend), (PanelRow(cell.title, tuple(panels), COLUMNS),), _caption(missing))


def _caption(missing: Sequence[str]) -> str:
    words = [
        "The annotated cell that holds most objects, and what the run of each row that scored best on the "
        "eval volumes labelled in its place: nothing outside the true cell is drawn.",
        f"Without a prediction here: {', '.join(missing)}." if missing else "",
        "Click a picture to enlarge it.",
    ]
    return " ".join(w for w in words if w)
