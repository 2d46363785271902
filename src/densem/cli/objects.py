"""`densem objects`: numbered and measured cells and organelles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import Scheduler, StudyFolder


@app.command()
def objects(
    study: StudyFolder,
    prediction: Annotated[
        str | None, typer.Option(help="Name of the prediction.", show_default=False)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="VOLUME", help="Instead of a prediction: the labels of this volume."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the objects.", show_default="<prediction>, or <volume>-labels"),
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="A TOML file with a section for each class that differs.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="CLASS.KEY=VALUE", help="One setting, such as alpha_granule.h_nm=30; repeated."
        ),
    ] = None,
    block: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="Z Y X", help="Voxels worked on at a time; never changes an object."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blocks worked on at a time, with local.")] = 1,
    engine: Annotated[
        str, typer.Option(help="Where blocks are done: local (this machine), slurm or dask.")
    ] = "local",
    scheduler: Scheduler = None,
    tuned: Annotated[
        bool,
        typer.Option("--tuned/--untuned", help="Begin with what densem tune-objects chose for these models."),
    ] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace objects that are there; interrupted, this goes on, too."),
    ] = False,
) -> None:
    """Number and measure the objects of every thing class; interrupted, the same command goes on."""
    from densem.errors import ConfigError
    from densem.study.objects import ObjectsRequest, find_in_study

    if block is not None and min(block) < 1:
        raise ConfigError(f"--block {' '.join(map(str, block))}: expected three voxel counts above zero")
    request = ObjectsRequest(
        prediction=prediction, labels=labels, name=name, settings=settings, overrides=tuple(set_ or ()),
        block=block, workers=workers, engine=engine, scheduler=scheduler, overwrite=overwrite,
        tuned=tuned,
    )  # fmt: skip
    with bar("Finding objects") as progress:
        found = find_in_study(study, request, progress)
    for kind, count in found.counts().items():
        typer.echo(f"{kind:<24} {count}")
    if not found.table["id"]:
        why = "all are below min_volume_nm3" if found.thing_voxels else "there is no voxel of a thing class"
        typer.echo(f"No object was found: {why}. The tables are empty.")
    if found.volumes[0].provenance.get("tuned"):
        typer.echo("Begun with what densem tune-objects chose; --untuned leaves it away.")
    typer.echo(f"Objects: {found.folder}")
    if not found.parquet:
        typer.echo("No Parquet was written: pip install 'densem[objects]' brings pyarrow.")
    if found.table["id"]:
        these = f"{study} --objects {found.folder.name}"
        typer.echo(f"See them:  densem report-objects {these}   (a page with a 3D view)")
        typer.echo(f"           densem view {study} --objects {found.folder.name}")


@app.command()
def tune_objects(
    study: StudyFolder,
    prediction: Annotated[str, typer.Option(help="A prediction of an eval volume.", show_default=False)],
    truth: Annotated[
        Path | None,
        typer.Option(help="A file of true object ids, such as organelles, instead of the instances."),
    ] = None,
    metric: Annotated[
        str, typer.Option(help="What is best: pq (panoptic quality of a class) or are (adapted Rand error).")
    ] = "pq",
    workers: Annotated[int, typer.Option(min=1, help="Blocks worked on at a time.")] = 1,
) -> None:
    """Choose the settings of objects on an eval volume; densem objects then begins with them."""
    from densem.errors import ConfigError
    from densem.study.object_tuning import tune_objects as tune

    if metric not in ("pq", "are"):
        raise ConfigError(f"--metric {metric}: expected pq or are")
    with bar("Tuning") as progress:
        found = tune(study, prediction, "are" if metric == "are" else "pq", workers, progress, truth)
    for name, settings in found.settings.items():
        told = ", ".join(f"{k} = {v}" for k, v in settings.items())
        typer.echo(f"{name:<24} {metric} {found.scores[name]:.3f} of {found.tried[name]} tried: {told}")
    typer.echo(f"Settings: {found.file}")
