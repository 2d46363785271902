"""`densem render`: pictures of cells and what is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.lists import listed
from densem.cli.progress import bar
from densem.cli.studies import StudyFolder


@app.command()
def render(
    study: StudyFolder,
    objects: Annotated[str | None, typer.Option(help="Name of objects of the study.")] = None,
    prediction: Annotated[
        str | None, typer.Option(help="Instead of objects: the classes of a prediction.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="VOLUME", help="Instead of objects: the labels of this volume.")
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(metavar="ID,...", help="Cells to show with all they hold.", show_default="all"),
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option(metavar="ID,...", help="Instead: objects of any kind, alone.")
    ] = None,
    class_: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="NAME,...", help="Show only these classes.", show_default="all"),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TITLE=]NAME",
            help="Show beside it the same of other objects, of a prediction, or of labels; repeated.",
        ),
    ] = None,
    title: Annotated[
        str | None, typer.Option(help="Over the picture; with --compare, over its first panel.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="The picture.", show_default="in the study's reports"),
    ] = None,
    turntable: Annotated[
        Path | None,
        typer.Option(metavar="FILE.mp4", help="A film of one turn; or FILE.gif. No picture without --out."),
    ] = None,
    frames: Annotated[int, typer.Option(help="Pictures of the turntable, 24 a second.")] = 120,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="W H", help="In pixels.", show_default="1600 1200; turntable 960 720"),
    ] = None,
    camera: Annotated[
        str, typer.Option(help="Where from: oblique, or along an axis: z (as slices are seen), y, x.")
    ] = "oblique",
    azimuth: Annotated[
        float | None,
        typer.Option(help="Degrees around the z axis.", show_default="of --camera; oblique 30"),
    ] = None,
    elevation: Annotated[
        float | None,
        typer.Option(help="Degrees above the slices.", show_default="of --camera; oblique 30"),
    ] = None,
    planes: Annotated[
        bool, typer.Option("--planes", help="Stand the objects before the raw image on three sides.")
    ] = False,
    planes_at: Annotated[
        tuple[int, int, int] | None,
        typer.Option(metavar="Z Y X", help="Instead: cut the raw image across all axes at this voxel."),
    ] = None,
    background: Annotated[str, typer.Option(help="white or black.")] = "white",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a picture that is there.")] = False,
) -> None:
    """Draw cells with what they hold: a picture, a turntable, or networks side by side."""
    from densem.errors import ConfigError
    from densem.report.render.camera import View
    from densem.study.render_scenes import Wanted
    from densem.study.rendering import RenderRequest, render_study

    colors = {"white": (255, 255, 255), "black": (0, 0, 0)}
    if background not in colors:
        raise ConfigError(f"--background {background}: expected white or black")
    request = RenderRequest(
        objects=objects, prediction=prediction, labels=labels,
        wanted=Wanted(_numbers(cell, "--cell"), _numbers(ids, "--ids"), listed(class_, "--class") or ()),
        compare=tuple(compare or ()), title=title, out=out, turntable=turntable,
        size=size, view=View.named(camera, azimuth, elevation), planes=planes,
        planes_at=planes_at, background=colors[background], frames=frames, overwrite=overwrite,
    )  # fmt: skip
    with bar("Drawing") as progress:
        done = render_study(study, request, progress)
    z, y, x = done.voxel_size_nm
    level = (
        "full resolution"
        if done.level == 0
        else f"level {done.level} of the pyramid, smaller parts may be missing"
    )
    typer.echo(f"Surfaces from voxels of {z:g} x {y:g} x {x:g} nm ({level}).")
    typer.echo(f"A pixel is {done.nm_per_pixel:.4g} nm, the scale bar {done.bar_nm:g} nm.")
    for path in done.files:
        typer.echo(f"{'Turntable' if path == turntable else 'Picture'}: {path}")


def _numbers(values: list[str] | None, flag: str) -> tuple[int, ...]:
    from densem.errors import ConfigError

    what = "ids of objects, such as 3 or 3,7"
    words = listed(values, flag, what) or ()
    wrong = [word for word in words if not word.isascii() or not word.isdigit()]
    if wrong:
        raise ConfigError(f"{flag} {', '.join(wrong)}: expected {what}")
    return tuple(dict.fromkeys(int(word) for word in words))
