"""Streaming: a window shown to a network slab by slab along z, every slice computed once in every layer.

    shown               |1 2 3 4|5 6 7 8|
    after a 3x3x3       |. 1 2 3|4 5 6 7|8       one slice late: it waits for the neighbour below
    after another       |. . 1 2|3 4 5 6|7 8

1. A 3x3x3 convolution keeps the last two slices it was given and answers one slice late. Slabs of an
   activation differ in length, and the first ones may be empty; the last slab brings all that was held back.
2. Where two paths meet, the one that is ahead waits, and both give as many slices as both have.
3. At an end of the window that is an end of the volume, a slice of zeros is the neighbour, as in a
   convolution of the whole; elsewhere each convolution answers one slice less, so that nothing is
   computed beyond what the core needs.
   After the last slab empty ones are shown; with each a few more convolutions, in the order in which they
   run, get their slice of zeros, so that what was held back comes in slabs of no more than the usual size.
4. In y and x the context is cut down on the way: where paths meet, only so many voxels are kept around the
   core as the rest of the network still looks at (the join's `margin`).

A network takes part if all that mixes slices is a 3x3x3 convolution and its paths meet in `Join` or `Sum`;
it says so by an attribute `streams`.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_Place = tuple[nn.Module, int]
_active: ContextVar[Stream | None] = ContextVar("stream", default=None)


@dataclass(frozen=True)
class Ends:
    """How a window lies in its volume.

    Attributes:
        zeros: whether beyond the (upper, lower) end in z a slice of zeros stands for the neighbour.
        margins: voxels of the window around the core: before and behind it in y, before and behind it in x.
    """

    zeros: tuple[bool, bool] = (True, True)
    margins: tuple[int, int, int, int] = (0, 0, 0, 0)


class Stream:
    """What a network remembers of one window from slab to slab.

    Attributes:
        ends: how the window lies in its volume.
    """

    def __init__(self, ends: Ends) -> None:
        self.ends = ends
        self._order: dict[nn.Module, int] = {}
        self._depth = 0
        self._ended = 0
        self._kept: dict[_Place, Tensor] = {}
        self._dropped: dict[_Place, int] = {}
        self._buffers: dict[_Place | None, Tensor] = {}

    def outputs(self, network: nn.Module, slabs: Iterable[Tensor]) -> Iterator[dict[str, Tensor]]:
        """What the network makes of a window, as slabs of the core's size in y and x.

        Args:
            network: one that `streams`.
            slabs: (N, 1, n, Y, X) each, which behind each other are the window of Z slices.

        Yields:
            Its outputs (N, C, n, Y', X') for the next n slices; n may be 0. In all they are Z slices, less
            the network's context at either end that is not an end of the volume.
        """
        slab = None
        for slab in slabs:
            self._depth = max(self._depth, slab.shape[2])
            yield self._show(network, slab)
        while slab is not None and self.ends.zeros[1] and self._ended < len(self._order):
            self._ended += self._depth
            yield self._show(network, slab[:, :, :0])

    def _show(self, network: nn.Module, slab: Tensor) -> dict[str, Tensor]:
        token = _active.set(self)
        try:
            outputs: dict[str, Tensor] = network(slab)
            return outputs
        finally:
            _active.reset(token)

    def with_neighbours(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The slab of a 3x3x3 convolution with the slices above it, and zeros below the last one.

        Args:
            layer: the convolution, whose memory it is.
            x: (N, C, Z, Y, X); Z may be 0.
        """
        first = layer not in self._order
        place = self._order.setdefault(layer, len(self._order))
        above = _zero(x) if first and self.ends.zeros[0] else self._take((layer, 0))
        below = _zero(x) if self._ended - self._depth <= place < self._ended else []
        x = self._stack([*above, x, *below])
        if place >= self._ended:
            self._keep((layer, 0), x[:, :, -2:])
        return x

    def together(self, meeting: nn.Module, parts: Sequence[Tensor], ahead: Sequence[int]) -> list[Tensor]:
        """The same slices of each part, as many as all of them have; the rest is kept for the next slab.

        Args:
            meeting: the place where they meet, whose memory it is.
            parts: (N, C, Z, Y, X), of different C and Z.
            ahead: how many 3x3x3 convolutions fewer than on the longest path each part went through.
        """
        parts = [self._resume(meeting, i, p, n) for i, (p, n) in enumerate(zip(parts, ahead, strict=True))]
        depth = min(p.shape[2] for p in parts)
        for i, p in enumerate(parts):
            if p.shape[2] > depth:
                self._keep((meeting, i), p[:, :, depth:])
        return [p[:, :, :depth] for p in parts]

    def cut(self, x: Tensor, scale: int, before: int | None, after: int) -> Tensor:
        """Leave away what of the context is not looked at any more.

        Args:
            x: (N, C, Z, Y, X) at a scale, 2^scale times smaller in y and x than the window.
            scale: of x.
            before: largest margin, in voxels of the window, that x was cut down to; None: it was not.
            after: largest margin to leave.
        """
        margins = [m if before is None else min(m, before) for m in self.ends.margins]
        y0, y1, x0, x1 = ((m - min(m, after)) >> scale for m in margins)
        return x[:, :, :, y0 : x.shape[3] - y1, x0 : x.shape[4] - x1]

    def _resume(self, meeting: nn.Module, place: int, x: Tensor, ahead: int) -> Tensor:
        """With what was kept, without the first slices that another path does not have."""
        key = (meeting, place)
        kept = self._take(key)
        x = _concatenate([*kept, x]) if kept else x
        missing = 0 if self.ends.zeros[0] else ahead - self._dropped.get(key, 0)
        drop = min(missing, x.shape[2])
        self._dropped[key] = self._dropped.get(key, 0) + drop
        return x[:, :, drop:]

    def _take(self, place: _Place) -> list[Tensor]:
        kept = self._kept.pop(place, None)
        return [] if kept is None else [kept]

    def _keep(self, place: _Place, x: Tensor) -> None:
        """Copy slices to memory of their own, so that no larger slab is held for their sake."""
        self._kept[place] = self._buffer(place, x.shape, x).copy_(x)

    def _stack(self, parts: Sequence[Tensor]) -> Tensor:
        """Slabs of one activation behind each other, in memory that the next layer uses again."""
        depth = sum(p.shape[2] for p in parts)
        shape = torch.Size((*parts[0].shape[:2], depth, *parts[0].shape[3:]))
        return _concatenate(parts, self._buffer(None, shape, parts[0]))

    def _buffer(self, place: _Place | None, shape: torch.Size, like: Tensor) -> Tensor:
        """Memory for an activation (N, C, Z, Y, X), channels last; the same for the same place."""
        flat = self._buffers.get(place)
        if flat is None or flat.numel() < shape.numel():
            flat = self._buffers[place] = _allocate(shape.numel(), like)
        n, c, z, y, x = shape
        return flat[: shape.numel()].view(n, z, y, x, c).permute(0, 4, 1, 2, 3)


