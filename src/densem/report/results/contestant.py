"""Contestant: what a row made of a volume that figures show."""

from __future__ import annotations

from dataclasses import dataclass

from densem.volumes import Volume


@dataclass(frozen=True, eq=False)
class Contestant:
    """What a row made of the volume.

    Attributes:
        title: of the row, as it stands above the picture.
        prediction: class ids.
    """

    title: str
    prediction: Volume
