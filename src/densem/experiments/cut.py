"""The cut: which slice of which volume is shown, and all rows on it."""

from __future__ import annotations

from densem.experiments.folder import BenchmarkFolder
from densem.experiments.shown import shown_volumes
from densem.report.content import Gallery
from densem.report.results.cut import Scene, cut_gallery
from densem.report.results.table import ResultsTable
from densem.report.views import choose_views


def benchmark_cut(table: ResultsTable, folder: BenchmarkFolder) -> Gallery | None:
    """All rows on one cut, of the test volumes where there are some.

    Without the study or its predictions there is none. A row whose prediction is gone, or is of another
    volume than the study has now, is left out.
    """
    for shown in shown_volumes(table, folder):
        schema = shown.study.schema
        view = choose_views(shown.truth, schema, count=1)[0]
        scene = Scene(shown.image, shown.truth, schema, view, f"Volume {shown.name}")
        return cut_gallery(scene, shown.contestants, shown.missing)
    return None
