"""Which slices are shown."""

from __future__ import annotations

import numpy as np

from densem.blocks import Box
from densem.report import choose_views
from densem.schema import LabelSchema
from densem.volumes import Volume

SCHEMA = LabelSchema.from_names(["a", "b", "c", "rare"])


def volume(array: np.ndarray) -> Volume:
    return Volume(array.astype(np.uint8), (40.0, 10.0, 8.0))


def test_every_class_is_seen_though_a_rare_one_lies_in_one_slice() -> None:
    truth = np.zeros((37, 20, 30), int)
    truth[:, 5:9] = 1
    truth[30, 10:12] = 2
    truth[22, 3, 4:8] = 3
    shown = {view.start[0] for view in choose_views(volume(truth), SCHEMA, 3)}
    assert {22, 30} < shown


def test_a_slice_that_holds_all_classes_is_enough_and_the_rest_spread_out() -> None:
    truth = np.zeros((40, 20, 30), int)
    truth[20, :, 10:] = np.arange(1, 4).repeat(7)[:20]
    views = choose_views(volume(truth), SCHEMA, 3)
    assert [v.start[0] for v in views] == [0, 20, 39]
    assert all(v.shape == (1, 20, 30) for v in views)


def test_slices_without_labels_are_not_shown() -> None:
    truth = np.full((50, 8, 12), 255)
    truth[[7, 31]] = 0
    assert [v.start[0] for v in choose_views(volume(truth), SCHEMA, 4)] == [7, 31]


def test_large_planes_are_shown_in_part_where_the_rare_class_is() -> None:
    truth = np.zeros((2, 70, 110), int)
    truth[1, 65:, 105:] = 3
    views = choose_views(volume(truth), SCHEMA, 1, side=50)
    assert views == (Box((1, 20, 60), (2, 70, 110)),)


def test_a_volume_of_one_slice_gives_one_view() -> None:
    assert choose_views(volume(np.zeros((1, 8, 12))), SCHEMA, 4) == (Box((0, 0, 0), (1, 8, 12)),)
