"""OME-Zarr on disk: 0.5 (Zarr v3, sharded) is written, 0.4, 0.5 and bare Zarr arrays are read.

Steps of writing: `create` lays out level 0 under a temporary name, blocks are written into it,
`pyramid.build` adds the coarser levels, `finish` stores the attributes and renames into place.
Every writer of a block covers whole shards: two writers never meet in one file.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from densem.blocks import Triple, triple
from densem.errors import DensemError, ExistsError, FormatError, NotFoundError, ShapeError, VoxelSizeError
from densem.replacement import take_place
from densem.volumes.units import unit_in_nm
from densem.volumes.volume import Nanometres, Volume, check_voxel_size

Kind = Literal["image", "labels"]
AXES = ("z", "y", "x")
CHUNK: Triple = (16, 128, 128)
SHARD: Triple = (32, 512, 512)


@dataclass(frozen=True)
class Layout:
    """How an array lies on disk: chunks are compressed alone, a shard is one file of whole chunks."""

    chunk: Triple = CHUNK
    shard: Triple = SHARD

    def __post_init__(self) -> None:
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise ShapeError(f"a shard must be whole chunks, found shard {self.shard} and chunk {self.chunk}")

    @classmethod
    def fitting(cls, shape: Triple) -> Layout:
        """The default layout, shrunk along axes where the volume is small."""
        chunk = triple(min(c, max(1, s)) for c, s in zip(CHUNK, shape, strict=True))
        shard = triple(
            c * max(1, min(full // c, -(-s // c))) for c, full, s in zip(chunk, SHARD, shape, strict=True)
        )
        return cls(chunk, shard)


# ---- writing ---------------------------------------------------------------------------------


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype | str,
    layout: Layout,
    fill: int = 0,
) -> zarr.Array:
    """A sharded, compressed array in (z, y, x) or (c, z, y, x) in a group; chunks of `fill` take no disk."""
    lead = tuple(shape[:-3])
    ones = (1,) * len(lead)
    return group.create_array(
        name,
        shape=shape,
        dtype=np.dtype(dtype),
        chunks=(*ones, *layout.chunk),
        shards=(*ones, *layout.shard),
        compressors=BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
        fill_value=fill,
        dimension_names=("c", *AXES) if lead else AXES,
    )


def temporary(path: Path) -> Path:
    """Where a volume is written until it is whole."""
    return path.with_name(f".{path.name}.part")


def create(
    path: Path, shape: Triple, dtype: np.dtype | str, layout: Layout | None = None, overwrite: bool = False
) -> zarr.Array:
    """Start a volume: level 0 under a temporary name beside `path`; `finish` puts it in place.

    Raises:
        ExistsError: if `path` is there and `overwrite` is not set.
    """
    if path.exists() and not overwrite:
        raise ExistsError(f"{path}: exists already; give another name or --overwrite to replace it")
    discard(path)
    part = temporary(path)
    part.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.open_group(part, mode="w", zarr_format=3)
    return create_array(group, "s0", shape, dtype, layout or Layout.fitting(shape))


def multiscales(name: str, levels: list[tuple[str, Nanometres]], offset_nm: Nanometres) -> dict[str, Any]:
    """The OME-NGFF 0.5 `ome` attribute; a coarser level is translated by half its extra voxel."""
    base = levels[0][1]
    datasets = []
    for path, scale in levels:
        shift = [o + (s - b) / 2 for o, s, b in zip(offset_nm, scale, base, strict=True)]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": list(scale)}]
        if any(shift):
            transforms.append({"type": "translation", "translation": shift})
        datasets.append({"path": path, "coordinateTransformations": transforms})
    axes = [{"name": a, "type": "space", "unit": "nanometer"} for a in AXES]
    return {"version": "0.5", "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}


def image_label(schema_rows: list[tuple[int, str, tuple[int, int, int]]]) -> dict[str, Any]:
    """The OME-NGFF `image-label` attribute from (id, name, rgb) rows."""
    return {
        "version": "0.5",
        "colors": [{"label-value": i, "rgba": [*rgb, 255]} for i, _, rgb in schema_rows],
        "properties": [{"label-value": i, "name": name} for i, name, _ in schema_rows],
    }


def describe(
    folder: Path,
    levels: list[tuple[str, Nanometres]],
    offset_nm: Nanometres,
    attributes: dict[str, Any],
    label_rows: list[tuple[int, str, tuple[int, int, int]]] | None = None,
) -> None:
    """Write the OME metadata and densem's attributes of a volume folder."""
    group = zarr.open_group(folder, mode="r+")
    name = folder.name.lstrip(".").removesuffix(".part").removesuffix(".zarr")
    ome = multiscales(name, levels, offset_nm)
    if label_rows is not None:
        ome["image-label"] = image_label(label_rows)
    group.attrs.put({"ome": ome, "densem": attributes})


