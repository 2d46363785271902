"""What joins the pieces of neighbouring tiles, by hand; whole volumes are in test_finding.py and test_mutex.py."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from densem.blocks import Box
from densem.objects import ObjectsOptions, Rules, find_objects
from densem.objects.cutting import Tiling
from densem.objects.pieces import Cut
from densem.objects.stitching import _links
from densem.schema import LabelSchema
from densem.volumes import Volume

LEFT, RIGHT = Box((0, 0, 0), (1, 4, 8)), Box((0, 0, 4), (1, 4, 12))  # both see x from 4 to 7


def cut(box, labels, base=0):
    own = Box((0, 0, 0), (1, 4, 6)) if box is LEFT else Box((0, 0, 6), (1, 4, 12))
    return Cut(1, box, own, box, base, np.asarray(labels, np.int32).reshape(box.shape))


def seen(box, *rows):
    """Rows of the four voxels that both tiles see; 9 beyond them, or 0 where it begins with one."""
    rest = [[9] * 4] * 4
    pair = (rest, rows) if box is LEFT else (rows, rest)
    return cut(box, np.concatenate([np.asarray(p) for p in pair], axis=1), base=0 if box is LEFT else 100)


@pytest.mark.parametrize(
    ("ones", "others", "expected"),
    [
        # the same two pieces
        (([1] * 4, [1] * 4, [2] * 4, [2] * 4), ([5] * 4, [5] * 4, [3] * 4, [3] * 4), {(1, 105), (2, 103)}),
        # a corner of one lies in the other, which has more than twice as much there
        (([1, 1, 2, 2], [2] * 4, [2] * 4, [2] * 4), ([3] * 4, [3] * 4, [3] * 4, [3] * 4), {(2, 103)}),
        # half of the larger one is enough, and both halves may be that
        (([1] * 4, [1] * 4, [2] * 4, [2] * 4), ([3] * 4, [3] * 4, [3] * 4, [3] * 4), {(1, 103), (2, 103)}),
        # less than half of either; background is joined with nothing
        (([1] * 4, [0] * 4, [0] * 4, [0] * 4), ([3, 0, 0, 0], [3] * 4, [0] * 4, [0] * 4), set()),
    ],
)
def test_pieces_are_one_that_share_half_of_the_larger_one(ones, others, expected):
    found = {tuple(map(int, pair)) for pair in _links(seen(LEFT, *ones), seen(RIGHT, *others))}
    assert found == expected


def test_tiles_cut_a_crowd_as_one_pass_does(tmp_path):
    """Crowded bodies in contact: one wrong link between any two tiles would join them on and on."""
    shape, rng = (24, 70, 90), np.random.default_rng(3)
    seeds = np.ones(shape, bool)
    seeds[tuple(rng.integers(0, n, 40) for n in shape)] = False
    nearest = distance_transform_edt(seeds, (20.0, 10.0, 10.0), return_distances=False, return_indices=True)
    ids = np.ravel_multi_index(tuple(nearest), shape)
    inside = np.ones(shape, bool)
    for axis in range(3):  # apart by a voxel's thickness, and in contact at edges and corners
        inside &= np.insert(np.diff(ids, axis=axis) == 0, 0, True, axis=axis)
    schema = LabelSchema.from_table(
        {
            "outside": {"id": 0, "color": "#000000", "background": True},
            "body": {"id": 1, "color": "#01abfe", "thing": True},
        },
        "crowd",
    )
    volume = Volume(inside.astype(np.uint8), (20.0, 10.0, 10.0))
    table = {"body": {"method": "watershed", "h_nm": 10.0}}
    rules = Rules.of(schema, volume.voxel_size_nm, table)
    counts = []
    for name, tiling in {"whole": Tiling(), "tiles": Tiling(1000, (8, 24, 24), (4, 12, 12))}.items():
        found = find_objects(volume, schema, rules, tmp_path / name, ObjectsOptions(tiling=tiling))
        counts.append(len(found.table["id"]))
    assert counts[0] > 20
    assert abs(counts[1] - counts[0]) <= 0.1 * counts[0]
