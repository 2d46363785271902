"""HDF5 volumes: a dataset by its name, or the only one with three axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from densem.errors import FormatError, NotFoundError, ShapeError
from densem.volumes.stacks import Stack
from densem.volumes.units import unit_in_nm
from densem.volumes.volume import Nanometres


def open_hdf5(path: Path, dataset: str | None) -> Stack:
    """Open one dataset of an HDF5 file as a stack; the voxels are read when asked for.

    Voxel sizes are taken from `element_size_um` (z, y, x), or from `resolution` with `units`.

    Raises:
        FormatError: if the file cannot be read, or several datasets could be meant.
        NotFoundError: if it has no dataset of that name.
        ShapeError: if the dataset is not one volume.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise FormatError(
            f"{path}: expected an HDF5 file, but it cannot be opened ({error}); it is truncated or corrupt"
        ) from None
    found = _datasets(file)
    name = _choose(found, path) if dataset is None else dataset.strip("/")
    if name not in found:
        raise NotFoundError(f"{path}: no dataset {dataset!r} in it; it has {_list(found)}")
    array = found[name]
    return Stack(_spatial(array, path), path, f"HDF5 ({name})", _voxel_size(array))


def _datasets(file: Any) -> dict[str, Any]:
    """Numeric datasets by name."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf":
            found[name] = item

    file.visititems(visit)
    return found


def _choose(found: dict[str, Any], path: Path) -> str:
    volumes = [name for name, item in found.items() if sum(s > 1 for s in item.shape) == 3]
    volumes = volumes or [name for name, item in found.items() if item.ndim == 3]
    if len(volumes) != 1:
        raise FormatError(
            f"{path}: expected one dataset with three axes, found {len(volumes)}; name one with --dataset "
            f"(it has {_list(found)})"
        )
    return volumes[0]


def _list(found: dict[str, Any]) -> str:
    rows = [f"{name} {' x '.join(map(str, d.shape))} {d.dtype}" for name, d in list(found.items())[:12]]
    return "; ".join(rows) or "no numeric datasets"


def _spatial(array: Any, path: Path) -> Any:
    """Without axes of length one beyond three."""
    if array.ndim == 3:
        return array
    kept = [i for i, s in enumerate(array.shape) if s > 1]
    if array.ndim < 3 or len(kept) > 3:
        raise ShapeError(
            f"{path}: expected one volume with axes (z, y, x), found shape {tuple(array.shape)}; take out "
            "one channel and one time point first"
        )
    spare = [i for i in reversed(range(array.ndim)) if i not in kept][: array.ndim - 3]
    return Squeezed(array, tuple(i for i in range(array.ndim) if i not in spare))


class Squeezed:
    """An array seen along three of its axes; the others have length one."""

    def __init__(self, array: Any, axes: tuple[int, ...]) -> None:
        self._array, self._axes = array, axes
        self.shape = tuple(array.shape[i] for i in axes)
        self.dtype = array.dtype

    def __getitem__(self, key: tuple[slice, slice, slice]) -> Any:
        """The voxels of a box."""
        full: list[Any] = [0] * self._array.ndim
        for axis, part in zip(self._axes, key, strict=True):
            full[axis] = part
        return self._array[tuple(full)]


def _voxel_size(array: Any) -> Nanometres | None:
    """Only where a unit is told: a number without one is none."""
    if "element_size_um" in array.attrs:
        return _three(array.attrs["element_size_um"], [1e3] * 3)
    units = [unit_in_nm(_text(u)) for u in _listed(array.attrs.get("units"))]
    if "resolution" in array.attrs and units and all(units):
        return _three(array.attrs["resolution"], units * 3 if len(units) == 1 else units[-3:])
    return None


def _listed(value: Any) -> list[Any]:
    if value is None or isinstance(value, str | bytes):
        return [] if value is None else [value]
    return list(value)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _three(values: Any, units: list[Any]) -> Nanometres | None:
    sides = [float(v) * float(u) for v, u in zip(list(values)[-3:], units, strict=False)]
    if len(sides) != 3 or min(sides) <= 0:
        return None
    return sides[0], sides[1], sides[2]