def finish(path: Path, overwrite: bool = False) -> Volume:
    """Rename a described volume from its temporary name into place and open it."""
    part = temporary(path)
    if path.exists() and not overwrite:
        raise ExistsError(f"{path}: exists already; give another name or --overwrite to replace it")
    take_place(part, path)
    return open_volume(path)


def discard(path: Path) -> None:
    """Remove what was begun for `path` and not finished, with the journals of its levels."""
    for left in (temporary(path), levels_folder(temporary(path))):
        gone = left.with_name(f"{left.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.replace(left, gone)  # in one step: whoever still writes there finds it gone
        shutil.rmtree(gone, ignore_errors=True)
        shutil.rmtree(left, ignore_errors=True)


def levels_folder(folder: Path) -> Path:
    """Where the journals of a volume's coarser levels lie while they are built."""
    return folder.with_name(f"{folder.name}.levels")


def update_attributes(path: Path, **changes: Any) -> None:
    """Set entries of densem's record of a volume."""
    group = zarr.open_group(path, mode="r+")
    record: Any = group.attrs.get("densem", {})
    group.attrs["densem"] = {**record, **changes}


# ---- reading ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Located:
    """An array of a Zarr store and what its metadata says; the voxel size is None where none is stored."""

    array: Any
    voxel_size_nm: Nanometres | None
    offset_nm: Nanometres
    record: dict[str, Any]


def open_volume(path: Path | str, level: int = 0, voxel_size_nm: object = None) -> Volume:
    """Open an OME-Zarr 0.4 or 0.5 image or label volume, or a bare Zarr array.

    Leading axes of length one (t, c) are dropped. The unit of each axis is converted to nm.

    Args:
        path: folder of the volume.
        level: level of the pyramid; 0 is full resolution.
        voxel_size_nm: overrides the stored voxel size; needed where none is stored.

    Raises:
        NotFoundError, FormatError, ShapeError, VoxelSizeError: with what was found and what to do.
    """
    path = Path(path)
    found = locate(path, level)
    size = found.voxel_size_nm if voxel_size_nm is None else check_voxel_size(voxel_size_nm, str(path))
    if size is None:
        raise VoxelSizeError(
            f"{path}: expected a voxel size with units of length in its metadata, found none; "
            "give --voxel-size Z Y X in nm"
        )
    return Volume(found.array, check_voxel_size(size, str(path)), found.offset_nm, path, found.record)


def locate(path: Path, level: int = 0) -> Located:
    """The array of a level and what is stored about it, without asking for a voxel size.

    Raises:
        NotFoundError, FormatError, ShapeError, VoxelSizeError: with what was found and what to do.
    """
    if not path.exists():
        raise NotFoundError(f"{path}: no volume there")
    node = _open_node(path)
    if isinstance(node, zarr.Array):
        return Located(_spatial(node, path), None, (0.0, 0.0, 0.0), {})
    attrs: dict[str, Any] = dict(node.attrs)
    ome = attrs.get("ome", attrs)
    scales = ome.get("multiscales") if isinstance(ome, dict) else None
    if not scales:
        raise FormatError(
            f"{path}: a Zarr group without OME 'multiscales'; give the path of an array inside it"
            f"{_list_arrays(node)}"
        )
    return _locate_level(path, node, scales[0], level, dict(attrs.get("densem", {})))


def _open_node(path: Path) -> zarr.Group | zarr.Array:
    try:
        return zarr.open(path, mode="r")
    except Exception as error:
        if path.is_file():
            raise FormatError(
                f"{path}: expected a folder with an OME-Zarr or Zarr volume, found a file; "
                "bring it into a study first with  densem import"
            ) from None
        raise FormatError(
            f"{path}: expected an OME-Zarr or Zarr volume, but it cannot be opened ({error})"
        ) from None


def _list_arrays(group: zarr.Group) -> str:
    names = sorted(name for name, _ in group.arrays())
    return f" (arrays: {', '.join(names[:8])})" if names else ""


def _locate_level(path: Path, group: zarr.Group, scale: Any, level: int, record: dict[str, Any]) -> Located:
    try:
        datasets = scale["datasets"]
        if not 0 <= level < len(datasets):
            raise NotFoundError(f"{path}: no pyramid level {level}, it has 0 to {len(datasets) - 1}")
        entry = datasets[level]
        array = group[entry["path"]]
        size, offset = _transform(scale, entry, path)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, DensemError):
            raise
        raise FormatError(
            f"{path}: its OME metadata cannot be understood ({type(error).__name__}: {error}); it is corrupt "
            "or of a later version"
        ) from error
    return Located(_spatial(array, path), size, offset, record)


