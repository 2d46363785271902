"""Smoothing: the steps between voxels are taken off a surface, its volume stays.

1. Each coordinate is filtered along the surface with 1 / (1 + (k / k_c)^2), k being an eigenvalue of the
   surface's Laplacian and k_c = (2 pi / wavelength)^2: the least-squares fit of a surface with little
   bending (Tikhonov). Half is left of a wave of that length, nothing of a shorter one, all of long ones.
   The filter is a Chebyshev polynomial of the Laplacian, as in Taubin, Zhang and Golub 1996.
2. By how much thin parts got thinner is how far the surface moved along its normals on average over the
   wavelength: that, filtered in the same way, is undone.
3. Along the surface's normal nothing moves by more than half a voxel, so each part stays where it is.
4. The surface is moved along its normals, everywhere by the same distance, until its volume is that of the
   voxels.

Some of the steps' height would stay if a wave of that length did along one coordinate: all three have the
same wavelength. What lies in the border of the volume stays in it, and nothing gets beyond.

Where the border cuts an object its outline in the middle of the outermost slice is smoothed as a curve of its
own, and the rest of the surface towards it as if it went on beyond turned by half a circle: steps have that
symmetry. From there the surface goes straight to the border, half a slice away: of what lies between nothing
is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from scipy.sparse import csr_array, eye_array

from densem.meshes.mesh import enclosed_volume, normals

Limits = tuple[np.ndarray, np.ndarray]
"""Lowest and highest x, y, z of a volume."""
PRECISION = 1e-4
HIGHEST_DEGREE = 500
THIN = 6.0
"""Wavelengths are at most so many times 2 volume / area, the radius of a tube."""
WAVELENGTH = 10.0
"""The default, in longest sides of a voxel."""


@dataclass(frozen=True)
class Smoothing:
    """How a surface is smoothed.

    Attributes:
        wavelength_nm: waves of that length along the surface are halved; 0 leaves the surface as it is.
    """

    wavelength_nm: float


def smoothed(
    points: np.ndarray,
    faces: np.ndarray,
    border: np.ndarray,
    size: np.ndarray,
    limits: Limits,
    volume_nm3: float,
    smoothing: Smoothing,
) -> np.ndarray:
    """Smooth a closed surface.

    Args:
        points: float64 (N, 3), x, y, z in nm.
        faces: uint32 (M, 3).
        border: bool (N, 3), coordinates that lie in a border of the volume.
        size: sides of a voxel, x, y, z.
        limits: of the volume, lowest and highest x, y, z.
        volume_nm3: that it shall enclose.
        smoothing: how.

    Returns:
        Points, float64 (N, 3).
    """
    area = float(np.linalg.norm(normals(points, faces), axis=1).sum() / 2)
    inner = _inside_border(faces, border)
    moved = points
    if smoothing.wavelength_nm > 0:
        middle = points.mean(axis=0)
        scale = min(smoothing.wavelength_nm, THIN * 2 * volume_nm3 / area)
        laplacian = _laplacian(points, faces, inner, _outermost(points, border, size, limits))
        moved = _filtered(points - middle, laplacian, scale) + middle
        direction = directions(moved, faces)[0]
        shrunk = ((moved - points) * direction).sum(axis=1, keepdims=True)
        moved -= direction * _filtered(shrunk, laplacian, scale)
        moved = points + _limited(moved - points, directions(moved, faces)[0], size / 2)
        moved[inner] = points[inner]
        moved[border] = points[border]
    return with_volume(moved, faces, border | inner[:, None], limits, volume_nm3, float(size.min()))


def _inside_border(faces: np.ndarray, border: np.ndarray) -> np.ndarray:
    """Vertices in the border of the volume, off the rim where the rest of the surface begins: (N,)."""
    kind = border @ np.array([1, 2, 4])
    alike = (kind[faces] == kind[faces[:, :1]]).all(axis=1)
    inside = kind > 0
    inside[faces[~alike].reshape(-1)] = False
    return inside


def _outermost(points: np.ndarray, border: np.ndarray, size: np.ndarray, limits: Limits) -> np.ndarray:
    """Along which axes vertices lie in the middle of an outermost slice, one bit each: (N,)."""
    low, high = limits
    near = np.abs(points - low - size / 2) < size / 4
    near |= np.abs(high - points - size / 2) < size / 4
    return np.where(border.any(axis=1), 0, near @ np.array([1, 2, 4]))


def _laplacian(points: np.ndarray, faces: np.ndarray, inner: np.ndarray, outermost: np.ndarray) -> csr_array:
    """Minus the Laplacian, nm^-2 (N, N), weights one over squared lengths; its rows are zero for `inner`.

    On a grid of any sides it is the sum of second differences: four over the number of neighbours; two in the
    outlines of the outermost slices, where it is that of the curve.
    """
    count = len(points)
    one = faces[:, [0, 1, 2]].reshape(-1).astype(np.int64)
    other = (
        faces[:, [1, 2, 0]].reshape(-1).astype(np.int64)
    )  # of a closed surface each pair in both directions
    used = ~inner[one] & ~inner[other] & (outermost[one] & ~outermost[other] == 0)
    one, other = one[used], other[used]
    weight = 1 / np.square(points[one] - points[other]).sum(axis=1)
    number = np.maximum(np.bincount(one, minlength=count), 1)
    weight = weight * (np.where(outermost > 0, 2, 4) / number)[one]
    total = np.bincount(one, weight, minlength=count)
    rows, columns = np.concatenate([one, np.arange(count)]), np.concatenate([other, np.arange(count)])
    return csr_array((np.concatenate([-weight, total]), (rows, columns)), shape=(count, count))


def _filtered(points: np.ndarray, laplacian: csr_array, wavelength: float) -> np.ndarray:
    """Low-pass filter of each column."""
    top = 2 * float(laplacian.diagonal().max())  # Gershgorin
    if top == 0:
        return points
    first, second, *terms = _terms((2 * np.pi / wavelength) ** 2 / top)
    once = (laplacian * (2 / top) - eye_array(len(points))).tocsr().astype(np.float32)
    before = points.astype(np.float32)
    here = once @ before
    out = np.float32(first) * before + np.float32(second) * here
    once *= np.float32(2)
    for term in terms:
        after = once @ here
        after -= before
        before, here = here, after
        out += np.float32(term) * here
    return out


def _terms(cutoff: float) -> list[float]:
    """Chebyshev coefficients of 1 / (1 + (k / cutoff)^2) for k in 0..1; exactly 1 at k = 0."""
    pole = 2j * cutoff - 1
    root = np.sqrt(pole * pole - 1)
    decay = float(np.log(max(abs(pole + root), abs(pole - root))))
    degree = int(np.clip(np.ceil(-np.log(PRECISION) / decay), 2, HIGHEST_DEGREE))
    found = np.asarray(chebyshev.chebinterpolate(_response, degree, (cutoff,)))
    return list(found / chebyshev.chebval(-1.0, found))


def _limited(moves: np.ndarray, direction: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Moves that leave the box of half a voxel around their start along the surface alone."""
    along = (moves * direction).sum(axis=1)
    most = np.abs(direction) @ half
    return moves - direction * (along - np.clip(along, -most, most))[:, None]


