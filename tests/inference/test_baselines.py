"""Baselines as models: saved and loaded, and where tiles are exact, any tiles equal one pass over the whole."""

import numpy as np
import pytest
import torch
from tiny_models import EXACT, SCHEMA, VOXEL_SIZE, make_volume, whole_pass

from densem import networks
from densem.errors import ConfigError
from densem.inference import predict_box
from densem.inference.runtime import Runtime
from densem.inference.shown import Shown
from densem.model import Model, TilePlan
from densem.networks import ARCHITECTURES
from densem.networks.streaming import Ends

SHALLOW = {
    "unet-2d-valid": {"depth": 2},
    "residual-2d": {"depth": 2},
    "dilated-2d": {"blocks": 3},
    "thin-unet-3d": {"kernels": ("3x3x3", "3x3x3")},
    "resenc-unet": {
        "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
        "kernels": ((1, 3, 3), (1, 3, 3), (3, 3, 3)),
        "blocks": (1, 1, 1),
    },
    "mednext": {
        "strides": ((1, 2, 2), (2, 2, 2)), "blocks": (1, 1, 1), "expansion": (1, 1, 1), "normalization": "batch",
    },
}  # fmt: skip
TILED = ["unet-2d-valid", "residual-2d", "dilated-2d", "thin-unet-3d", "deepvess", "resenc-unet", "mednext"]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make(architecture, window=None):
    torch.manual_seed(1)
    config = {"n_classes": len(SCHEMA), "filters": 2, **SHALLOW.get(architecture, {})}
    network = networks.build(architecture, config)
    multiple = network.geometry.multiple
    shape = (multiple[0], 208, 208) if architecture == "unet-2d-valid" else (4 * m for m in multiple)
    networks.reestimate_normalization(network, [torch.randn(2, 1, *shape)])
    return Model(
        network=network.eval(),
        architecture=architecture,
        schema=SCHEMA,
        voxel_size_nm=VOXEL_SIZE,
        tile=TilePlan.default(network.geometry, VOXEL_SIZE, (1, 16, 16)),
        name=architecture,
    )


@pytest.mark.parametrize("architecture", TILED)
def test_any_tiles_equal_one_pass_over_the_whole_volume(architecture):
    model = make(architecture)
    volume = make_volume((11, 93, 74), seed=1)
    assert model.tile.window is None
    assert max(n - 2 * c for n, c in zip(volume.shape, model.tile.exact, strict=True)) > 0
    expected = whole_pass(model, volume)
    found = predict_box(model, volume, options=EXACT.model_copy(update={"core": (8, 64, 48)}))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_saved_and_loaded_it_answers_the_same(architecture, tmp_path):
    model = make(architecture)
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.network.config == model.network.config
    assert again.tile == model.tile
    x = torch.randn(1, 1, *(max(16, m) if i else m for i, m in enumerate(model.geometry.multiple)))
    with torch.no_grad():
        torch.testing.assert_close(again.network(x)["semantic"], model.network(x)["semantic"], rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ["deepvess", "deeplab-v3plus-18", "medicalnet-10"])
def test_openvino_computes_the_same_for_any_shape(architecture):
    pytest.importorskip("openvino")
    network = make(architecture).network
    plain, graph = (Runtime.choose("cpu", "fp32", b).prepare(network) for b in ("torch", "openvino"))
    for times in [(1, 3, 4), (2, 5, 3)]:
        x = torch.randn(1, 1, *(n * m for n, m in zip(times, network.geometry.multiple, strict=True)))
        shown = Shown(x[0, 0].numpy())
        with torch.no_grad():
            expected, found = (
                torch.cat(list(made.slabs(shown, Ends())), 1) if made.streams else made.whole(x)
                for made in (plain, graph)
            )
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_network_whose_borders_depend_on_its_size_is_no_graph():
    pytest.importorskip("openvino")
    with pytest.raises(ConfigError) as caught:
        Runtime.choose("cpu", "fp32", "openvino").prepare(make("unet-2d-valid").network)
    assert str(caught.value) == (
        "--runtime openvino: UNet2DValid does what depends on the size of a window, which no graph holds; give "
        "--runtime torch"
    )
