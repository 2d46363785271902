"""`densem new`, `import`, `info`, `rename`, `remove`, `role`: studies and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.errors import InputError

StudyFolder = Annotated[
    Path, typer.Argument(metavar="STUDY", help="Folder of the study.", show_default=False)
]
Scheduler = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="With --engine dask: of the scheduler, tcp://HOST:PORT."),
]
VolumeName = Annotated[str, typer.Argument(metavar="VOLUME", help="Name of the volume.", show_default=False)]


@app.command()
def new(
    study: StudyFolder,
    schema: Annotated[
        str | None,
        typer.Option(help="A built-in schema (platelet, membrane) or a .toml file of classes."),
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Instead of a schema: names of classes 0, 1, 2, ..., with commas.")
    ] = None,
) -> None:
    """Make an empty study."""
    from densem.schema import LabelSchema
    from densem.study import Study

    if (schema is None) == (classes is None):
        raise InputError("densem new: give either --schema NAME|FILE.toml or --classes name,name,...")
    if schema is not None:
        chosen = LabelSchema.resolve(schema)
    else:
        chosen = LabelSchema.from_names([n.strip() for n in str(classes).split(",")])
    made = Study.create(study, chosen)
    typer.echo(f"Made study {made.name} with the classes {', '.join(chosen.names)}.")
    typer.echo(
        f"Next: densem import {study} train --image FILE --labels FILE --voxel-size Z Y X --role train"
    )


@app.command("import")
def import_(
    study: StudyFolder,
    volume: VolumeName,
    image: Annotated[
        Path | None,
        typer.Option(help="TIFF stack, folder of PNG/TIFF slices, MRC, HDF5, DM3/DM4, OME-Zarr or Zarr."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Class of every voxel: the same formats, or run-length JSON.")
    ] = None,
    instances: Annotated[Path | None, typer.Option(help="Object of every voxel; 0 is no object.")] = None,
    role: Annotated[
        str | None,
        typer.Option(
            help="train, eval, test or unlabelled.", show_default="train with labels, else unlabelled"
        ),
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="In nanometres; needed where the file holds none."),
    ] = None,
    slices: Annotated[
        str | None, typer.Option(metavar="A:B", help="Only these slices, from 0, B left out.")
    ] = None,
    palette: Annotated[
        str | None,
        typer.Option(
            help="Labels are colours: platelet-em, schema (the schema's own colours), or a .toml file."
        ),
    ] = None,
    unlabelled_value: Annotated[
        int | None,
        typer.Option(help="The value in --labels of voxels nobody has labelled; 255 always is."),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Name of the image in an HDF5 file or Zarr group.")
    ] = None,
    labels_dataset: Annotated[str | None, typer.Option(help="Name of the labels in theirs.")] = None,
    annotator: Annotated[
        str | None,
        typer.Option(help="Who made --labels, where a volume has several; kept beside the main labels."),
    ] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy an OME-Zarr image instead of referring to it.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there of that name.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Layers of 32 slices converted at a time, with --engine local.")
    ] = 1,
    engine: Annotated[
        str,
        typer.Option(help="Where they are converted: local (this machine), slurm or dask; not instances."),
    ] = "local",
    scheduler: Scheduler = None,
) -> None:
    """Bring images and their labels into a study, or labels to a volume that is there."""
    from densem.blocks import EngineChoice
    from densem.study import Study
    from densem.study.intake import ImportRequest, import_volume, parse_slices
    from densem.study.manifest import check_role

    request = ImportRequest(
        image=image,
        labels=labels,
        instances=instances,
        role=None if role is None else check_role(role),
        voxel_size_nm=voxel_size,
        slices=parse_slices(slices),
        palette=palette,
        unlabelled_value=unlabelled_value,
        dataset=dataset,
        labels_dataset=labels_dataset,
        copy=copy,
        overwrite=overwrite,
        annotator=annotator,
        engine=EngineChoice(engine, workers, scheduler, settings=study),
    )
    with bar(f"Importing {volume}") as progress:
        imported = import_volume(Study.open(study), volume, request, progress)
    for line in imported:
        typer.echo(line)


@app.command()
def phantom(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go.", show_default=False)],
    shape: Annotated[tuple[int, int, int], typer.Option(metavar="Z Y X", help="In voxels.")] = (24, 400, 400),
    voxel_size: Annotated[
        tuple[float, float, float], typer.Option(metavar="Z Y X", help="In nanometres.")
    ] = (40.0, 10.0, 10.0),
    donor: Annotated[str, typer.Option(help="a, or b: other contrast, texture and organelles.")] = "a",
    seed: Annotated[int, typer.Option(help="Another seed gives other cells.")] = 0,
    labelled_cells: Annotated[
        int | None, typer.Option(help="Label only so many cells.", show_default="all")
    ] = None,
    dense_granules: Annotated[
        float, typer.Option(help="Times as many dense granules as there really are.")
    ] = 1.0,
    form: Annotated[str, typer.Option(help="tiff, as a microscopist has them, or ome-zarr.")] = "tiff",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Make a synthetic volume of platelets with known truth: image, classes, cells and organelles."""
    from densem.datasets.phantom import PhantomConfig, write_phantom

    if form not in ("tiff", "ome-zarr"):
        raise InputError(f"--form {form}: expected tiff or ome-zarr")
    config = PhantomConfig.parse(
        {"shape": shape, "voxel_size_nm": voxel_size, "donor": donor, "seed": seed,
         "labelled_cells": labelled_cells, "dense_granules": dense_granules}
    )  # fmt: skip
    with bar("Making the phantom") as progress:
        files = write_phantom(config, folder, "tiff" if form == "tiff" else "ome-zarr", overwrite, progress)
    for path in files:
        typer.echo(path)


