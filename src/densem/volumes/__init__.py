"""Arrays on disk with nanometres; formats in and out."""

from densem.volumes.intake import Writing, content_id, import_image
from densem.volumes.intensity import measure_intensity
from densem.volumes.label_intake import LabelCoding, import_labels, import_objects
from densem.volumes.ome_zarr import Layout, open_volume
from densem.volumes.palettes import Palette
from densem.volumes.stacks import Stack, open_stack
from densem.volumes.volume import Intensity, Volume, check_voxel_size

__all__ = [
    "Intensity",
    "LabelCoding",
    "Layout",
    "Palette",
    "Stack",
    "Volume",
    "Writing",
    "check_voxel_size",
    "content_id",
    "import_image",
    "import_labels",
    "import_objects",
    "measure_intensity",
    "open_stack",
    "open_volume",
]
