import pytest
from tiny_models import EXACT, make_model, make_volume

from densem.inference import label_volume, measure_context
from densem.inference.context import LIMIT, ContextOptions, choose, report_context
from densem.inference.tiles import Tiling

OPTIONS = ContextOptions(voxels=30_000, predict=EXACT)


@pytest.fixture(scope="module")
def measured():
    """A model that looks far in theory and near in practice, and what was measured."""
    model = make_model("deeper", seed=3, core=(4, 16, 24))
    volume = make_volume((13, 72, 100), seed=1)
    return model, volume, report_context(model, volume, OPTIONS)


def test_the_measured_context_holds_on_the_whole_volume(measured):
    model, volume, report = measured
    exact = label_volume(model, volume, options=EXACT)
    options = EXACT.model_copy(update={"context": report.plan.practical})
    changed = (label_volume(model, volume, options=options) != exact).mean()
    assert changed < 10 * LIMIT
    assert report.changed < LIMIT


def test_it_is_no_larger_than_exact_and_a_multiple(measured):
    model, _, report = measured
    z, y, x = report.plan.practical
    assert z <= model.tile.exact[0]
    assert y <= model.tile.exact[1]
    assert y % 8 == 0 or y == model.tile.exact[1]
    assert x == y
    assert report.plan.exact == model.tile.exact
    assert report.plan.core == model.tile.core


def test_a_smaller_one_was_tried_and_changed_too_much(measured):
    _, _, report = measured
    found = report.plan.practical
    smaller = [
        share
        for tried, share in report.tried
        if tried != found and all(a <= b for a, b in zip(tried, found, strict=True))
    ]
    assert smaller
    assert all(share >= LIMIT for share in smaller)


def test_measuring_is_repeatable(measured):
    model, volume, report = measured
    assert report_context(model, volume, OPTIONS) == report


def test_a_planar_network_needs_no_neighbouring_slices():
    model = make_model("planar", core=(2, 16, 24))
    assert measure_context(model, make_volume((5, 50, 70)), OPTIONS).practical[0] == 0


def test_axes_without_neighbours_keep_the_exact_context():
    model = make_model("no-pyramid", core=(4, 16, 24))
    plan = measure_context(model, make_volume((3, 50, 20)), OPTIONS)
    assert plan.practical[0] == model.tile.exact[0]
    assert plan.practical[2] == model.tile.exact[2]


def test_tiles_with_neighbours_on_all_sides_come_first():
    tiling = Tiling((12, 48, 72), (4, 16, 24), (4, 8, 8), (1, 2, 2))
    cores = choose(tiling, 3 * 4 * 16 * 24, seed=0)
    assert len(cores) == 3
    assert cores[0].start == (4, 16, 24)
    assert cores == choose(tiling, 3 * 4 * 16 * 24, seed=0)
