"""PhantomConfig: which synthetic volume is meant; together with densem's version it fixes every voxel."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from densem.blocks import Triple
from densem.datasets.phantom.donor import DONORS, Donor, DonorName
from densem.errors import ConfigError, nearest


class PhantomConfig(BaseModel):
    """A synthetic volume of platelets."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Triple = Field(default=(24, 400, 400), description="voxels along (z, y, x)")
    voxel_size_nm: tuple[float, float, float] = Field(
        default=(40.0, 10.0, 10.0), description="side lengths of a voxel in nm, (z, y, x)"
    )
    seed: int = Field(default=0, ge=0, description="another seed gives other cells of the same donor")
    donor: DonorName = Field(
        default="a", description="blood sample: a resembles the published training set, b differs from it"
    )
    dtype: Literal["uint8", "uint16"] = Field(default="uint16", description="type of the image's voxels")
    packing: float = Field(
        default=1.0, gt=0.3, le=1.3, description="how close the cells lie; below 1 leaves more resin"
    )
    mitochondria: float = Field(default=1.0, ge=0, le=10, description="times the donor's share of the cell")
    alpha_granules: float = Field(default=1.0, ge=0, le=4, description="times the donor's share of the cell")
    vessels: float = Field(default=1.0, ge=0, le=3, description="times the donor's canalicular vessels")
    dense_granules: float = Field(
        default=1.0, ge=0, le=30, description="times the donor's dense granules, which are very rare"
    )
    labelled_cells: int | None = Field(
        default=None,
        ge=1,
        description="annotate only so many cells, those nearest the centre; all by default",
    )
    unlabelled_value: Literal[0, 255] = Field(
        default=255, description="label of what is not annotated; the published test set uses 0"
    )

    @field_validator("shape")
    @classmethod
    def _some_voxels(cls, shape: Triple) -> Triple:
        if min(shape) < 1:
            raise ValueError(f"sides must be at least 1 voxel (z, y, x), found {shape}")
        return shape

    @field_validator("voxel_size_nm")
    @classmethod
    def _some_size(cls, size: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(1 <= s <= 200 for s in size):
            raise ValueError(f"sides must be 1 to 200 nm (z, y, x), found {size}")
        return size

    @property
    def traits(self) -> Donor:
        """How this donor's cells look."""
        return DONORS[self.donor]

    @classmethod
    def parse(cls, data: dict[str, Any], where: str = "phantom") -> PhantomConfig:
        """From plain values, as a command line or a file gives them.

        Raises:
            ConfigError: naming `where`, the entry, what was found and the nearest valid name.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            entry = ".".join(str(part) for part in first["loc"]) or "config"
            if first["type"] == "extra_forbidden":
                hint = nearest(entry, list(cls.model_fields))
                raise ConfigError(f"{where}: no entry is called {entry!r}.{hint}") from None
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(f"{where}: {entry}: {message}, found {first['input']!r}") from None
