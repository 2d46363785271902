"""`densem report-objects`: the page of objects."""

from __future__ import annotations

from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import StudyFolder


@app.command("report-objects")
def report_objects(
    study: StudyFolder,
    objects: Annotated[
        str | None, typer.Option(help="Name of the objects.", show_default="the only ones")
    ] = None,
    cell: Annotated[
        list[int] | None,
        typer.Option(
            metavar="ID",
            help="Show this cell alone in 3D, with what lies in it.",
            show_default="all",
        ),
    ] = None,
    megabytes: Annotated[
        float, typer.Option(help="What the surfaces may take of the page; smaller is coarser.")
    ] = 8.0,
) -> None:
    """One page of objects: a 3D view that works offline, distributions of size, counts by cell."""
    from densem.report.view3d.collecting import ViewOptions
    from densem.study.objects_report import report_objects as write

    with bar("Making surfaces") as progress:
        made = write(study, objects, ViewOptions(megabytes, tuple(cell or ())), progress)
    for text in made.said:
        typer.echo(text)
    typer.echo(f"Page: {made.file}")
