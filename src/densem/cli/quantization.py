"""`densem quantize`: a model in 8-bit integers, for processors."""

from __future__ import annotations

from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.studies import StudyFolder


@app.command()
def quantize(
    study: StudyFolder,
    model: Annotated[str, typer.Option(help="Name of a model of the study.", show_default=False)],
    limit: Annotated[
        float, typer.Option(min=0, help="Loss of MIoU on the eval volume from which on it is not kept.")
    ] = 0.005,
    patches: Annotated[int, typer.Option(min=1, help="Patches that ranges are measured on.")] = 24,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the form that is there.")] = False,
) -> None:
    """Make a model's form in 8-bit integers for  predict --runtime openvino-int8, if it costs little."""
    from densem.study import Study
    from densem.study.quantization import QuantizeRequest, quantize_model

    request = QuantizeRequest(model=model, limit=limit, patches=patches, overwrite=overwrite)
    for line in quantize_model(Study.open(study), request):
        typer.echo(line)