def directions(points: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals at the vertices, (N, 3), and the sums of twice the triangles' normals there, (N, 3)."""
    face = normals(points, faces)
    columns = [np.bincount(faces.reshape(-1), np.repeat(face[:, a], 3), len(points)) for a in range(3)]
    along = np.stack(columns, axis=1)
    length = np.linalg.norm(along, axis=1, keepdims=True)
    return along / np.where(length > 0, length, 1), along


def with_volume(
    points: np.ndarray,
    faces: np.ndarray,
    fixed: np.ndarray,
    limits: Limits,
    volume_nm3: float,
    step: float,
) -> np.ndarray:
    """Move points along their normals, by the same distance, until the volume is as wanted."""
    points = np.clip(points, *limits)
    for _ in range(20):
        missing = volume_nm3 - enclosed_volume(points, faces)
        if abs(missing) <= 1e-6 * volume_nm3:
            break
        direction, along = directions(points, faces)
        way = np.where(fixed, 0, direction)
        gain = float((way * along).sum() / 6)
        if gain <= 0:
            break
        points = np.clip(points + way * np.clip(missing / gain, -step / 4, step / 4), *limits)
    return points


def _response(k: Any, cutoff: float) -> Any:
    """What the filter leaves; k runs from -1 to 1 for eigenvalues from none to the highest."""
    return 1 / (1 + ((1 + k) / 2 / cutoff) ** 2)
