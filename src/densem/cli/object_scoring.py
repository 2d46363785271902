"""`densem evaluate-objects`: found objects against annotated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import StudyFolder


@app.command("evaluate-objects")
def evaluate_objects(
    study: StudyFolder,
    objects: Annotated[str | None, typer.Option(help="Name of objects of the study.")] = None,
    level: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Which of them: 0 the outermost (cells), 1 those inside.",
            show_default="the only one",
        ),
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option("--input", help="Instead: a file of object ids (OME-Zarr, TIFF, ...), 0 for no object."),
    ] = None,
    volume: Annotated[str | None, typer.Option(help="With --input: name of the volume it is of.")] = None,
    prediction: Annotated[
        str | None,
        typer.Option(
            help="Prediction whose classes the found objects have.",
            show_default="the one they were made from",
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(help="A file of true object ids.", show_default="import --instances of the volume"),
    ] = None,
    ignore_id: Annotated[
        int | None, typer.Option(metavar="ID", help="True object id of voxels that nobody labelled.")
    ] = None,
    inner: Annotated[
        bool, typer.Option("--inner", help="Leave out objects that touch the border or unlabelled voxels.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json", help="For the scores.", show_default="beside the objects, or in reports/"
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blocks counted at a time.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Compare objects with the true ones of their volume: found, missed, split, merged."""
    import json as json_format

    from densem.cli.tables import print_object_scores
    from densem.study.object_scoring import ObjectRequest
    from densem.study.object_scoring import evaluate_objects as evaluate

    request = ObjectRequest(
        name=objects, level=level, input=input_, volume=volume, prediction=prediction, truth=truth,
        ignored_id=ignore_id, inner=inner, output=output,
    )  # fmt: skip
    with bar("Evaluating objects") as progress:
        result = evaluate(study, request, progress, workers)
    if json:
        typer.echo(json_format.dumps(result.scores, indent=1))
        return
    print_object_scores(result.scores)
    typer.echo(f"Scores: {result.file}")
