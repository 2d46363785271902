"""One cut through all rows: image, truth, and what the best run of each row made of it, as on a poster.

The best run is the one with the best score on the eval volumes, so that the picture is not chosen by the
test. Only the voxels of the cut are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from densem.blocks import Box
from densem.report.content import Gallery, Legend, PanelRow
from densem.report.panels import Frame, Panel, Subject, label_colors, panels_of
from densem.report.results.contestant import Contestant
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume

COLUMNS = 4
"""Panels beside each other: twenty rows stay large enough to compare."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is shown of a volume.

    Attributes:
        image: grey values.
        truth: class ids, 255 where unlabelled.
        schema: the classes.
        view: a box of one plane, as `choose_views` finds it.
        where: name of the volume, for the heading.
    """

    image: Volume
    truth: Volume
    schema: LabelSchema
    view: Box
    where: str

    @property
    def title(self) -> str:
        """Volume and place."""
        (z, y, x), (_, bottom, right) = self.view.start, self.view.stop
        whole = self.view.shape[1:] == self.image.shape[1:]
        return f"{self.where}, slice z = {z}" + ("" if whole else f", y {y} to {bottom}, x {x} to {right}")


def cut_gallery(scene: Scene, contestants: Sequence[Contestant], missing: Sequence[str] = ()) -> Gallery:
    """Image, truth and all contestants on one plane.

    Args:
        scene: what is shown.
        contestants: one or more, in the order of the table, on the image's grid.
        missing: titles of rows of which nothing can be shown.
    """
    view, schema = scene.view, scene.schema
    frame = Frame.of(view, scene.image.voxel_size_nm)
    first = panels_of(Subject(scene.image, scene.truth, contestants[0].prediction, schema), view)
    shown = [panel for panel in first if panel.title in ("image", "truth")]
    shown += [Panel(c.title, label_colors(c.prediction.read(view)[0], schema, frame)) for c in contestants]
    entries = [(c.name.replace("_", " "), c.color) for c in schema.classes]
    if bool((scene.truth.read(view) == UNLABELLED).any()):
        entries.append(("unlabelled", ""))
    row = PanelRow(scene.title, tuple(shown), COLUMNS)
    return Gallery(Legend(tuple(entries)), (row,), _caption(missing))


def _caption(missing: Sequence[str]) -> str:
    words = [
        "The same cut in all rows, by the run of each row that scored best on the eval volumes; the cut was "
        "chosen by the annotation alone, so that every class is seen.",
        f"Without a prediction here: {', '.join(missing)}." if missing else "",
        "Click a picture to enlarge it.",
    ]
    return " ".join(w for w in words if w)
