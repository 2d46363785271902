"""Plan of a residual-encoder U-Net: depth, strides, kernels from voxel size and patch (Isensee et al., 2024).

1. Starting with the patch, an axis is halved while at least `SMALLEST` voxels are left of it afterwards and
   its voxels are less than twice as long as the shortest among such axes: coarse axes wait for the others.
2. Kernels have 1 voxel along an axis until its voxels are less than twice as long as the shortest, then 3.
3. There is one stage before the first halving and one after each; an axis that alone could be halved needs
   half as much again.
"""

from __future__ import annotations

from dataclasses import dataclass

from densem.blocks import Triple, triple
from densem.networks.field import ONES

SMALLEST = 4
"""Voxels that halving leaves of an axis at the least."""
ALIKE = 2.0
"""Voxels of less than so many times the shortest side count as isotropic."""
ENCODER_BLOCKS = (1, 3, 4, 6)
"""Of the first stages; all further ones have as many as the last of these."""


@dataclass(frozen=True)
class ResEncPlan:
    """What follows from voxel size and patch.

    Attributes:
        strides: of each stage, the first being 1.
        kernels: of each stage.
        blocks: residual blocks of each stage.
    """

    strides: tuple[Triple, ...]
    kernels: tuple[Triple, ...]
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, voxel_size_nm: tuple[float, float, float], patch: Triple) -> ResEncPlan:
        """The plan for patches (z, y, x) of voxels of this size."""
        spacing, size = list(voxel_size_nm), list(patch)
        kernel = _kernel(ONES, spacing)
        strides, kernels = [ONES], [kernel]
        while axes := _halved(spacing, size):
            stride = triple(2 if i in axes else 1 for i in range(3))
            spacing = [s * t for s, t in zip(spacing, stride, strict=True)]
            size = [-(-n // t) for n, t in zip(size, stride, strict=True)]
            kernel = _kernel(kernel, spacing)
            strides.append(stride)
            kernels.append(kernel)
        blocks = [ENCODER_BLOCKS[min(s, len(ENCODER_BLOCKS) - 1)] for s in range(len(strides))]
        return cls(tuple(strides), tuple(kernels), tuple(blocks))


def _halved(spacing: list[float], size: list[int]) -> list[int]:
    """The axes that are halved next."""
    long = [i for i, n in enumerate(size) if n >= 2 * SMALLEST]
    if not long:
        return []
    shortest = min(spacing[i] for i in long)
    axes = [i for i in long if spacing[i] < ALIKE * shortest]
    alone = len(axes) == 1 and size[axes[0]] < 3 * SMALLEST
    return [] if alone else axes


def _kernel(before: Triple, spacing: list[float]) -> Triple:
    """Of the next stage; an axis that has 3 keeps it."""
    return triple(
        3 if k == 3 or s < ALIKE * min(spacing) else 1 for k, s in zip(before, spacing, strict=True)
    )
