"""Geometry: which sizes a network accepts, and how far around an output voxel it looks.

All triples are (z, y, x) in voxels of the input. A `Reach` follows one output interval back to the input:
a convolution of radius r widens [a, b] to [a - r, b + r], a pool maps it to [2a, 2b + 1], an up-sampling to
[a // 2, b // 2], and where two paths meet the union counts. What a voxel sees thus depends on where it lies
in the pooling grid; the worst phase decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from densem.blocks import Triple
from densem.errors import ShapeError

Kernel = Literal["3x3x3", "1x3x3", "1x1x1"]
Interval = tuple[int, int]

AXES = "zyx"


@dataclass(frozen=True)
class Geometry:
    """What a runner must know of a network.

    Attributes:
        multiple: accepted sizes are whole multiples of it, (z, y, x).
        context: voxels around an output voxel beyond which nothing can change it, for tiles whose origin is a
            whole multiple of `multiple`, and itself such a multiple; None if unbounded.
        receptive: the same before rounding up: what the farthest-seeing output voxel really sees.
    """

    multiple: Triple
    context: Triple | None
    receptive: Triple | None = None

    def accepts(self, shape: Sequence[int]) -> bool:
        """Whether a (z, y, x) shape can go in."""
        return len(shape) == 3 and all(
            n > 0 and n % m == 0 for n, m in zip(shape, self.multiple, strict=True)
        )

    def check(self, shape: Sequence[int]) -> None:
        """Refuse a (z, y, x) shape that cannot go in.

        Raises:
            ShapeError: naming the axes that do not fit and the next sizes that would.
        """
        if self.accepts(shape):
            return
        found = tuple(shape)
        if len(found) != 3 or min(found) < 1:
            raise ShapeError(
                f"network input: expected three sizes (z, y, x) of at least 1 voxel, found {found}; "
                "give the spatial axes of a patch or tile"
            )
        fitting = tuple(n + p for n, p in zip(found, self.pad_to_multiple(found), strict=True))
        wrong = ", ".join(a for a, n, m in zip(AXES, found, self.multiple, strict=True) if n % m)
        raise ShapeError(
            f"network input: expected (z, y, x) sizes in whole multiples of {self.multiple}, found {found} "
            f"(axis {wrong}); the next size that fits is {fitting}"
        )

    def pad_to_multiple(self, shape: Sequence[int]) -> Triple:
        """Voxels to add at the far end of each axis of a (z, y, x) shape to make it acceptable."""
        z, y, x = (-n % m for n, m in zip(shape, self.multiple, strict=True))
        return z, y, x


def _itself(a: int, b: int) -> Interval:
    return a, b


@dataclass(frozen=True)
class Reach:
    """The part of the input that an interval of some activation depends on.

    Attributes:
        depth: slices on each side; nothing here pools in z, so all slices are alike.
        plane: maps an interval [a, b] of the activation in y or x to the interval of the input behind it.
    """

    depth: int = 0
    plane: Callable[[int, int], Interval] = _itself

    def convolve(self, kernel: Kernel, times: int = 1) -> Reach:
        """After `times` convolutions."""
        z, r = _RADIUS[kernel][0] * times, _RADIUS[kernel][1] * times
        return Reach(self.depth + z, lambda a, b: self.plane(a - r, b + r))

    def pool(self, times: int = 1) -> Reach:
        """After pooling by 1x2x2."""
        scale: int = 2**times
        return Reach(self.depth, lambda a, b: self.plane(a * scale, (b + 1) * scale - 1))

    def up(self, times: int = 1) -> Reach:
        """After up-sampling by 1x2x2, kernel = stride."""
        scale: int = 2**times
        return Reach(self.depth, lambda a, b: self.plane(a // scale, b // scale))

    def join(self, other: Reach) -> Reach:
        """After adding or concatenating another activation of the same scale."""

        def plane(a: int, b: int) -> Interval:
            mine, theirs = self.plane(a, b), other.plane(a, b)
            return min(mine[0], theirs[0]), max(mine[1], theirs[1])

        return Reach(max(self.depth, other.depth), plane)

    def geometry(self, multiple: int) -> Geometry:
        """The geometry of a network with this reach at its output.

        Args:
            multiple: of the accepted sizes in y and x, and the period of the pooling grid.
        """
        seen = [self.plane(p, p) for p in range(multiple)]
        radius = max(max(p - a, b - p) for p, (a, b) in enumerate(seen))
        side = -(-radius // multiple) * multiple
        return Geometry((1, multiple, multiple), (self.depth, side, side), (self.depth, radius, radius))

    def margin(self, multiple: int, scale: int) -> int:
        """Voxels around a core, in whole multiples, that an activation needs for the core to come out right.

        Args:
            multiple: in whose whole multiples cores begin and end.
            scale: of the activation that this reach leads back to; its pixels are 2^scale voxels wide.
        """
        first, last = self.plane(0, 0)[0], self.plane(multiple - 1, multiple - 1)[1]
        needed = max(-(first << scale), ((last + 1) << scale) - multiple)
        return max(0, -(-needed // multiple) * multiple)


_RADIUS: dict[Kernel, Interval] = {"3x3x3": (1, 1), "1x3x3": (0, 1), "1x1x1": (0, 0)}
