"""Exporting a volume: checked first, streamed slab by slab, in place when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from densem.errors import ConfigError, ResourceError
from densem.volumes.exports.formats import Format, choose_format
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source
from densem.volumes.exports.staging import staged

Progress = Callable[[int, int], None]


def export_volume(
    source: Source,
    to: str,
    out: Path,
    options: ExportOptions | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Write a volume in a format of another tool; memory does not grow with its depth.

    Args:
        source: what is exported.
        to: the format, a name of `FORMATS`.
        out: the file or folder to make.
        options: unit and palette, where the format has them.
        overwrite: whether to replace what is there.
        progress: told (slices done, slices in all).

    Returns:
        Lines for people: what was made, and what to know of it.

    Raises:
        ConfigError, InputError: if the format does not hold that, or has no such option.
        NotFoundError, ExistsError, FormatError: if it cannot lie there.
        ResourceError: if the disk is too small; nothing is left behind then, nor after any other error.
    """
    options = options or ExportOptions()
    chosen: Format = choose_format(to, source.kind, out)
    check_options(chosen, to, options)
    with staged(out, overwrite, chosen.replaceable if chosen.folder else None) as area:
        _check_disk(source, chosen, out)
        notes = chosen.write()(source, area, options, progress)
    z, y, x = source.volume.voxel_size_nm
    shape = " x ".join(map(str, source.volume.shape))
    return [f"{out}: {chosen.title}, {shape} voxels of {z:g} x {y:g} x {x:g} nm", *notes]


def check_options(chosen: Format, word: str, options: ExportOptions) -> None:
    """Refuse options that a format does not have.

    Raises:
        ConfigError: saying which units it has.
    """
    if options.unit is not None and options.unit not in chosen.units:
        told = (
            f"one of {', '.join(chosen.units)}" if chosen.units else "none: the format has a unit of its own"
        )
        raise ConfigError(f"--unit {options.unit} with --to {word}: expected {told}")
    if options.palette is not None and not chosen.palette:
        raise ConfigError(
            f"--palette {options.palette} with --to {word}: expected it with rgba-tiff alone; other "
            "formats take the schema's colours"
        )


def _check_disk(source: Source, chosen: Format, out: Path) -> None:
    """Refuse to start where a file as large as the voxels does not fit; of compressed ones nobody knows."""
    free = shutil.disk_usage(out.absolute().parent).free
    if chosen.raw and source.nbytes > free:
        raise ResourceError(
            f"{out}: expected {source.nbytes / 1e9:.3g} GB of free disk, found {free / 1e9:.3g} GB; free "
            "some, export a --box or a coarser --scale, or choose another place"
        )
