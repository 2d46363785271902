"""`densem datasets`: public data sets by name, your own by a TOML file, and packing a study for others."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Any

import typer

from densem.cli.app import app
from densem.cli.progress import bar
from densem.cli.studies import StudyFolder

datasets = typer.Typer(
    help="Public data sets: list, describe, get as a study; pack a study for others.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets, name="datasets")

Name = Annotated[
    str,
    typer.Argument(metavar="NAME|FILE.toml", help="In the list, or a file of your own.", show_default=False),
]


@datasets.callback(invoke_without_command=True)
def list_(context: typer.Context) -> None:
    """List the data sets that densem knows."""
    if context.invoked_subcommand is not None:
        return
    from densem.datasets.catalogue import find, names

    for name in names():
        dataset = find(name).dataset
        first = next(iter(dataset.packagings.values()))
        typer.echo(f"{name:<14}{dataset.title}")
        facts = (
            ", ".join(dataset.volumes),
            f"voxels of {_by(dataset.voxel_size_nm)} nm",
            f"{len(dataset.schema_)} classes",
            first.size,
        )
        typer.echo(f"{'':<14}{'; '.join(facts)}")
    typer.echo("\ndensem datasets show NAME   |   densem datasets get NAME DIR")


@datasets.command()
def show(
    name: Name,
    toml: Annotated[
        bool, typer.Option("--toml", help="Print its TOML file, to start one of your own from.")
    ] = False,
) -> None:
    """Describe a data set: source, licence, volumes, classes, packagings, and what is not known."""
    from densem.cli.tables import print_facts
    from densem.datasets.catalogue import find

    found = find(name)
    if toml:
        typer.echo(found.text)
        return
    dataset = found.dataset
    typer.echo(f"{dataset.name}: {dataset.title}")
    for what, text in _sentences(dataset):
        typer.echo(textwrap.fill(text, 100, initial_indent=f"{what:<9}", subsequent_indent=" " * 9))
    typer.echo()
    print_facts({"volumes": [_volume_row(n, v) for n, v in dataset.volumes.items()]})
    print_facts({"classes": [_class_row(c) for c in dataset.schema_.classes]})
    for number, (key, packaging) in enumerate(dataset.packagings.items()):
        typer.echo(f"\nPackaging {key}{' (taken without --packaging)' if number == 0 else ''}")
        for what, text in _packaging_lines(packaging):
            typer.echo(f"  {what:<10}{text}")


def _sentences(dataset: Any) -> list[tuple[str, str]]:
    rows = [
        ("What", dataset.description),
        *(("Page", page) for page in dataset.homepage),
        ("Licence", dataset.licence or "not stated"),
        *(("Cite", text) for text in dataset.citation),
        ("Voxels", f"{_by(dataset.voxel_size_nm)} nm (z y x)"),
        *(("Note", text) for text in dataset.unknown),
        *(("Note", f"{name}: {v.note}.") for name, v in dataset.volumes.items() if v.note),
    ]
    return [(what, text) for what, text in rows if text]


def _by(values: Any) -> str:
    return " x ".join(f"{v:g}" for v in values)


def _volume_row(name: str, facts: Any) -> dict[str, Any]:
    return {
        "volume": name,
        "role": facts.role,
        "shape z y x": _by(facts.shape) if facts.shape else "not stated",
        "type": facts.dtype or "not stated",
        "labelled": facts.labelled or "not stated",
        "scored by": " ".join(facts.protocols) if facts.role in ("eval", "test") else None,
    }


def _class_row(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "class": row.name,
        "lies in": row.parent,
        "colour": row.color,
        "organelle": row.organelle,
    }


def _packaging_lines(packaging: Any) -> list[tuple[str, str]]:
    lines = [("what", packaging.title), ("volumes", ", ".join((*packaging.volumes, *packaging.phantoms)))]
    for archive in packaging.archives:
        lines += [
            ("archive", f"{archive.file}, {archive.size}"),
            ("checksum", archive.checksum or "none published: shapes and types are compared instead"),
            *(("address", url) for url in archive.urls or ("none known",)),
        ]
    lines += [("also", f"{e.member}: {e.what} (not brought in)") for e in packaging.extras]
    return [*lines, ("note", packaging.note)] if packaging.note else lines


@datasets.command()
def get(
    name: Name,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of the study to make.", show_default=False)
    ],
    packaging: Annotated[
        str | None, typer.Option(help="Which of its forms.", show_default="the first one")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the archive is now, if it has moved: http, https or file.")
    ] = None,
    archive: Annotated[
        list[Path] | None, typer.Option(help="An archive that you have already; may be repeated.")
    ] = None,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep what was downloaded, in DIR.download.")
    ] = False,
) -> None:
    """Download, verify and unpack a data set and make a study of it; the same command resumes."""
    from densem.study.dataset import GetRequest, get_dataset

    request = GetRequest(name, folder, packaging, url, tuple(archive or ()), keep_archive)
    get_dataset(request, bar, typer.echo)


@datasets.command()
def pack(
    study: StudyFolder,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.zip", help="The archive to make; OUT.toml goes beside it.", show_default=False
        ),
    ],
    title: Annotated[str, typer.Option(help="What it is, in a line.", show_default=False)],
    licence: Annotated[
        str, typer.Option(help="On which terms others may use it, such as CC-BY-4.0.", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the data set.", show_default="that of OUT.zip")
    ] = None,
    description: Annotated[str | None, typer.Option(help="A sentence or two.")] = None,
    citation: Annotated[list[str] | None, typer.Option(help="What to cite; may be repeated.")] = None,
    homepage: Annotated[list[str] | None, typer.Option(help="A page about it; may be repeated.")] = None,
    url: Annotated[
        list[str] | None, typer.Option(help="Where OUT.zip will be published; may be repeated.")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="A .toml file of answers for the datasheet: densem datasets questions."),
    ] = None,
    without_test_labels: Annotated[
        bool,
        typer.Option(
            "--without-test-labels", help="Keep the labels of test volumes back, in OUT-test-labels.zip."
        ),
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Pack a study for others: data, classes, split, protocols, datasheet, checksums, and how to score."""
    from densem.study.pack import PackRequest, pack_study

    request = PackRequest(
        study=study,
        out=out,
        title=title,
        licence=licence,
        name=name,
        description=description,
        citation=tuple(citation or ()),
        homepage=tuple(homepage or ()),
        urls=tuple(url or ()),
        answers=answers,
        without_test_labels=without_test_labels,
        overwrite=overwrite,
    )
    for line in pack_study(request, bar):
        typer.echo(line)


@datasets.command()
def questions() -> None:
    """Print the questions of the datasheet as a TOML file to fill in."""
    from densem.study.datasheet import answers_template

    typer.echo(answers_template())
