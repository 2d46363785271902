"""`densem networks`: what there is to train, and what it costs."""

from __future__ import annotations

from typing import Annotated

import typer

from densem.cli.app import app


@app.command()
def networks(
    json_: Annotated[bool, typer.Option("--json", help="Print as JSON, with sources.")] = False,
) -> None:
    """List the networks: parameters, arithmetic, context and memory, at full width for 7 classes."""
    from densem.inference import costs

    if json_:
        import json
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(c) for c in costs.costs()], indent=1))
        return
    typer.echo(costs.HEADER)
    for cost in costs.costs():
        typer.echo(costs.line(cost))
    typer.echo(
        "MFLOP: of a voxel. Sees: exactly how far; window: all it is run on. GB: at its tile, in float32."
    )
