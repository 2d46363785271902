"""`densem train`, `predict`, `evaluate`, `agreement`, `recipes`, `demo`: from labelled volumes to scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.lists import listed
from densem.cli.progress import bar
from densem.cli.studies import Scheduler, StudyFolder, VolumeName
from densem.errors import InputError

MaxTime = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Time for training, such as 90s, 10m or 2h; sets the number of steps."),
]


@app.command()
def train(
    study: StudyFolder,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="Name of a packaged recipe, or a .toml file.", show_default="default, or of --start"
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="<recipe>-<n>")] = None,
    max_time: MaxTime = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and of the order of the data.")] = 0,
    volumes: Annotated[
        list[str] | None,
        typer.Option(help="Volumes to train on, with commas or repeated.", show_default="all of role train"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            help="Train this model (name or folder) further, on what is labelled by now.",
            show_default="random weights",
        ),
    ] = None,
) -> None:
    """Train a model on the labelled volumes of a study; interrupted, the same command goes on."""
    from densem.study import Study
    from densem.study.training import TrainRequest, parse_time, train_model

    request = TrainRequest(
        recipe=recipe,
        name=name,
        max_time=parse_time(max_time),
        overrides=tuple(set_ or ()),
        seed=seed,
        volumes=listed(volumes, "--volumes"),
        start=start,
    )
    for line in train_model(Study.open(study), request):
        typer.echo(line)


@app.command()
def recipes(
    name: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="Print this one whole.")] = None,
) -> None:
    """List the packaged recipes, or print one to start your own from."""
    import tomllib
    from importlib import resources

    from densem.errors import NotFoundError, nearest

    folder = resources.files("densem") / "training" / "recipes"
    found = {
        f.name.removesuffix(".toml"): f.read_text() for f in folder.iterdir() if f.name.endswith(".toml")
    }
    if name is None:
        for key in sorted(found):
            typer.echo(f"{key:<26} {tomllib.loads(found[key]).get('description', '')}")
        return
    if name not in found:
        raise NotFoundError(f"recipe {name!r}: no packaged recipe of that name.{nearest(name, list(found))}")
    typer.echo(found[name])


@app.command()
def predict(
    study: Annotated[
        Path | None,
        typer.Argument(metavar="[STUDY]", help="Folder of the study; none with --input.", show_default=False),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Name of a model of the study, or a model folder; repeated, an ensemble.", show_default=False
        ),
    ] = None,
    volume: Annotated[str | None, typer.Option(help="Name of the volume to label.")] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the prediction.", show_default="<model>-<volume>")
    ] = None,
    input_: Annotated[
        Path | None, typer.Option("--input", help="An OME-Zarr or Zarr to label, without a study.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="With --input: folder for the prediction.", show_default="beside the input"),
    ] = None,
    voxel_size: Annotated[
        tuple[float, float, float] | None,
        typer.Option(metavar="Z Y X", help="Of --input, in nm, if it stores none."),
    ] = None,
    context: Annotated[
        str,
        typer.Option(help="practical (measured, the default), exact, or three voxel counts such as 4,32,32."),
    ] = "practical",
    flips: Annotated[
        str, typer.Option(help="Axes to average over mirrored input: none, y, x, yx or zyx.")
    ] = "none",
    save: Annotated[
        str, typer.Option(help="Beside classes and confidence: probabilities, entropy, with commas.")
    ] = "",
    affinities: Annotated[
        bool,
        typer.Option(
            "--affinities/--no-affinities", help="Write the affinities of a model that has them, or do not."
        ),
    ] = True,
    resample: Annotated[bool, typer.Option("--resample", help="Work at the model's voxel size.")] = False,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<n>.")] = "auto",
    runtime: Annotated[
        str,
        typer.Option(
            help="What runs the networks: auto (the faster one here), torch, openvino, or openvino-int8 "
            "(after densem quantize)."
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Blocks worked on at a time.", show_default="1, or one for each graphics card"
        ),
    ] = None,
    block: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="Z Y X", help="Voxels worked on at a time; never changes a label.", show_default="fits"
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where blocks are done: local (this machine), slurm or dask.")
    ] = "local",
    scheduler: Scheduler = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="PyTorch's threads for a block.", show_default="all of this machine's"),
    ] = None,
    stall: Annotated[
        float,
        typer.Option(min=0, metavar="MINUTES", help="Say so when no block was finished for so long."),
    ] = 30.0,
    core: Annotated[
        tuple[int, int, int] | None,
        typer.Option(
            metavar="Z Y X",
            help="Voxels a tile yields: larger ones compute less twice and need more memory.",
            show_default="fits",
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(metavar="Z,Y,X", help="Label these voxels alone, such as 0:24,100:612,:."),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(help="Label where this volume (path, or name in the study) is not 0; may be coarser."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Start anew where a prediction is there.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Say what it would cost and whether it fits; nothing is written."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="With --dry-run: as JSON.")] = False,
) -> None:
    """Label a volume; interrupted, the same command goes on where it stopped."""
    from densem.cli.preflight import show_preflight
    from densem.study.prediction import (
        PredictRequest,
        predict_file,
        predict_volume,
        preflight_file,
        preflight_volume,
    )

    if not model:
        raise InputError("densem predict: give --model NAME (or a model folder); repeated, an ensemble")
    request = PredictRequest(
        models=tuple(model), context=context, flips=flips, save=save, resample=resample,
        precision=precision, device=device, runtime=runtime, workers=workers, block=block,
        overwrite=overwrite, engine=engine, scheduler=scheduler, threads=threads, stall=stall,
        core=core, box=box, mask=mask, affinities=affinities,
    )  # fmt: skip
    if input_ is None and (study is None or volume is None):
        raise InputError("densem predict: give STUDY and --volume NAME, or --input FILE.zarr")
    if json and not dry_run:
        raise InputError("densem predict: --json says what --dry-run finds; give both, or neither")
    if dry_run:
        if input_ is not None:
            show_preflight(preflight_file(input_, output, voxel_size, request, study), json)
        else:
            assert study is not None
            assert volume is not None
            show_preflight(preflight_volume(study, volume, name, request), json)
        return
    with bar("Predicting") as progress:
        if input_ is not None:
            lines = predict_file(input_, output, voxel_size, request, progress, study)
        else:
            assert study is not None
            assert volume is not None
            lines = predict_volume(study, volume, name, request, progress)
    for line in lines:
        typer.echo(line)


@app.command()
def status(
    folder: Annotated[
        Path,
        typer.Argument(metavar="STUDY|PREDICTION|OBJECTS", help="Folder of one of them.", show_default=False),
    ],
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """How predictions, imports and objects are getting on, also during a run; of a study the unfinished."""
    import json as json_format

    from densem.study.progress import lines, statuses

    found = statuses(folder)
    if json:
        typer.echo(json_format.dumps([s.to_dict() for s in found], indent=1))
        return
    for line in [line for s in found for line in lines(s)] or ["Nothing is unfinished."]:
        typer.echo(line)


@app.command()
def evaluate(
    study: StudyFolder,
    prediction: Annotated[str, typer.Option(help="Name of the prediction.", show_default=False)],
    protocol: Annotated[
        str,
        typer.Option(
            help="labelled: all labelled voxels; cells: inside labelled cells only, as the reference's test."
        ),
    ] = "labelled",
    boundaries: Annotated[
        bool, typer.Option("--boundaries", help="Distances between boundaries in nm, too; takes longer.")
    ] = False,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="NM", help="Of the surface Dice.", show_default="longest side of a voxel"),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Blocks counted at a time, with --engine local.")] = 2,
    engine: Annotated[
        str, typer.Option(help="Where blocks are counted: local (this machine), slurm or dask.")
    ] = "local",
    scheduler: Scheduler = None,
    json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
) -> None:
    """Compare a prediction with the labels of its volume; writes a page of figures."""
    import json as json_format

    from densem.blocks import EngineChoice
    from densem.cli.tables import print_scores
    from densem.study.scoring import evaluate_prediction

    if tolerance is not None and not boundaries:
        raise InputError("--tolerance: expected it with --boundaries, whose surface Dice it belongs to")
    choice = EngineChoice(engine, workers, scheduler, settings=study)
    with bar("Evaluating") as progress:
        result = evaluate_prediction(study, prediction, protocol, progress, choice, boundaries, tolerance)
    if json:
        typer.echo(json_format.dumps(result.scores, indent=1))
        return
    print_scores(result.scores)
    typer.echo(f"Page of figures: {result.page}")


@app.command()
def agreement(
    study: StudyFolder,
    volume: VolumeName,
    annotators: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="REFERENCE OTHER",
            help="Whose annotations; main is the one without a name.",
            show_default="the two there are",
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="labelled, or cells: only inside the cells of the reference.")
    ] = "labelled",
    boundaries: Annotated[
        bool, typer.Option("--boundaries", help="Distances between boundaries in nm, too.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Blocks counted at a time.")] = 2,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Compare two annotations of a volume with each other: how right can a network be?"""
    import json as json_format

    from densem.cli.tables import print_scores
    from densem.study.agreement import annotator_agreement

    with bar("Comparing") as progress:
        result = annotator_agreement(
            study, volume, annotators, protocol,
            with_boundaries=boundaries, workers=workers, progress=progress,
        )  # fmt: skip
    if json:
        typer.echo(json_format.dumps(result.to_dict(), indent=1))
        return
    typer.echo(
        f"Volume {volume}: {result.other} against {result.reference}, the reference of precision and recall "
        "(all other scores are the same either way)."
    )
    print_scores(result.to_dict())


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to make the demo study.")] = Path(
        "demo"
    ),
    max_time: Annotated[str, typer.Option(metavar="TIME", help="Time for training.")] = "270s",
    seed: Annotated[int, typer.Option(help="Another seed makes another volume.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a demo study that is there.")
    ] = False,
) -> None:
    """From nothing to a page of figures: a synthetic platelet volume, a small network, its scores."""
    from densem.cli.tables import print_scores
    from densem.study.demo import run_demo
    from densem.study.training import parse_time

    seconds = parse_time(max_time)
    assert seconds is not None
    result = run_demo(folder, seconds, seed, overwrite, typer.echo)
    print_scores(result.scores)
    typer.echo(f"\nThe page of figures is  {result.page.resolve()}")
    typer.echo("What to type next, with your own images:")
    typer.echo(
        "  densem new mystudy --schema platelet          # or --classes background,membrane,mitochondrion"
    )
    typer.echo("  densem import mystudy train --image IMAGES.tif --labels LABELS.tif --voxel-size 40 10 10")
    typer.echo("  densem train mystudy --max-time 30m")
