"""U-Nets: the published literals, and unpadded geometry."""

import pytest
import torch

from densem.errors import ShapeError
from densem.networks import UNet2D, UNet2DConfig, build, parameters


def small(padding="valid", depth=2):
    return UNet2D(UNet2DConfig(n_classes=2, filters=2, depth=depth), padding=padding)


def test_the_original_has_its_published_size():
    with torch.device("meta"):
        original = UNet2D(UNet2DConfig(n_classes=7), padding="valid")
    assert parameters(original) == 31_030_983
    assert original.output_shape((1, 572, 572)) == (1, 388, 388)


def test_the_unpadded_output_is_what_output_shape_says():
    network = small()
    assert network.output_shape((3, 60, 84)) == (3, 20, 44)
    assert network(torch.randn(1, 1, 3, 60, 84))["semantic"].shape == (1, 2, 3, 20, 44)


def test_the_unpadded_output_is_the_middle_of_the_padded_one():
    torch.manual_seed(0)
    # One pool only: with more, the pooling grids of the two no longer lie on each other.
    valid, same = small("valid", depth=1).double(), small("same", depth=1).double()
    same.load_state_dict(valid.state_dict())
    x = torch.randn(1, 1, 2, 28, 36, dtype=torch.float64)
    torch.testing.assert_close(valid(x)["semantic"], same(x)["semantic"][..., 8:-8, 8:-8])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 62, 60), "expected a side in y and x that is even before each of its 2 pools, found 62"),
        ((1, 60, 36), "a side of 36 leaves no output; give larger patches"),
    ],
)
def test_unpadded_sizes_that_do_not_go_through_are_refused(shape, message):
    with pytest.raises(ShapeError, match=message):
        small().output_shape(shape)


def test_the_padded_form_refuses_what_its_geometry_refuses():
    with pytest.raises(ShapeError, match=r"multiples of \(1, 4, 4\), found \(1, 18, 16\)"):
        small("same")(torch.zeros(1, 1, 1, 18, 16))


def test_the_baseline_at_16_filters():
    network = build("unet-anisotropic", {"n_classes": 5})
    assert parameters(network) == 1_358_325
    assert network.geometry.context == (14, 56, 56)


def test_planar_kernels_pool_nothing_in_z():
    network = build("unet-anisotropic", {"n_classes": 2, "filters": 2, "kernels": ("1x3x3", "1x3x3")})
    assert network.geometry.context[0] == 0
