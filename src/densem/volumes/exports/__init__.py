"""Volumes in the formats of other tools: colours, voxel size, unit and place included."""

from densem.volumes.exports.export import export_volume
from densem.volumes.exports.formats import FORMATS, Format, choose_format
from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source
from densem.volumes.exports.staging import Staging, staged

__all__ = [
    "FORMATS",
    "ExportOptions",
    "Format",
    "Source",
    "Staging",
    "choose_format",
    "export_volume",
    "staged",
]
