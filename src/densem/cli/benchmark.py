"""`densem benchmark`, `suites`: every row of a results table, trained, predicted and scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from densem.cli.app import app
from densem.cli.lists import listed
from densem.cli.modelling import MaxTime
from densem.cli.results import show_results
from densem.cli.studies import StudyFolder
from densem.errors import ConfigError, InputError, nearest

if TYPE_CHECKING:
    from densem.experiments.setting import Run, Setting

ENGINES = ("local", "slurm")


@app.command()
def benchmark(
    study: StudyFolder,
    suite: Annotated[
        str, typer.Option(help="Packaged suite (densem suites lists them), or a .toml file.")
    ] = "poster",
    name: Annotated[
        str | None, typer.Option(help="Name of the benchmark.", show_default="that of the suite")
    ] = None,
    replicates: Annotated[
        int | None, typer.Option(min=1, help="Training sessions of each network.", show_default="the suite's")
    ] = None,
    max_time: MaxTime = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="Some rows alone, with commas or repeated; those they are made of come along."),
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Do runs that failed again.")] = False,
    engine: Annotated[
        str, typer.Option(help="Where runs are done: local (here) or slurm (as jobs).")
    ] = "local",
    workers: Annotated[
        int,
        typer.Option(min=1, help="Runs at a time, with --engine local; each gets its share of the cores."),
    ] = 1,
    detach: Annotated[
        bool, typer.Option("--detach", help="With --engine slurm: leave the jobs running and return.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be run and how long it takes; nothing is done.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(metavar="ROW/sSEED", help="Do this one run of a benchmark that was begun."),
    ] = None,
) -> None:
    """Train and evaluate every row of a results table; interrupted, the same command goes on."""
    from densem.experiments.benchmark import BenchmarkRequest, pending, plan
    from densem.experiments.setting import Setting
    from densem.study import Study
    from densem.study.manifest import claimed

    if engine not in ENGINES:
        raise ConfigError(f"--engine {engine}: expected local or slurm.{nearest(engine, ENGINES)}")
    if detach and engine != "slurm":
        raise InputError("--detach leaves Slurm jobs running: give it with --engine slurm")
    if workers > 1 and engine != "local":
        raise InputError("--workers is for --engine local; with slurm, slurm.toml says how many at once")
    opened = Study.open(study)
    if run is not None:
        _one(Setting.open(opened, name or Path(suite).stem), run)
        return
    chosen = listed(rows, "--rows")
    setting = plan(opened, BenchmarkRequest(suite, name, chosen, replicates, max_time))
    if dry_run:
        _list(setting, chosen, pending(setting, chosen, retry_failed))
        return
    with claimed(setting.folder.path, "running this benchmark"):
        setting.write()
        _all(setting, chosen, retry_failed, engine, workers, detach)


@app.command()
def suites(
    name: Annotated[str | None, typer.Argument(metavar="[SUITE]", help="Print this one whole.")] = None,
) -> None:
    """List the packaged suites, or print one to start your own from."""
    from densem.experiments.suite import Suite, names, text_of

    if name is not None:
        typer.echo(text_of(name))
        return
    for known in names():
        typer.echo(f"{known:<20} {Suite.load(known).description}")


def _one(setting: Setting, name: str) -> None:
    """Do one run, for the process or job that was started for it; `row/plan` decides how a row is trained."""
    from densem.experiments.benchmark import do, outcome
    from densem.experiments.child import follow_parent, has_parent
    from densem.experiments.row_plan import recipe_of

    follow_parent()
    if name.endswith("/plan"):
        recipe_of(setting, setting.suite.row(name.removesuffix("/plan")))
        return
    record = do(setting, setting.run(name))
    if not has_parent():
        typer.echo(f"{record.name}: {outcome(setting, record)}")
    if record.status == "failed":
        raise typer.Exit(1)


def _all(
    setting: Setting,
    rows: tuple[str, ...] | None,
    retry_failed: bool,
    engine: str,
    workers: int,
    detach: bool,
) -> None:
    from densem.experiments.array import refuse_queued, run_on_slurm
    from densem.experiments.benchmark import conclude, pending, run_all
    from densem.experiments.child import do_in_child
    from densem.experiments.side_by_side import run_side_by_side

    def left() -> list[Run]:
        return pending(setting, rows, retry_failed)

    if engine == "slurm":
        run_on_slurm(setting, left, detach, typer.echo)
        if detach:
            return
    else:
        refuse_queued(setting)
        if workers > 1:
            run_side_by_side(setting, left(), workers, typer.echo)
        else:
            run_all(setting, left(), do_in_child, typer.echo)
    show_results(setting.folder)
    typer.echo(f"Records: {setting.folder.path}")
    conclude(setting, setting.runs(rows))


def _list(setting: Setting, rows: tuple[str, ...] | None, left: list[Run]) -> None:
    """What would be done, and how long it takes."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from densem.experiments.benchmark import state
    from densem.experiments.expected_time import ExpectedTime, duration

    expected = ExpectedTime(setting)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("run", "row", "now", "will take"):
        table.add_column(title, justify="right" if title == "will take" else "left")
    for run in setting.runs(rows):
        seconds = expected.of_run(run) if run in left else None
        takes = "" if run not in left else "unknown" if seconds is None else duration(seconds)
        now = state(setting, run)
        if now == "done" and run in left:  # what it is made of comes before it
            now = "done, looked at again"
        table.add_row(escape(run.name), escape(run.row.title), escape(now), takes)
    Console(highlight=False).print(table)
    total = expected.of(left)
    time = "" if total is None else f", about {duration(total)} one after another"
    typer.echo(f"{len(left)} of {len(setting.runs(rows))} runs are to be done{time}. Nothing was done.")


@app.command()
def distill(
    study: StudyFolder,
    ensemble: Annotated[
        list[str] | None,
        typer.Option(help="Name of a model of the study, or a model folder; repeat it for every member."),
    ] = None,
    unlabelled: Annotated[
        list[str] | None,
        typer.Option(metavar="VOLUME", help="Learn from this volume too, without labels; may be repeated."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of the network.", show_default="that of the first member")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="distilled-<n>")] = None,
    max_time: MaxTime = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a value of the recipe; may be repeated."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            help="What to begin with: best (the weights of the best member, where the network is the same), "
            "random, or a model."
        ),
    ] = "best",
    soft: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Share of the ensemble in the loss; the rest are labels.", show_default="0.7"
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0.1, help="Above 1, small probabilities count more.", show_default="1")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of weights and of the order of the data.")] = 0,
) -> None:
    """Train one network to say what an ensemble says; interrupted, the same command goes on."""
    from densem.cli.progress import bar
    from densem.study import Study
    from densem.study.distillation import DistilRequest, distil
    from densem.study.training import parse_time

    request = DistilRequest(
        ensemble=tuple(ensemble or ()), recipe=recipe, name=name, max_time=parse_time(max_time),
        overrides=tuple(set_ or ()), seed=seed, unlabelled=tuple(unlabelled or ()), soft=soft,
        temperature=temperature, start=start,
    )  # fmt: skip
    with bar("Labelling") as progress:
        for line in distil(Study.open(study), request, progress):
            typer.echo(line)
