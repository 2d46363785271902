"""Fixed windows: every voxel's value depends on the shapes of volume and window alone."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import EXACT, SCHEMA, VOXEL_SIZE, chunk_files, make_model, make_volume

from densem import networks
from densem.blocks import Box
from densem.errors import ConfigError
from densem.inference import label_volume, measure_context, predict, predict_box
from densem.inference.fixed_windows import DEPTH, ROOM, FixedWindows, WindowAxis
from densem.inference.labeller import Labeller, tiling_for
from densem.inference.options import PredictOptions
from densem.model import LARGEST_WINDOW, Ensemble, Model, TilePlan
from densem.networks import Geometry

WINDOW = (1, 32, 48)
FP32 = PredictOptions(precision="fp32", device="cpu")


def make_windowed(architecture="deeplab-v3plus-18", window=WINDOW, seed=0, **config):
    """A model that looks at its whole window; its labels are well mixed."""
    torch.manual_seed(seed)
    network = networks.build(architecture, {"n_classes": len(SCHEMA), "filters": 2, **config})
    x = torch.randn(1, 1, *(4 * m for m in network.geometry.multiple))
    networks.reestimate_normalization(network, [x, x + 1])
    with torch.no_grad():
        logits = network.eval()(x)["semantic"]
        network.head.weight.div_(logits.std() / 3)
        network.head.bias.sub_(logits.mean((0, 2, 3, 4)) / logits.std() * 3)
    return Model(
        network=network.eval(),
        architecture=architecture,
        schema=SCHEMA,
        voxel_size_nm=VOXEL_SIZE,
        tile=TilePlan(core=(4, 16, 16), window=window),
        name=architecture,
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    return make_windowed()


@pytest.fixture(scope="module")
def volume():
    return make_volume((2, 69, 70))


# ---- where windows lie -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "side", "multiple", "starts"),
    [
        (96, 32, 16, [0, 16, 32, 48, 64]),
        (112, 48, 16, [0, 16, 32, 48, 64]),  # half a window, in whole multiples
        (80, 64, 16, [0, 16]),  # the last ends with the volume
        (32, 32, 16, [0]),
        (5, 1, 1, [0, 1, 2, 3, 4]),
        (7, 3, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_windows_literally(n, side, multiple, starts):
    axis = WindowAxis(n, side, multiple)
    assert axis.meeting(0, n) == starts
    assert axis.count == len(starts)


axes = st.builds(
    lambda n, side, m: WindowAxis(max(n, side) * m, side * m, m),
    st.integers(1, 40),
    st.integers(1, 12),
    st.integers(1, 8),
)


@settings(max_examples=60, deadline=None)
@given(axes, st.data())
def test_shares_add_up_to_one_and_every_window_that_meets_a_range_is_found(axis, data):
    total = np.zeros(axis.n)
    every = axis.meeting(0, axis.n)
    for start in every:
        total[start : start + axis.side] += axis.shares(start)
        assert (axis.shares(start) > 0).all()
        assert start % axis.multiple == 0
    np.testing.assert_allclose(total, 1, atol=1e-6)
    first = data.draw(st.integers(0, axis.n - 1))
    stop = data.draw(st.integers(first + 1, axis.n))
    assert axis.meeting(first, stop) == [s for s in every if s < stop and s + axis.side > first]


def test_a_tent_by_hand():
    axis = WindowAxis(6, 4, 1)  # windows at 0 and 2: tents 1 2 2 1 . . and . . 1 2 2 1
    np.testing.assert_allclose(axis.shares(0), [1, 1, 2 / 3, 1 / 3], atol=1e-6)
    np.testing.assert_allclose(axis.shares(2), [1 / 3, 2 / 3, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "window", "core"),
    [
        ((50, 2000, 2000), (1, 576, 576), (DEPTH, 576, 576)),
        ((100, 700, 900), (16, 160, 160), (16, 320, 904)),
        ((5, 85, 110), (1, 32, 48), (5, 96, 112)),
    ],
)
def test_cores_are_as_large_as_there_is_room(shape, window, core):
    multiple = (1, 8, 8) if window[0] > 1 else (1, 16, 16)
    tiling = FixedWindows.over(shape, window, multiple)
    assert tiling.core == core
    assert math.prod(core) <= ROOM


def test_the_arithmetic_is_counted():
    tiling = FixedWindows.over((5, 85, 110), WINDOW, (1, 16, 16), (2, 32, 48))
    cores = list(tiling.grid)
    counted = sum(len(list(tiling.parts(c))) for c in cores) * math.prod(WINDOW)
    assert tiling.overhead == pytest.approx(counted / (5 * 85 * 110))
    assert sum(tiling.run_on(c) for c in cores) == counted


# ---- what a voxel is given -------------------------------------------------------------------


def blended_whole(model, volume, side):
    """The oracle: every window over the whole volume, one after the other; float32 (C, Z, Y, X)."""
    raw = volume.read().astype(np.float32)
    image = (raw - np.float32(volume.intensity.mean)) / np.float32(volume.intensity.std)
    multiple = model.geometry.multiple
    image = np.pad(image, [(0, -n % m) for n, m in zip(raw.shape, multiple, strict=True)], mode="reflect")
    starts = []
    for n, s, m in zip(image.shape, side, multiple, strict=True):
        step = max(m, s // 2 // m * m)
        starts.append(sorted({min(a, n - s) for a in range(0, n - s + step, step)}))
    tents = [np.minimum(np.arange(s) + 1, s - np.arange(s)).astype(float) for s in side]
    weight = tents[0][:, None, None] * tents[1][:, None] * tents[2]
    total, weights = np.zeros((len(SCHEMA), *image.shape)), np.zeros(image.shape)
    for corner in itertools.product(*starts):
        at = tuple(slice(a, a + s) for a, s in zip(corner, side, strict=True))
        with torch.no_grad():
            logits = model.network(torch.from_numpy(image[at])[None, None])["semantic"][0]
        total[(slice(None), *at)] += torch.softmax(logits, 0).numpy() * weight
        weights[at] += weight
    z, y, x = raw.shape
    return (total / weights)[:, :z, :y, :x]


@pytest.mark.parametrize(
    ("architecture", "window", "config"),
    [
        ("deeplab-v3plus-18", WINDOW, {}),
        (
            "mednext",
            (4, 16, 24),
            {"strides": ((1, 2, 2), (2, 2, 2)), "blocks": (1, 1, 1), "expansion": (1, 1, 1)},
        ),
    ],
)
def test_a_voxel_is_the_mean_of_the_windows_over_it(architecture, window, config):
    model = make_windowed(architecture, window, **config)
    volume = make_volume((5, 45, 60) if window[0] > 1 else (2, 53, 70))
    found = predict_box(model, volume, options=FP32)
    np.testing.assert_allclose(found, blended_whole(model, volume, window), atol=1e-5)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_a_volume_smaller_than_the_window_is_one_window(model):
    volume = make_volume((2, 21, 33))
    found = predict_box(model, volume, options=FP32)
    np.testing.assert_allclose(found, blended_whole(model, volume, (1, 32, 48)), atol=1e-5)


def test_the_same_bytes_whatever_the_core_the_block_and_the_workers(model, volume, tmp_path):
    saved = FP32.model_copy(update={"save": ("probabilities",)})
    predict(model, volume, tmp_path / "a", saved)
    whole = {n: predict_read(tmp_path / "a", n) for n in ("classes", "confidence", "probabilities")}
    assert len(np.unique(whole["classes"])) > 2
    cores = [((2, 32, 48), None, 1), ((2, 32, 48), (2, 64, 96), 2), ((1, 48, 80), None, 2)]
    for number, (core, block, workers) in enumerate(cores):
        changed = {"core": core, "block": block, "workers": workers}
        predict(model, volume, tmp_path / str(number), saved.model_copy(update=changed))
        for name, values in whole.items():
            np.testing.assert_array_equal(predict_read(tmp_path / str(number), name), values)
    assert chunk_files(tmp_path / "0") == chunk_files(tmp_path / "1")  # same tiles: the very same files


def predict_read(folder, name):
    import zarr

    return np.asarray(zarr.open_group(folder / f"{name}.zarr", mode="r")["s0"])


def test_a_box_is_cut_out_of_the_whole(model, volume):
    box = Box((1, 20, 33), (2, 50, 70))
    whole = predict_box(model, volume, options=FP32)
    np.testing.assert_array_equal(predict_box(model, volume, box, FP32), whole[:, *box.slices])
    expected = np.array(SCHEMA.ids)[whole.argmax(0)]
    np.testing.assert_array_equal(label_volume(model, volume, box, FP32), expected[box.slices])


def test_a_streaming_network_joins_an_ensemble_on_its_windows(model, volume):
    exact = make_model("planar")
    found = predict_box(Ensemble([model, exact]), volume, options=FP32)
    alone = predict_box(model, volume, options=FP32)
    windowed = make_model("planar")
    windowed.tile = TilePlan(core=(4, 16, 16), exact=exact.tile.exact, window=WINDOW)
    other = predict_box(Ensemble([windowed, windowed]), volume, options=FP32)
    assert isinstance(tiling_for(Ensemble([model, exact]), volume.shape, FP32), FixedWindows)
    multiple = tiling_for(Ensemble([windowed]), volume.shape, FP32).multiple
    if multiple == model.geometry.multiple:  # then both are on the same windows
        np.testing.assert_allclose(found, (alone + other) / 2, atol=1e-5)


def test_a_bounded_network_on_windows_is_exact_when_asked(volume):
    exact = make_model("planar")
    windowed = make_model("planar")
    windowed.tile = TilePlan(core=exact.tile.core, exact=exact.tile.exact, window=WINDOW)
    np.testing.assert_array_equal(
        predict_box(windowed, volume, options=EXACT), predict_box(exact, volume, options=EXACT)
    )


# ---- plans and messages ----------------------------------------------------------------------


def test_a_network_without_a_bound_is_run_on_windows_of_its_patches():
    plan = TilePlan.default(Geometry((1, 16, 16), None), VOXEL_SIZE, (1, 300, 200))
    assert plan.window == (1, 304, 208)
    assert plan.exact is None
    assert plan.context is None


def test_a_network_that_sees_too_far_too():
    far = Geometry((4, 32, 32), (136, 768, 768))
    assert TilePlan.default(far, VOXEL_SIZE, (16, 160, 160)).window == (16, 160, 160)
    assert TilePlan.default(far, VOXEL_SIZE, (16, 160, 160)).exact == (136, 768, 768)
    near = Geometry((1, 8, 8), (12, 80, 80))
    assert TilePlan.default(near, VOXEL_SIZE, (16, 160, 160)).window is None
    assert LARGEST_WINDOW > 16 * 288 * 288


def test_saved_and_loaded_it_stays_the_same(model, tmp_path):
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.tile == model.tile
    assert again.id == model.id


def test_it_has_no_practical_context_to_measure(model, volume):
    assert measure_context(model, volume) == model.tile


def test_what_cannot_be_is_said(model, volume):
    with pytest.raises(ConfigError) as caught:
        Labeller.of(model, volume, EXACT)
    assert str(caught.value) == (
        "--context exact: model 'deeplab-v3plus-18' looks at its whole window, so that it has no context; it is run "
        "on windows of 1 32 48; leave it out"
    )
    with pytest.raises(ConfigError, match="--context 1 2 3: model"):
        Labeller.of(model, volume, FP32.model_copy(update={"context": (1, 2, 3)}))
    with pytest.raises(ConfigError, match="expected the shape of the patches it was trained on, found none"):
        TilePlan.default(Geometry((1, 16, 16), None), VOXEL_SIZE)
    with pytest.raises(
        ConfigError, match=r"fixed windows of different shapes \(\(1, 32, 48\) and \(1, 48, 48\)\)"
    ):
        Ensemble([model, make_windowed(window=(1, 48, 48))])