@app.command()
def info(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE|STUDY", help="A volume, label file, model or study.", show_default=False
        ),
    ],
    dataset: Annotated[
        str | None, typer.Option(help="Name of the dataset in an HDF5 file or Zarr group.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Print what is known of a file, a model or a study: shape, voxel size, range, labels, lineage."""
    import json as json_format

    from densem.cli.tables import print_facts
    from densem.study.lineage import describe

    facts = describe(path, dataset)
    if json:
        typer.echo(json_format.dumps(facts, indent=1))
    else:
        print_facts(facts)


@app.command()
def rename(
    study: StudyFolder,
    volume: VolumeName,
    to: Annotated[str, typer.Argument(metavar="NEW", show_default=False)],
) -> None:
    """Give a volume of a study another name; its annotations and predictions follow."""
    from densem.study import Study

    Study.open(study).rename_volume(volume, to)
    typer.echo(f"Volume {volume} is now {to}.")


@app.command()
def remove(
    study: StudyFolder,
    volume: VolumeName,
    labels_only: Annotated[bool, typer.Option("--labels-only", help="Keep the image.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even if models or predictions were made from it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a volume, or its annotations, from a study. Images that are referred to are not touched."""
    from densem.study import Study

    opened = Study.open(study)
    opened.entry(volume)
    if not yes:
        what = "the annotations" if labels_only else "the image and annotations"
        if not _confirmed(f"Delete {what} of volume {volume} in {study}?"):
            typer.echo("Nothing was removed.")
            return
    gone = opened.remove_annotation(volume) if labels_only else opened.remove_volume(volume, force)
    typer.echo(f"Removed {', '.join(gone) if gone else 'the reference; no file was deleted'}.")


@app.command()
def role(
    study: StudyFolder,
    volume: VolumeName,
    to: Annotated[str, typer.Argument(metavar="ROLE", show_default=False)],
) -> None:
    """Change what a volume is for: train, eval, test or unlabelled."""
    from densem.study import Study
    from densem.study.manifest import check_role

    Study.open(study).set_role(volume, check_role(to))
    typer.echo(f"Volume {volume} is now for {to}.")


def _confirmed(question: str) -> bool:
    """The answer; where nobody can be asked, no."""
    try:
        return typer.confirm(question)
    except typer.Abort:
        typer.echo(err=True)
        return False
