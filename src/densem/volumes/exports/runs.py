"""Labels as run-length JSON, the way the platelet-em release packs them; `densem import` reads them."""

from __future__ import annotations

from densem.volumes.exports.options import ExportOptions
from densem.volumes.exports.source import Source
from densem.volumes.exports.staging import Staging
from densem.volumes.run_length import write_run_length
from densem.volumes.slabs import Progress


def write_runs(source: Source, area: Staging, options: ExportOptions, progress: Progress | None) -> list[str]:
    """Write labels as run-length JSON; id 0 is what no run covers."""
    del options
    write_run_length(source.volume, area.main, progress)
    flag = "--labels" if source.kind == "classes" else "--instances"
    return [
        "The format keeps no voxel size and no names",
        f"Back into a study: densem import STUDY VOLUME {flag} {area.target.name}",
    ]
