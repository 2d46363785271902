"""Options of a prediction; each field's sentence is the help of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from densem.blocks import Triple
from densem.inference.runtime import Precision


class PredictOptions(BaseModel):
    """How a volume is predicted: all up to `core` and `threads` decide what is written, the others how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: Literal["practical", "exact"] | Triple = Field(
        default="practical",
        description="voxels read around a tile: practical (measured), exact (equals one pass over the whole "
        "volume), or three numbers z y x",
    )
    flips: str = Field(default="", description="axes along which mirrored inputs are averaged, such as yx")
    save: tuple[Literal["entropy", "probabilities"], ...] = Field(
        default=(),
        description="written beside classes and confidence: entropy (round(255 * H / ln C)), probabilities "
        "(float32 for every class)",
    )
    affinities: bool = Field(
        default=True,
        description="write the affinities of models that have them, uint8 (K, Z, Y, X), round(255 * a)",
    )
    precision: Precision = Field(
        default="auto", description="auto (bf16 where the processor has it), bf16 or fp32"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda or cuda:<n>")
    runtime: Literal["auto", "torch", "openvino", "openvino-int8"] = Field(
        default="auto",
        description="what runs the networks: torch, openvino, auto (the faster of these here), or "
        "openvino-int8 (8-bit integers, after densem quantize)",
    )
    resample: bool = Field(
        default=False, description="allow another voxel size than the model's: predict at the model's"
    )
    core: Triple | None = Field(default=None, description="voxels a tile yields, z y x; default: the model's")
    block: Triple | None = Field(
        default=None, description="voxels one task writes, z y x: whole shards; default: one shard"
    )
    box: tuple[tuple[int | None, int | None], ...] | None = Field(
        default=None, description="label these voxels alone: start and stop in z, y and x"
    )
    mask: Path | None = Field(
        default=None, description="label where this volume of the same field of view is not 0"
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        description="blocks in work at the same time; default: one, or one for each graphics card",
    )
    retries: int = Field(default=2, ge=0, description="further attempts on a block that failed")
    threads: int | None = Field(
        default=None, ge=1, description="threads of torch for a block; default: all of this machine's"
    )
    engine: Literal["local", "slurm", "dask"] = Field(
        default="local", description="where blocks are done: local (this machine), slurm, or dask"
    )
    scheduler: str | None = Field(
        default=None, description="with engine dask: address of the scheduler, such as tcp://10.0.0.1:8786"
    )
    settings: Path | None = Field(
        default=None, description="with engine slurm: folder whose slurm.toml goes before the user's"
    )
    stall: float = Field(
        default=30.0, ge=0, description="minutes without a finished block after which to say so; 0 never"
    )
    overwrite: bool = Field(default=False, description="remove an earlier prediction of that name first")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the volumes to write."""
        return (
            "classes",
            "confidence",
            *(name for name in ("entropy", "probabilities") if name in self.save),
        )
