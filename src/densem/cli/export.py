"""`densem export`: what other tools open."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import StudyFolder


@app.command()
def export(
    study: StudyFolder,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="fiji, amira, mrc, imod-model, ome-zarr, ome-zarr-0.4, neuroglancer, nrrd, nifti, "
            "rgba-tiff or run-length; of meshes: amira-surface or imod-mesh.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="PATH", help="File or folder to make.", show_default=False)],
    volume: Annotated[str | None, typer.Option(help="The image of this volume.")] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="VOLUME", help="The class labels of this volume.")
    ] = None,
    annotator: Annotated[str | None, typer.Option(help="With --labels: whose.")] = None,
    instances: Annotated[
        str | None, typer.Option(metavar="VOLUME", help="The annotated objects of this volume.")
    ] = None,
    prediction: Annotated[str | None, typer.Option(help="This prediction.")] = None,
    part: Annotated[
        str | None,
        typer.Option(help="With --prediction: classes, confidence or entropy.", show_default="classes"),
    ] = None,
    objects: Annotated[
        str | None, typer.Option(metavar="NAME", help="The objects that densem objects found.")
    ] = None,
    meshes: Annotated[str | None, typer.Option(metavar="NAME", help="The surfaces of these objects.")] = None,
    level: Annotated[
        int | None,
        typer.Option(min=0, help="Of the objects: 0 is cells, 1 is what lies in them, ...", show_default="0"),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            metavar="Z,Y,X", help="Only these voxels, of the exported scale: 0:24,100:612,: for example."
        ),
    ] = None,
    scale: Annotated[int, typer.Option(min=0, help="Level of the pyramid; 0 is full resolution.")] = 0,
    unit: Annotated[
        str | None,
        typer.Option(help="Of lengths in the file, for amira (nm), nrrd (mm) and nifti (mm): nm, um or mm."),
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(help="For rgba-tiff: platelet-em, schema (default), or a .toml file of colours."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
) -> None:
    """Write an image, labels, a prediction or objects as Fiji, Amira, IMOD, Slicer, napari, ... open it."""
    from densem.study.export import ExportRequest, export_from_study

    request = ExportRequest(
        to=to, out=out, volume=volume, labels=labels, annotator=annotator, instances=instances,
        prediction=prediction, part=part, objects=objects, meshes=meshes, level=level, box=box,
        scale=scale, unit=unit, palette=palette, overwrite=overwrite,
    )  # fmt: skip
    with bar(f"Exporting to {out.name}") as progress:
        said = export_from_study(study, request, progress)
    for line in said:
        typer.echo(line)
