"""Costs: what every network costs, at its full width: parameters, arithmetic, context, memory at its tile.

Nothing is computed: networks and tiles are shapes without values (torch's `meta` device). Memory is that of
the weights and of all activations that are alive at the same time while one tile is labelled in float32;
what convolutions need for themselves comes on top, and bfloat16 takes half.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from densem import networks
from densem.blocks import Triple, triple
from densem.inference.torch_backend import SLAB
from densem.model import TilePlan
from densem.networks import ARCHITECTURES, Geometry
from densem.networks.streaming import Ends, Stream

CLASSES = 7
VOXEL_SIZE_NM = (40.0, 10.0, 10.0)


@dataclass(frozen=True)
class Cost:
    """What one network costs.

    Attributes:
        name: of the architecture.
        parameters: trainable values.
        mflop_per_voxel: multiplications and additions of one pass, in millions per voxel of input.
        context: voxels around an output voxel that can change it, exactly; None if there is no bound.
        window: fixed windows it is run on; None where tiles are exact.
        tile_bytes: memory while one tile is labelled.
        source: the paper.
    """

    name: str
    parameters: int
    mflop_per_voxel: float
    context: Triple | None
    window: Triple | None
    tile_bytes: int
    source: str

    @classmethod
    def of(cls, name: str) -> Cost:
        """Of an architecture at its full width, for 7 classes and voxels of 40 x 10 x 10 nm."""
        with torch.device("meta"):
            network = networks.build(name, {"n_classes": CLASSES}).eval()
        entry, geometry = ARCHITECTURES[name], network.geometry
        assert isinstance(geometry, Geometry)
        plan = TilePlan.default(geometry, VOXEL_SIZE_NM, entry.window)
        return cls(
            name=name,
            parameters=networks.parameters(network),
            mflop_per_voxel=round(networks.mflop_per_voxel(network), 3),
            context=geometry.receptive if geometry.context else None,
            window=plan.window,
            tile_bytes=tile_bytes(network, plan),
            source=entry.source,
        )


def costs() -> Iterator[Cost]:
    """Of every architecture, in the order of the table."""
    yield from (Cost.of(name) for name in ARCHITECTURES)


def tile_bytes(network: nn.Module, plan: TilePlan) -> int:
    """Weights and activations alive together while one tile of a plan is labelled, float32.

    Args:
        network: on the device `meta`.
        plan: of its tiles or windows.
    """
    ledger = Ledger()
    with torch.inference_mode(), ledger:
        if plan.window is not None:
            network(torch.empty(1, 1, *plan.window, device="meta"))
        elif networks.streams(network):
            _stream(network, plan)
        else:
            network(torch.empty(1, 1, *_shape(plan), device="meta"))
    return ledger.most + sum(t.nbytes for t in network.state_dict().values())


def _stream(network: nn.Module, plan: TilePlan) -> None:
    """A tile slab by slab, in the middle of a volume."""
    assert plan.exact is not None
    depth, y, x = _shape(plan)
    slab = max(1, min(depth, SLAB // (y * x)))
    _, cy, cx = plan.exact
    ends = Ends((False, False), (cy, cy, cx, cx))
    shown = (torch.empty(1, 1, min(slab, depth - z), y, x, device="meta") for z in range(0, depth, slab))
    for _ in Stream(ends).outputs(network, shown):
        pass


def _shape(plan: TilePlan) -> Triple:
    assert plan.exact is not None
    return triple(n + 2 * c for n, c in zip(plan.core, plan.exact, strict=True))


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors that are alive.

    Attributes:
        now: bytes alive.
        most: at any time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let an operation happen and count what it made."""
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, Tensor):
                self._count(made.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        if storage in self._seen:
            return
        self._seen.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._freed, size)

    def _freed(self, size: int) -> None:
        self.now -= size


def line(cost: Cost) -> str:
    """As one line of a table under `HEADER`."""
    sees = " ".join(map(str, cost.context)) if cost.context else "window"
    run_on = " ".join(map(str, cost.window)) if cost.window else "exact tiles"
    return (
        f"{cost.name:<25}{cost.parameters:>12,}{cost.mflop_per_voxel:>9.2f}   {sees:<12} {run_on:<12}"
        f"{cost.tile_bytes / 1e9:>5.2f}"
    )


HEADER = f"{'architecture':<25}{'parameters':>12}{'MFLOP':>9}   {'sees z y x':<12} {'run on':<12}{'GB':>5}"
