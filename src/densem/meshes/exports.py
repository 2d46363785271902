"""Formats in which all surfaces of a set of objects are one file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from densem.meshes.amira_surface import write_amira_surface
from densem.meshes.imod_meshes import write_imod_meshes
from densem.meshes.named import NamedMesh, Room
from densem.volumes.exports import ExportOptions, Format, choose_format, staged
from densem.volumes.exports.export import check_options
from densem.volumes.exports.formats import MESHES

MESH_FORMATS: dict[str, Format] = {
    "amira-surface": Format("Amira surface (HyperSurface)", (".surf",), (MESHES,), units=("nm", "um", "mm")),
    "imod-mesh": Format("IMOD model: meshes", (".mod",), (MESHES,)),
}


def export_meshes(
    meshes: Iterable[NamedMesh],
    room: Room,
    to: str,
    out: Path,
    options: ExportOptions | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Write surfaces in a format of another tool, all into one file; one of them is held at a time.

    Raises:
        ConfigError, InputError: if the format does not hold surfaces, or has no such option.
        NotFoundError, ExistsError, FormatError: if it cannot lie there.
        ResourceError: if the disk is full; nothing is left behind then, nor after any other error.
    """
    options = options or ExportOptions()
    chosen: Format = choose_format(to, MESHES, out, MESH_FORMATS)
    check_options(chosen, to, options)
    with staged(out, overwrite) as area:
        if chosen is MESH_FORMATS["amira-surface"]:
            unit = options.unit or "nm"
            count = write_amira_surface(meshes, area.main, unit)
            note = f"Amira, Avizo: File > Open Data; lengths are in {unit}"
        else:
            count = write_imod_meshes(meshes, area.main, room, out.stem)
            note = "IMOD: 3dmod IMAGE.mrc MODEL.mod, with the whole image at full resolution"
    return [f"{out}: {chosen.title}, {count} surfaces", note]
