"""Field: the receptive field of networks that stride along any axis, dilate, pad unevenly or interpolate.

Along each axis an interval [a, b] of an activation is followed back to the interval of the input behind it:

    convolution, stride s, dilation d, side k, p voxels put in front [s a - p, s b - p + d (k - 1)]
    up-sampling, kernel = stride = s                                 [a // s, b // s]
    transposed, h = k // 2, f voxels put in front                    [ceil((a - f - h) / s), (b - f + h) // s]
    linear interpolation by s                                        one more at either end

Where two paths meet, the union counts. A residual connection needs no union: the path around it sees more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from densem.blocks import Triple, triple
from densem.networks.geometry import Geometry, Interval

ONES: Triple = (1, 1, 1)


def _itself(a: int, b: int) -> Interval:
    return a, b


@dataclass(frozen=True)
class Sight:
    """One axis of a field.

    Attributes:
        back: maps an interval [a, b] of the activation to that of the input.
    """

    back: Callable[[int, int], Interval] = _itself

    def convolve(self, side: int, stride: int = 1, dilation: int = 1, before: int | None = None) -> Sight:
        """After a convolution or a pool; `before`: voxels put in front, by default half of the kernel."""
        span = dilation * (side - 1)
        pad = span // 2 if before is None else before
        return Sight(lambda a, b: self.back(a * stride - pad, b * stride - pad + span))

    def up(self, scale: int) -> Sight:
        """After an up-sampling whose kernel is its stride."""
        return Sight(lambda a, b: self.back(a // scale, b // scale))

    def transpose(self, side: int, stride: int) -> Sight:
        """After a transposed convolution that pads with half of its kernel, s - 1 voxels put in front."""
        front, half = stride - 1, side // 2
        return Sight(lambda a, b: self.back(-((front + half - a) // stride), (b - front + half) // stride))

    def interpolate(self, scale: int) -> Sight:
        """After linear interpolation whose voxels keep their outer edges."""
        if scale == 1:
            return self
        first, second = 1 - scale, 2 * scale
        return Sight(lambda a, b: self.back((2 * a + first) // second, (2 * b + first) // second + 1))

    def shift(self, by: int) -> Sight:
        """Of the activation with `by` voxels cut off in front; below zero: put there."""
        return Sight(lambda a, b: self.back(a + by, b + by))

    def join(self, other: Sight) -> Sight:
        """After adding or concatenating another activation of the same scale."""

        def back(a: int, b: int) -> Interval:
            mine, theirs = self.back(a, b), other.back(a, b)
            return min(mine[0], theirs[0]), max(mine[1], theirs[1])

        return Sight(back)

    def radius(self, period: int) -> int:
        """How far the farthest-seeing of `period` voxels in a row sees."""
        seen = ((p, self.back(p, p)) for p in range(period))
        return max(max(p - a, b - p) for p, (a, b) in seen)


@dataclass(frozen=True)
class Field:
    """What an activation depends on, along each axis."""

    axes: tuple[Sight, Sight, Sight] = field(default_factory=lambda: (Sight(), Sight(), Sight()))

    def convolve(self, kernel: Triple, stride: Triple = ONES, dilation: Triple = ONES) -> Field:
        """After a convolution or a pool that pads with half of its kernel."""
        z, y, x = (
            s.convolve(k, t, d) for s, k, t, d in zip(self.axes, kernel, stride, dilation, strict=True)
        )
        return Field((z, y, x))

    def up(self, scale: Triple) -> Field:
        """After an up-sampling whose kernel is its stride."""
        z, y, x = (s.up(n) for s, n in zip(self.axes, scale, strict=True))
        return Field((z, y, x))

    def transpose(self, kernel: Triple, stride: Triple) -> Field:
        """After a transposed convolution."""
        z, y, x = (s.transpose(k, t) for s, k, t in zip(self.axes, kernel, stride, strict=True))
        return Field((z, y, x))

    def interpolate(self, scale: Triple) -> Field:
        """After linear interpolation."""
        z, y, x = (s.interpolate(n) for s, n in zip(self.axes, scale, strict=True))
        return Field((z, y, x))

    def join(self, other: Field) -> Field:
        """After adding or concatenating another activation of the same scale."""
        z, y, x = (s.join(o) for s, o in zip(self.axes, other.axes, strict=True))
        return Field((z, y, x))

    def geometry(self, multiple: Triple) -> Geometry:
        """The geometry of a network with this field at its output, whose sizes are such multiples."""
        radius = triple(s.radius(m) for s, m in zip(self.axes, multiple, strict=True))
        context = triple(-(-r // m) * m for r, m in zip(radius, multiple, strict=True))
        return Geometry(multiple, context, radius)
