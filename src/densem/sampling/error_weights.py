"""Error weights: how much a wrong voxel counts, by its class and by how near it is to a boundary.

Class balance: weight of class c from its number of labelled voxels n_c, the rarest class gets 1.
Boundary: for each class T, a diffusion starts on all other labelled voxels S and is kept on T:
1. d = 1 on S, 0 elsewhere;
2. `steps` times: d <- max(0, decay * (d + rate * K(d))), then d = 1 on S;
3. d <- max(0, d - threshold), kept on T only.
K is the nine-point Laplacian (centre -1, edges 1/6, corners 1/12). Volumes end in mirrors, they do not wrap.

    S S S S | T T T T T          a straight edge with the default constants, scaled to 25:
            |25 6.5 0 0          narrow gaps between two S are brighter
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import zarr
from pydantic import BaseModel, ConfigDict, Field

from densem.blocks import Grid, Triple, triple
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Volume
from densem.volumes.volume import Nanometres

Balance = Literal["none", "root", "inverse"]
BLOCK: Triple = (16, 256, 256)
MARGIN = 24
"""In-plane voxels after which a source has no effect that float16 could hold."""


class ErrorWeights(BaseModel):
    """How much each voxel counts in the loss: class weight * (1 + boundary weight) + floor."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    balance: Balance = Field(
        default="root",
        description="class weights: none, inverse (1 / frequency) or root (1 / its square root)",
    )
    floor: float = Field(default=0.0, ge=0, description="added to the weight of every labelled voxel")
    boundary: float = Field(
        default=0.0, ge=0, description="weight of the voxels at a straight boundary on top of 1; 0 = off"
    )
    boundary_axes: Literal[2, 3] = Field(
        default=2, description="2: every section for itself; 3: through sections as well"
    )
    symmetric: bool = Field(
        default=True,
        description="weights on both sides of a boundary; false: on the side of the rarer class only",
    )
    rate: float = Field(default=0.2, gt=0, le=0.5, description="diffusion rate per step")
    decay: float = Field(default=0.98, gt=0, le=1, description="share that is left after a step")
    threshold: float = Field(default=0.2, ge=0, lt=1, description="subtracted after the last step")
    steps: int = Field(default=50, ge=1, description="diffusion steps")


def class_weights(counts: np.ndarray, balance: Balance) -> np.ndarray:
    """Weights float32 (C,) from labelled voxels per class int64 (C,); the rarest present class gets 1.

    A class without a voxel gets 0: it cannot occur in a loss.
    """
    present = counts > 0
    frequency = counts / max(1, counts.sum())
    power = {"none": 0.0, "root": 0.5, "inverse": 1.0}[balance]
    weights = np.zeros(len(counts))
    weights[present] = frequency[present] ** -power
    return (weights / max(weights.max(), 1e-12)).astype(np.float32)


def boundary_weights(
    channels: np.ndarray, config: ErrorWeights, voxel_size_nm: Nanometres, order: np.ndarray | None = None
) -> np.ndarray:
    """Boundary weights of one array; a straight edge peaks at `config.boundary`.

    Args:
        channels: uint8 (Z, Y, X), class channels, 255 where unlabelled.
        config: constants of the diffusion.
        voxel_size_nm: (z, y, x), for the pace of the diffusion along z.
        order: int (C,), rank of each class by frequency (0 the rarest); needed if not `symmetric`.

    Returns:
        float32 (Z, Y, X), 0 on unlabelled voxels.
    """
    result = np.zeros(channels.shape, np.float32)
    labelled = channels != UNLABELLED
    across = (voxel_size_nm[1] / voxel_size_nm[0]) ** 2 if config.boundary_axes == 3 else 0.0
    for target in np.unique(channels[labelled]):
        inside = channels == target
        source = labelled & ~inside
        if not config.symmetric and order is not None:
            rank = np.append(order, np.zeros(256 - len(order), order.dtype))
            source &= rank[channels] > rank[target]
        if source.any():
            spread = _diffuse(source, config, across)
            result[inside] = np.maximum(spread[inside] - config.threshold, 0)
    return result * (config.boundary / _straight_edge(config))


def _diffuse(source: np.ndarray, config: ErrorWeights, across: float) -> np.ndarray:
    """Diffusion from `source` bool (Z, Y, X): float32, 1 on the source."""
    d = source.astype(np.float32)
    for _ in range(config.steps):
        change = _square(_square(d, 1), 2) * np.float32(1 / 12) - np.float32(4 / 3) * d
        if across:
            change += np.float32(across / 3) * (_square(d, 0) - 4 * d)
        d = np.maximum(np.float32(config.decay) * (d + np.float32(config.rate) * change), 0)
        d[source] = 1
    return d


def _square(d: np.ndarray, axis: int) -> np.ndarray:
    """Kernel (1, 2, 1) along an axis; the ends are mirrored, repeating the outermost voxel."""
    result = 2 * d
    a = np.moveaxis(d, axis, 0)
    r = np.moveaxis(result, axis, 0)
    r[1:] += a[:-1]
    r[:-1] += a[1:]
    r[0] += a[0]
    r[-1] += a[-1]
    return result


def _straight_edge(config: ErrorWeights) -> float:
    """What the first voxel beside a long straight edge gets before scaling."""
    source = np.zeros((1, 3, 2 * MARGIN), bool)
    source[:, :, :MARGIN] = True
    return max(float(_diffuse(source, config, 0.0)[0, 1, MARGIN]) - config.threshold, 1e-6)


def write_boundary_weights(
    labels: Volume, schema: LabelSchema, config: ErrorWeights, counts: np.ndarray, path: Path
) -> zarr.Array:
    """Boundary weights of a whole volume, block by block, as a float16 array on disk.

    Args:
        labels: label ids.
        schema: its classes.
        config: constants of the diffusion.
        counts: labelled voxels per class, int64 (C,).
        path: folder of the array; one that is complete is taken as it is.
    """
    if path.exists():
        found = zarr.open_array(path, mode="r+")
        if found.attrs.get("complete"):
            return found
    array = zarr.create_array(
        path, shape=labels.shape, chunks=BLOCK, dtype="float16", fill_value=0, overwrite=True
    )
    order = np.argsort(np.argsort(counts, kind="stable"), kind="stable")
    for box, values in _blocks(labels, schema, config, order):
        array[box] = values
    array.attrs["complete"] = True
    return array


def _blocks(
    labels: Volume, schema: LabelSchema, config: ErrorWeights, order: np.ndarray
) -> Iterator[tuple[tuple[slice, slice, slice], np.ndarray]]:
    deep = -(-MARGIN * labels.voxel_size_nm[1] // labels.voxel_size_nm[0])
    margin = triple((deep if config.boundary_axes == 3 else 0, MARGIN, MARGIN))
    for box in Grid(labels.shape, BLOCK):
        read = box.grow(margin).clip(labels.box)
        channels = schema.channel_of_id[labels.read(read)]
        values = boundary_weights(channels, config, labels.voxel_size_nm, order)
        yield box.slices, values[box.relative_to(read).slices].astype(np.float16)
