"""Prepared: a prediction with everything settled that decides a byte, before any block is done.

The command that runs a prediction makes one, and so does every worker of a cluster: where their plans
differ, the bytes would.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, get_args

import torch

from densem.blocks import Grid, Journal, Triple, triple
from densem.errors import ConfigError, ResourceError
from densem.inference.cards import cards_of
from densem.inference.contest import WORTH, Contest, Verdict
from densem.inference.fixed_windows import FixedWindows
from densem.inference.fusion import Fusion
from densem.inference.int8_form import Int8Form
from densem.inference.labeller import Labeller
from densem.inference.machine import Memory
from densem.inference.options import PredictOptions
from densem.inference.outputs import Outputs, layout_for
from densem.inference.quantities import size_text
from densem.inference.region import Region
from densem.inference.runtime import Backend, Runtime
from densem.inference.tiles import round_up
from densem.model import Ensemble
from densem.volumes import Layout, Volume

_HERE = {"device": "cpu", "precision": "fp32", "runtime": "torch"}
"""Where others do the blocks, this machine needs no graphics card."""


@dataclass
class Prepared:
    """One prediction at the model's voxel size.

    Attributes:
        ensemble: the models.
        labeller: networks ready for the volume.
        outputs: the volumes that are written.
        journal: which blocks are done.
        options: as they were given.
        blocks: what one task writes.
        threads: threads of torch for a block; their number decides the last bit of a softmax.
        region: which voxels are labelled.
        runtime: the workers' description of theirs, where they are not this machine.
        verdict: which runtime was taken, where it was measured here.
    """

    ensemble: Ensemble
    labeller: Labeller
    outputs: Outputs
    journal: Journal
    options: PredictOptions
    blocks: Grid
    threads: int
    region: Region
    runtime: dict[str, Any] | None = None
    verdict: Verdict | None = None

    @classmethod
    def prepare(cls, ensemble: Ensemble, volume: Volume, folder: Path, options: PredictOptions) -> Self:
        """Settle it; takes over block and threads of an unfinished run that is there.

        Raises:
            ConfigError: for options that this machine or these models do not have.
            NotFoundError, IntegrityError: for a form in 8-bit integers that is asked for and not there.
            ResourceError: for a block that cannot be held.
        """
        if options.runtime == "openvino-int8":
            for model in ensemble.members:  # a missing form is said before a cluster is asked for machines
                Int8Form.of(model)
        seen = options if options.engine == "local" else options.model_copy(update=_HERE)
        head = ensemble.affinities if options.affinities else None
        labeller = Labeller.of(ensemble, volume, seen, affinities=head is not None)
        layout = layout_for(labeller.tiling.core, volume.shape)
        names = (*options.outputs, *(("affinities",) if head else ()))
        outputs = Outputs(folder, names, volume.shape, layout, ensemble.schema, head)
        journal = Journal(folder / "journal")
        known = (None if options.overwrite else journal.plan()) or {}
        block = options.block or _block_of(known, layout)
        blocks = Grid(volume.shape, check_block(block, layout, volume.shape))
        check_memory(blocks, outputs)
        threads = options.threads or known.get("threads", torch.get_num_threads())
        region = Region.of(volume, options.box, options.mask)
        prepared = cls(ensemble, labeller, outputs, journal, options, blocks, threads, region)
        if options.engine == "local":
            prepared.take_runtime()
        return prepared

    def take_runtime(self) -> None:
        """Where it was left to `auto`: that of the unfinished run, or the fastest one here."""
        backend, contest = self.wanted_backend()
        if contest is not None:
            with torch_threads(self.threads):
                self.verdict = contest.decide()
            backend = self.verdict.taken
        fusion = self.labeller.fusion
        if backend != fusion.runtime.backend:
            runtime = Runtime.choose(self.options.device, self.options.precision, backend)
            fusion = Fusion.of(self.ensemble, runtime, self.options.flips, bool(fusion.offsets))
            self.labeller = replace(self.labeller, fusion=fusion)

    def wanted_backend(self) -> tuple[Backend, Contest | None]:
        """What is to run the networks, or the contest that decides it where the blocks are done."""
        options = self.options
        if options.runtime != "auto":
            return options.runtime, None
        known = (None if options.overwrite else self.journal.plan()) or {}
        if known.get("backend") in get_args(Backend):
            return known["backend"], None
        small = self.region.box.size < WORTH
        traced = all(getattr(m.network, "traceable", True) for m in self.ensemble.members)
        if small or not traced or not self.labeller.fusion.streams:
            return "torch", None
        runtime = (options.device, options.precision)
        share = self.region.box.size / self.labeller.volume.box.size
        return "torch", Contest.of(self.ensemble, self.labeller.tiling, runtime, self.threads, share)

    @property
    def devices(self) -> tuple[str, ...]:
        """What the networks are run on here: one device, or the graphics cards that the workers share."""
        return cards_of(self.labeller.fusion.runtime)[: self.options.workers]

    @property
    def workers(self) -> int:
        """Blocks in work at the same time here: as the options say, else one for each device."""
        return self.options.workers or len(self.devices)

    @property
    def left(self) -> float:
        """Share of the volume's voxels that are still to be labelled: whole tiles of the region's box."""
        box, blocks = self.region.box, self.blocks
        wanted = self.labeller.tiling.grid.covering(box).size
        done = sum(blocks.box(i).clip(box).size for i in self.done)
        return max(0, wanted - done) / max(1, self.labeller.volume.box.size)

    @property
    def done(self) -> set[int]:
        """Blocks of an unfinished run that is taken up."""
        if self.options.overwrite or self.journal.plan() is None:
            return set()
        return {i for i in self.journal.done() if i < len(self.blocks)}

    def plan(self) -> dict[str, Any]:
        """All that decides a byte of the outputs, and the blocks that the journal counts."""
        volume, tiling = self.labeller.volume, self.labeller.tiling
        runtime = self.runtime or self.labeller.fusion.runtime.describe()
        on_cpu = str(runtime["device"]).startswith("cpu")
        return {
            "model": [m.id for m in self.ensemble.members],
            "input": volume.id,
            "shape": list(volume.shape),
            "intensity": [self.labeller.intensity.mean, self.labeller.intensity.std],
            "core": list(tiling.core),
            "context": list(tiling.context),
            **({"windows": list(tiling.side)} if isinstance(tiling, FixedWindows) else {}),
            **runtime,
            **self._int8(str(runtime["backend"])),
            **({"threads": self.threads} if on_cpu else {}),
            "flips": self.options.flips,
            "outputs": list(self.outputs.names),
            "block": list(self.blocks.cell),
            **self.region.describe(),
        }

    def _int8(self, backend: str) -> dict[str, Any]:
        """Which forms in 8-bit integers are run, if that is what is run."""
        if backend != "openvino-int8":
            return {}
        return {"int8": [Int8Form.of(m).id for m in self.ensemble.members]}


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Torch with so many threads, and afterwards with as many as before."""
    before = torch.get_num_threads()
    if number != before:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        if number != before:
            torch.set_num_threads(before)


