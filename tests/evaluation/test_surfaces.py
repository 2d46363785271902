"""Surface points and their areas: literals by hand, and equal areas whatever the block."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from densem.blocks import Box
from densem.evaluation.surfaces import (
    joined,
    lattice_grid,
    patch_areas,
    positions,
    surfaces_of_box,
)

Z, Y, X = VOXELS = (40.0, 10.0, 5.0)


def code(*corners: tuple[int, int, int]) -> int:
    """The number of a set of filled voxels among the eight."""
    return sum(1 << (4 * z + 2 * y + x) for z, y, x in corners)


CORNERS = list(itertools.product((0, 1), repeat=3))


def test_areas_of_plane_patches_by_hand() -> None:
    areas = patch_areas(VOXELS)
    assert (areas[0], areas[255]) == (0, 0)
    assert areas[code(*(c for c in CORNERS if c[0] == 0))] == Y * X  # a boundary that faces z
    assert areas[code(*(c for c in CORNERS if c[1] == 1))] == Z * X
    assert areas[code(*(c for c in CORNERS if c[2] == 0))] == Z * Y
    # a row of two along x: a strip from the middle of an edge in z to the middle of one in y
    assert areas[code((0, 0, 0), (0, 0, 1))] == pytest.approx(X * np.hypot(Z / 2, Y / 2))
    # one voxel: the triangle through the middles of three edges
    triangle = np.array([[Z / 2, 0, 0], [0, Y / 2, 0], [0, 0, X / 2]])
    expected = np.linalg.norm(np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0])) / 2
    assert areas[code((1, 0, 1))] == pytest.approx(expected)


def test_a_class_and_its_complement_have_the_same_surface_and_parts_add_up() -> None:
    areas = patch_areas(VOXELS)
    assert np.array_equal(areas, areas[::-1])
    one = areas[code((0, 0, 0))]
    assert areas[code((0, 0, 0), (1, 1, 1))] == pytest.approx(2 * one)
    assert areas[code((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))] == pytest.approx(4 * one)
    assert (areas[1:255] > 0).all()


def surface(labels: np.ndarray, block: tuple[int, int, int] = (64, 64, 64), hidden: int = 255):  # type: ignore[no-untyped-def]
    def read(box: Box) -> tuple[np.ndarray, ...]:
        part = labels[box.slices]
        return part, part == hidden

    grid = lattice_grid(labels.shape, block)
    found = [surfaces_of_box(read, labels.shape, box, [1])[0][0] for box in grid]
    return joined([part for part in found if len(part)])


def test_the_surface_of_a_cuboid_by_hand() -> None:
    labels = np.zeros((7, 9, 11), np.uint8)
    labels[1:4, 2:7, 3:9] = 1  # 3 x 5 x 6 voxels
    found = surface(labels)
    z, y, x = 2, 4, 5  # corners between the voxels of a side, without its ends
    sides = 2 * (y * x * Y * X + z * x * Z * X + z * y * Z * Y)
    edges = 4 * (z * Z * np.hypot(Y, X) / 2 + y * Y * np.hypot(Z, X) / 2 + x * X * np.hypot(Z, Y) / 2)
    corners = np.linalg.norm([Y * X, Z * X, Z * Y])
    assert patch_areas(VOXELS)[found.codes].sum() == pytest.approx(sides + edges + corners)
    places = positions(found.places, labels.shape, VOXELS)
    assert places.min(axis=0).tolist() == [0 * Z, 1 * Y, 2 * X]
    assert places.max(axis=0).tolist() == [3 * Z, 6 * Y, 8 * X]


@pytest.mark.parametrize("block", [(1, 1, 1), (2, 3, 5), (5, 8, 4)])
def test_blocks_find_the_surface_of_the_whole(block: tuple[int, int, int]) -> None:
    labels = np.random.default_rng(2).integers(0, 3, (6, 9, 8)).astype(np.uint8)
    whole, parts = surface(labels), surface(labels, block)
    assert np.array_equal(whole.places, parts.places)
    assert np.array_equal(whole.codes, parts.codes)


def test_the_edge_of_a_volume_is_no_boundary_and_a_single_slice_has_no_top() -> None:
    assert len(surface(np.ones((4, 5, 6), np.uint8))) == 0
    labels = np.zeros((1, 4, 6), np.uint8)
    labels[:, :, 4:] = 1
    found = surface(labels)
    assert len(found) == 3
    assert patch_areas(VOXELS)[found.codes].sum() == 3 * Z * Y


def test_corners_that_touch_a_voxel_that_is_not_scored_do_not_count() -> None:
    labels = np.zeros((2, 5, 6), np.uint8)
    labels[:, :, 3:] = 1  # a boundary at x = 2.5, four corners long
    assert len(surface(labels)) == 4
    labels[0, 0, 2] = 255
    found = positions(surface(labels).places, labels.shape, VOXELS)
    assert found[:, 1].tolist() == [1 * Y, 2 * Y, 3 * Y]  # no corner at y = 0, and none around the voxel
