"""Objects: from class ids to numbered, measured cells and organelles; knows volumes, no networks.

What finds objects is loaded when it is first used: without the packages it needs, the extra is named.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from densem.errors import ConfigError

if TYPE_CHECKING:
    from densem.objects.finding import Objects, ObjectsOptions, find_objects
    from densem.objects.rules import ClassRule, Rules

_HOMES = {
    "ClassRule": "rules",
    "Objects": "finding",
    "ObjectsOptions": "finding",
    "Rules": "rules",
    "find_objects": "finding",
}
_PACKAGES = ("cc3d", "edt", "skimage")

__all__ = ["ClassRule", "Objects", "ObjectsOptions", "Rules", "find_objects"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'densem.objects' has no attribute {name!r}")
    try:
        return getattr(import_module(f"densem.objects.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in _PACKAGES:
            raise
        raise ConfigError(
            f"densem objects needs the package {error.name.split('.')[0]}, which is not installed here: "
            "pip install 'densem[objects]'"
        ) from None
