"""Client: the web page of Neuroglancer, as files inside the `neuroglancer` wheel.

The wheel's Python code is not imported: it would start a server of its own, which reads volumes into memory.
"""

from __future__ import annotations

import importlib.util
import re
from importlib import metadata
from pathlib import Path

from densem.errors import NotFoundError

OLDEST = (2, 41)
"""The first version of the wheel whose client reads OME-Zarr 0.5."""
INSTALL = "pip install 'densem[view]'"


def find_client() -> Path:
    """The folder with the client's index.html.

    Raises:
        NotFoundError: if the wheel is missing, too old, or came without its client.
    """
    try:
        version = metadata.version("neuroglancer")
    except metadata.PackageNotFoundError:
        raise NotFoundError(f"densem view needs Neuroglancer: {INSTALL}") from None
    if tuple(int(n) for n in re.findall(r"\d+", version)[:2]) < OLDEST:
        raise NotFoundError(
            f"densem view needs Neuroglancer 2.41 or newer, found {version}, which cannot read OME-Zarr 0.5: "
            f"{INSTALL}  without --only-binary (one of its parts comes as source alone)"
        )
    spec = importlib.util.find_spec("neuroglancer")  # finds it without running it
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        if (folder := Path(place) / "static" / "client" / "index.html").is_file():
            return folder.parent
    raise NotFoundError(
        f"neuroglancer {version} is installed without its client; install its wheel: {INSTALL}"
    )
