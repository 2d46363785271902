"""Options of an export that only some formats have."""

from __future__ import annotations

from dataclasses import dataclass

from densem.errors import ConfigError, nearest

NM_PER = {"nm": 1.0, "um": 1e3, "mm": 1e6}
"""Nanometres in each unit that lengths can be written in."""


@dataclass(frozen=True)
class ExportOptions:
    """How a volume is exported.

    Attributes:
        unit: of lengths, for formats in which it can be chosen: nm, um or mm.
        palette: colours of the labels, for RGBA TIFF: platelet-em, schema, or a TOML file.
    """

    unit: str | None = None
    palette: str | None = None

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in NM_PER:
            raise ConfigError(f"--unit {self.unit}: expected nm, um or mm.{nearest(self.unit, list(NM_PER))}")
