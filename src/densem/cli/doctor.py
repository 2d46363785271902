"""`densem doctor`: what this machine has that densem uses, and what to mend."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from densem.cli.app import app
from densem.errors import IncompleteError


@app.command()
def doctor(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="Folder whose disk is measured.", show_default="here")
    ] = Path("."),
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Check this machine: versions, cards, cores, memory, disk, cluster, and what to do about each."""
    import json as json_format

    from densem.cli.tables import print_findings

    try:
        from densem.inference.doctor import examine
    except (ImportError, OSError) as error:
        raise IncompleteError(
            f"a part that densem needs cannot be loaded ({error}); install densem again: "
            "pip install --force-reinstall densem"
        ) from error
    diagnosis = examine(folder)
    if json:
        typer.echo(json_format.dumps(diagnosis.to_dict(), indent=1))
    else:
        print_findings(diagnosis.to_dict()["checks"])
        typer.echo(diagnosis.summary())
    if not diagnosis.healthy:
        raise typer.Exit(1)