def _transform(scale: Any, entry: Any, path: Path) -> tuple[Nanometres | None, Nanometres]:
    """Voxel size and offset in nm from the dataset's and the global transformations."""
    axes = [a if isinstance(a, dict) else {"name": a} for a in scale.get("axes", [])]
    names = [str(a.get("name")) for a in axes][-3:]
    if names and names != list(AXES):
        raise FormatError(
            f"{path}: expected its last axes to be z, y, x, found {', '.join(names)}; transpose it"
        )
    factor, shift = np.ones(max(3, len(axes))), np.zeros(max(3, len(axes)))
    for step in [*entry.get("coordinateTransformations", []), *scale.get("coordinateTransformations", [])]:
        if step.get("type") == "scale":
            factor, shift = factor * np.array(step["scale"]), shift * np.array(step["scale"])
        elif step.get("type") == "translation":
            shift = shift + np.array(step["translation"])
    units = _units([a.get("unit") for a in axes][-3:], path)
    if units is None:
        return None, (0.0, 0.0, 0.0)
    z, y, x = (float(v) for v in factor[-3:] * units)
    oz, oy, ox = (float(v) for v in shift[-3:] * units)
    return (z, y, x), (oz, oy, ox)


def _units(names: list[Any], path: Path) -> np.ndarray | None:
    """Nanometres per unit of three axes; None where an axis has no unit."""
    known = [None if n is None else unit_in_nm(n) for n in names]
    bad = [str(n) for n, k in zip(names, known, strict=True) if n is not None and k is None]
    if bad:
        raise VoxelSizeError(f"{path}: unknown unit of length {bad[0]!r}; give --voxel-size Z Y X in nm")
    return None if len(known) < 3 or None in known else np.array(known, np.float64)


class _Leading:
    """A zarr array seen without its leading axes of length one."""

    def __init__(self, array: zarr.Array) -> None:
        self._array = array
        self._lead = (0,) * (array.ndim - 3)
        self.shape = array.shape[-3:]
        self.dtype = array.dtype
        self.chunks = array.chunks[-3:]

    def __getitem__(self, key: Any) -> Any:
        return self._array[(*self._lead, *key)]


def _spatial(array: Any, path: Path) -> Any:
    if array.ndim < 3 or math.prod(array.shape[:-3]) != 1:
        raise ShapeError(
            f"{path}: expected one volume with axes (z, y, x), found shape {tuple(array.shape)}; "
            "take out one channel and one time point first"
        )
    return array if array.ndim == 3 else _Leading(array)


def read_attributes(path: Path) -> dict[str, Any]:
    """All attributes of a Zarr group, as plain values."""
    return json.loads(json.dumps(dict(_open_node(path).attrs)))
