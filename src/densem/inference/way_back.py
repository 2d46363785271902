"""Way back: what was predicted on the model's grid is brought onto the volume's own, block by block.

Any crew does it, a journal keeps what is done, every block is whole shards that are read back. Labels come
from the voxel of the model's grid in which the centre of a voxel lies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, Crew, Grid, Journal, verify
from densem.blocks.bulletin import Bulletin, Watch
from densem.blocks.journal import Record
from densem.inference.machine import Cores
from densem.inference.outputs import Outputs, ShardDigests, count_labels
from densem.inference.resample import Ratio
from densem.volumes import Volume
from densem.volumes.volume import Nanometres


@dataclass(frozen=True)
class BlockBack:
    """A task over blocks of the volume's own grid, which can be sent to another machine.

    Attributes:
        seen: finished, on the model's grid.
        own: laid out, on the volume's.
        ratio: size of a voxel of the model's grid over that of the own one's, (z, y, x).
    """

    seen: Outputs
    own: Outputs
    ratio: Ratio

    def __call__(self, index: int, box: Box) -> dict[str, Any]:
        """Write one block of every output and read it back; gives its digests and label counts."""
        arrays = {name: nearest(self.seen.array(name), self.ratio, box) for name in self.own.names}
        return {"digests": self.own.write(box, arrays), "counts": count_labels([arrays["classes"]])}


class WayBack:
    """The way back of one prediction.

    Args:
        seen: on the model's grid, not necessarily made yet.
        seen_size_nm: its voxel size, (z, y, x).
        folder: where the prediction goes.
        volume: on whose own grid.
        models: ids of the models.
    """

    def __init__(
        self, seen: Outputs, seen_size_nm: Nanometres, folder: Path, volume: Volume, models: list[str]
    ) -> None:
        folder = folder.resolve()  # as other machines see it
        self.seen = replace(seen, folder=seen.folder.resolve())
        self.own = replace(seen, folder=folder, shape=volume.shape)
        self.volume, self.seen_size_nm, self._models = volume, seen_size_nm, models
        self.journal = Journal(folder / "journal")
        self._blocks = Grid(volume.shape, self.own.layout.shard)

    def plan(self) -> Record:
        """All that decides a byte, beside the prediction on the model's grid, which has a plan of its own."""
        return {
            "model": self._models,
            "input": self.volume.id,
            "shape": list(self.volume.shape),
            "predicted_at_nm": list(self.seen_size_nm),
            "outputs": list(self.own.names),
            "block": list(self._blocks.cell),
        }

    def compare(self) -> None:
        """Refuse a folder in which another run was begun, before there is any work; writes nothing.

        Raises:
            IntegrityError: naming the entries that differ.
        """
        if self.journal.plan() is not None:
            self.journal.begin(self.plan())

    def go(self, crew: Crew, attributes: dict[str, Any]) -> None:
        """Write all outputs on the own grid, or what an earlier run left to do; the journal is locked.

        Args:
            crew: who does the blocks, and those of the pyramids.
            attributes: densem's record of the prediction on the model's grid.

        Raises:
            IncompleteError, ResourceError: as `coordinate`.
        """
        self._begin()
        z, y, x = (s / v for s, v in zip(self.seen_size_nm, self.volume.voxel_size_nm, strict=True))
        task = BlockBack(self.seen, self.own, (z, y, x))
        if crew.do(task, self._blocks, self.journal).done:
            self.own.forget_levels()
        bulletin = Bulletin(self.journal)
        bulletin.say(state="adding pyramids")
        with Watch(bulletin):
            self._finish(crew, attributes)
        bulletin.say(state="finished")

    def _begin(self) -> None:
        if not (self.journal.begin(self.plan()) and self.own.begun):
            self.journal.keep(set())
            self.own.create()
        verify(self.journal, self._holds, Cores.look().usable)
        self.own.sweep(self._blocks, self.journal.done())

    def _holds(self, record: Record) -> bool:
        return self.own.holds(self._blocks.box(record["block"]), record["digests"])

    def _finish(self, crew: Crew, attributes: dict[str, Any]) -> None:
        digests, counts = ShardDigests.of(self.own, self._blocks, self.journal)
        provenance = {
            **attributes.get("provenance", {}),
            "input": self.volume.id,
            "predicted_at_nm": list(self.seen_size_nm),
        }
        place = (self.volume.voxel_size_nm, self.volume.offset_nm)
        record = {"provenance": provenance, "label_counts": counts}
        self.own.finish(digests, place, record, crew, Cores.look().usable)


def nearest(labels: Any, ratio: Ratio, box: Box) -> np.ndarray:
    """A box (..., Z, Y, X) of the own grid from an array on the model's grid, same dtype.

    Args:
        labels: array (Z, Y, X) or (C, Z, Y, X) on the model's grid.
        ratio: size of its voxels over that of the own grid's.
        box: on the own grid.
    """
    places = [
        np.clip(np.floor((np.arange(a, b) + 0.5) / r + 1e-6).astype(int), 0, n - 1)
        for a, b, r, n in zip(box.start, box.stop, ratio, labels.shape[-3:], strict=True)
    ]
    spans = tuple(slice(int(p.min()), int(p.max()) + 1) for p in places)
    block = np.asarray(labels[(..., *spans)])
    z, y, x = (p - s.start for p, s in zip(places, spans, strict=True))
    return block[..., z[:, None, None], y[:, None], x]
