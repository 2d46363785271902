"""`densem view`: a study in Neuroglancer."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from densem.cli.app import app
from densem.cli.studies import StudyFolder


@app.command()
def view(
    study: StudyFolder,
    volume: Annotated[
        str | None, typer.Option(help="Which volume.", show_default="the one with most to see")
    ] = None,
    prediction: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Only this prediction, and objects made of it; repeated for several."
        ),
    ] = None,
    objects: Annotated[str | None, typer.Option(metavar="NAME", help="Only these objects.")] = None,
    object_: Annotated[
        int | None,
        typer.Option("--object", metavar="ID", help="Open at this object, it alone and what is in it."),
    ] = None,
    port: Annotated[int, typer.Option(help="To listen on.", show_default="any that is free")] = 0,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than this one it lets other machines look.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say the address.")] = False,
) -> None:
    """Look at image, labels, predictions, objects and meshes in the browser (Neuroglancer)."""
    from densem.errors import DensemWarning
    from densem.study.viewing import ViewRequest, view_of_study
    from densem.viewer import is_loopback, open_server

    found = view_of_study(study, ViewRequest(volume, tuple(prediction or ()), objects, object_))
    server = open_server(found.site, host, port)
    try:
        for line in found.lines:
            typer.echo(line)
        if not is_loopback(host):
            warnings.warn(_seen_by(host, server.server_port), DensemWarning, stacklevel=1)
        typer.echo(f"Open in a browser: {server.url}")
        typer.echo("Ctrl-C ends it.")
        if not no_browser and _has_screen():
            _open(server.url)
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        typer.echo("Ended.")
    finally:
        server.server_close()


def _seen_by(host: str, port: int) -> str:
    return (
        f"--host {host}: whoever reaches port {port} of this machine over the network and has the address "
        "below can look at this volume; it travels unencrypted. Without --host only this machine can"
    )


def _has_screen() -> bool:
    """Whether a browser with windows can be expected; one in the terminal would be in the way."""
    return sys.platform in ("darwin", "win32") or bool(
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    )


def _open(url: str) -> None:
    import webbrowser

    webbrowser.open(url)