def _block_of(known: dict[str, Any], layout: Layout) -> Triple:
    """The block of the unfinished run that is there, if it fits; else one shard."""
    block = triple(known.get("block", layout.shard))
    return block if round_up(block, layout.shard) == block else layout.shard


def check_block(block: Triple, layout: Layout, shape: Triple) -> Triple:
    """A block of whole shards, or reaching the end of the volume.

    Raises:
        ConfigError: with the nearest block that is.
    """
    whole = round_up(triple(max(1, b) for b in block), layout.shard)
    fits = all(b % s == 0 or b >= n for b, s, n in zip(block, layout.shard, shape, strict=True))
    if min(block) < 1 or not fits:
        raise ConfigError(
            f"--block {' '.join(map(str, block))}: expected whole multiples of the shard "
            f"{' '.join(map(str, layout.shard))} (z y x), so that no two blocks write one file; "
            f"give {' '.join(map(str, whole))}"
        )
    return whole


def check_memory(blocks: Grid, outputs: Outputs) -> None:
    """Refuse a block that cannot be held.

    Raises:
        ResourceError: with what is needed and what is free.
    """
    channels, pairs = outputs.channels("probabilities"), outputs.channels("affinities")
    size = blocks.box(0).size * (8 + 8 * channels + 2 * pairs)
    free = Memory.look().free
    if size > 0.8 * free:
        raise ResourceError(
            f"--block {' '.join(map(str, blocks.cell))}: such a block needs about {size_text(size)} "
            f"of memory, {size_text(free)} are free; give a smaller --block"
        )
