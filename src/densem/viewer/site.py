"""Site: everything that a viewer of one scene may read, and under which addresses.

/open/TOKEN                   sends the browser to the viewer with the scene
/v/TOKEN/FILE                 the client
/events/TOKEN                 what the client listens to; says nothing
/state/TOKEN/state.json       the scene
/names/TOKEN/KEY/info         names of segments
/data/TOKEN/KEY/FILE          of a share: a volume, or meshes
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densem.viewer.scene import Scene
from densem.viewer.share import Share

Names = Callable[[], dict[str, Any]]
_CLIENT_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.(html|js|css|wasm|map)")


@dataclass(frozen=True, eq=False)
class Site:
    """What is served.

    Attributes:
        scene: what is shown.
        shares: key -> a folder that may be read.
        names: key -> makes the names of segments, each time they are asked for.
        client: folder of the client's files.
        token: nothing is said to those who do not know it.
    """

    scene: Scene
    shares: Mapping[str, Share]
    names: Mapping[str, Names]
    client: Path
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def client_file(self, name: str) -> Path | None:
        """A file of the client by name."""
        path = self.client / (name or "index.html")
        return path if _CLIENT_FILE.fullmatch(path.name) and path.is_file() else None