class Crop(Stream):
    """For a network that is shown a whole window while its graph is traced: of all this only rule 4.

    Args:
        margins: int64 (4,), as those of `Ends`: a tensor, so that they are an input of the graph.
    """

    def __init__(self, margins: Tensor) -> None:
        super().__init__(Ends())
        self._margins = margins

    def output(self, network: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """What the network makes of a window (N, 1, Z, Y, X), for the core in y and x: (N, C, Z, Y', X')."""
        return self._show(network, x)

    def with_neighbours(self, layer: nn.Module, x: Tensor) -> Tensor:
        """The same slices: a traced convolution pads them itself."""
        return x

    def together(self, meeting: nn.Module, parts: Sequence[Tensor], ahead: Sequence[int]) -> list[Tensor]:
        """The same parts: none is ahead of another."""
        return list(parts)

    def cut(self, x: Tensor, scale: int, before: int | None, after: int) -> Tensor:
        """As in a stream."""
        come = self._margins if before is None else self._margins.clamp(max=before)
        y0, y1, x0, x1 = ((come - come.clamp(max=after)) // 2**scale).unbind()
        return x[:, :, :, y0 : x.shape[3] - y1, x0 : x.shape[4] - x1]


def streams(network: nn.Module) -> bool:
    """Whether a network can be shown a window slab by slab."""
    return bool(getattr(network, "streams", False))


def stream() -> Stream | None:
    """The stream whose slab the network of this thread is given; None: it is given whole windows."""
    return _active.get()


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """What is called within is given whole windows: for layers that never mix slices."""
    token = _active.set(None)
    try:
        yield
    finally:
        _active.reset(token)


def _zero(x: Tensor) -> list[Tensor]:
    """A slice of zeros that fits a slab."""
    return [x.new_zeros((*x.shape[:2], 1, *x.shape[3:]))]


def _concatenate(parts: Sequence[Tensor], out: Tensor | None = None) -> Tensor:
    """Slabs of one activation behind each other, channels last in memory."""
    lasts = [p.permute(0, 2, 3, 4, 1) for p in parts]
    target = None if out is None else out.permute(0, 2, 3, 4, 1)
    return torch.cat(lasts, dim=1, out=target).permute(0, 4, 1, 2, 3)


def _allocate(n: int, like: Tensor) -> Tensor:
    """Memory for n values. On a processor it comes from the system and not from the C library's heap, where
    what stays would lie between what comes and goes, which then finds no place of its size again."""
    if like.device.type != "cpu" or n == 0:
        return like.new_empty(n)
    memory = mmap.mmap(-1, n * like.element_size())
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=like.dtype)
