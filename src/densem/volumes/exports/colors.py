"""Class labels as colours, the way the platelet-em release packs them; `densem import --palette` reads "
"them."""

from __future__ import annotations

from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source
from densem.volumes.exports.staging import Staging
from densem.volumes.palettes import Palette, write_rgba
from densem.volumes.slabs import Progress


def write_colors(
    source: Source, area: Staging, options: ExportOptions, progress: Progress | None
) -> list[str]:
    """Write class labels as an RGBA TIFF, by default in the schema's own colours.

    Raises:
        SchemaError: if the palette has no colour for an id that occurs.
    """
    assert source.schema is not None
    word = options.palette or "schema"
    write_rgba(source.volume, area.main, Palette.resolve(word, source.schema), progress)
    return [f"Back into a study: densem import STUDY VOLUME --labels {area.target.name} --palette {word}"]
