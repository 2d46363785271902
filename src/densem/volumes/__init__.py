"""Arrays on disk with nanometres; formats in and out."""

from densem.volumes.ome_zarr import Layout, open_volume
from densem.volumes.volume import Intensity, Volume, check_voxel_size

__all__ = ["Intensity", "Layout", "Volume", "check_voxel_size", "open_volume"]
