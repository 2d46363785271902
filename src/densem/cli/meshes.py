"""`densem mesh`: closed surfaces of cells and organelles."""

from __future__ import annotations

from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import Scheduler, StudyFolder


@app.command()
def mesh(
    study: StudyFolder,
    objects: Annotated[
        str, typer.Option(help="Name of the objects, as of densem objects.", show_default=False)
    ],
    class_: Annotated[
        list[str] | None, typer.Option("--class", metavar="CLASS", help="Objects of this class; repeated.")
    ] = None,
    ids: Annotated[
        str | None, typer.Option(metavar="ID,ID,...", help="These objects, such as 3,17-20.")
    ] = None,
    format_: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="glb, ply, obj, stl or precomputed (Neuroglancer); repeated.",
            show_default="glb",
        ),
    ] = None,
    smooth: Annotated[
        float | None,
        typer.Option(
            metavar="NM",
            help="Waves of that length along the surface are halved; 0 does not smooth.",
            show_default="10 longest sides of a voxel",
        ),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            metavar="NM",
            help="How far fewer triangles may lie from all of them; 0 keeps all.",
            show_default="half the shortest side of a voxel",
        ),
    ] = None,
    block: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="Z Y X", help="Voxels worked on at a time; never changes a mesh."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Blocks or objects worked on at a time, with local.")
    ] = 1,
    engine: Annotated[
        str, typer.Option(help="Where they are made: local (this machine), slurm or dask.")
    ] = "local",
    scheduler: Scheduler = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace meshes that are there; interrupted, this goes on, too."),
    ] = False,
) -> None:
    """Make closed surfaces of objects, in nm; interrupted, the same command goes on."""  # fmt: skip
    from densem.blocks import EngineChoice
    from densem.errors import ConfigError
    from densem.meshes.making import BLOCK, MeshOptions
    from densem.study.meshes import mesh_in_study

    if block is not None and min(block) < 1:
        raise ConfigError(f"--block {' '.join(map(str, block))}: expected three voxel counts above zero")
    options = MeshOptions(
        classes=tuple(class_ or ()), ids=parse_ids(ids), formats=tuple(format_ or ("glb",)), smooth_nm=smooth,
        error_nm=error, block=block or BLOCK, engine=EngineChoice(engine, workers, scheduler, study),
        overwrite=overwrite,
    )  # fmt: skip
    with bar("Making meshes") as progress:
        made = mesh_in_study(study, objects, options, progress)
    faces, before = (sum(row[key] for row in made.rows) for key in ("faces", "faces_before"))
    worst = max(row["error_nm"] for row in made.rows)
    typer.echo(
        f"{len(made.rows)} meshes, {faces:,} triangles of {before:,}, at most {worst:.1f} nm from them."
    )
    typer.echo(f"Meshes: {made.folder}")


def parse_ids(text: str | None) -> tuple[int, ...]:
    """Ids from `3,17-20`.

    Raises:
        ConfigError: for anything else.
    """
    from densem.errors import ConfigError

    found: list[int] = []
    for part in (text or "").split(",") if text is not None else ():
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise ConfigError(f"--ids {text}: expected ids and spans of ids, such as 3,17-20, found {part!r}")
        if dash and int(last) - int(first) > 10_000_000:
            raise ConfigError(f"--ids {text}: the span {part} has more than ten million ids; use --class")
        found += range(int(first), int(last if dash else first) + 1)
    return tuple(dict.fromkeys(found))
