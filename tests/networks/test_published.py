"""Published weights: read without running anything, fitted by name and shape."""

import pickle

import pytest
import torch
from monai.networks.nets.resnet import ResNet, get_medicalnet_pretrained_resnet_args
from safetensors.torch import save_file

from densem.errors import ConfigError, IntegrityError, NotFoundError
from densem.networks import build, load_published
from densem.networks.published import renamed
from densem.networks.residual import ResidualBlock

SMALL = {"n_classes": 3, "filters": 2}


def published(network, prefix="module."):
    """Tensors of a network's ResNet as its authors would have named them, all changed."""
    found = {}
    for name, tensor in network.backbone.state_dict().items():
        parts = name.split(".")
        kind = {"convolution": "conv", "normalization": "bn"}
        if parts[0] == "stem":
            theirs = f"{kind[parts[1]]}1.{parts[2]}"
        else:
            head = f"layer{int(parts[1]) + 1}.{parts[2]}"
            if parts[3] == "shortcut":
                theirs = f"{head}.downsample.{int(parts[4] == 'normalization')}.{parts[5]}"
            else:
                theirs = f"{head}.{kind[parts[5]]}{int(parts[4]) + 1}.{parts[6]}"
        found[prefix + theirs] = (tensor + 1).contiguous()
    return found


@pytest.mark.parametrize(
    "name", ["medicalnet-10", "medicalnet-18", "medicalnet-34", "medicalnet-50", "deeplab-v3plus-18"]
)
def test_every_tensor_of_the_resnet_is_replaced_and_no_other(name, tmp_path):
    network = build(name, SMALL)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    weights = published(network)
    if name.startswith("deeplab"):  # a 2D ResNet has kernels without an axis for slices
        weights = {k: v.squeeze(2) if v.dim() == 5 else v for k, v in weights.items()}
    torch.save({"state_dict": {**weights, "module.fc.weight": torch.zeros(5, 2)}}, tmp_path / "r.pth")
    assert load_published(network, tmp_path / "r.pth") == len(weights)
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key] + 1 if key.startswith("backbone.") else before[key]), key


@pytest.mark.parametrize(("depth", "blocks"), [(10, (1, 1, 1, 1)), (18, (2, 2, 2, 2)), (34, (3, 4, 6, 3))])
def test_names_and_shapes_are_those_of_the_published_networks(depth, blocks, tmp_path):
    """As MONAI builds them for these weights, at width 2."""
    _, kind = get_medicalnet_pretrained_resnet_args(depth)
    theirs = ResNet(
        "basic", blocks, [2, 4, 8, 16], n_input_channels=1, shortcut_type=kind, bias_downsample=False
    ).state_dict()
    torch.save({"state_dict": theirs}, tmp_path / "r.pth")
    network = build(f"medicalnet-{depth}", SMALL)
    load_published(network, tmp_path / "r.pth")
    assert torch.equal(
        network.backbone.stages[1][0].units[0].convolution.weight, theirs["layer2.0.conv1.weight"]
    )


def test_a_connection_without_weights_is_that_of_monai():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 8, 7)
    block = ResidualBlock(
        (3, 6, 6),
        stride=(2, 2, 2),
        dilation=(1, 1, 1),
        kernel=(3, 3, 3),
        normalization="none",
        around="zeros",
    )
    for unit in block.units:
        unit.convolution.weight.data.zero_()
        if unit.convolution.bias is not None:
            unit.convolution.bias.data.zero_()
    theirs = ResNet("basic", (1, 1, 1, 1), [2, 4, 8, 16])._downsample_basic_block(x, 6, 2)
    assert torch.equal(block(x), theirs.relu())


def test_safetensors_without_a_prefix(tmp_path):
    network = build("medicalnet-10", SMALL)
    save_file(published(network, ""), tmp_path / "r.safetensors")
    load_published(network, tmp_path / "r.safetensors")


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("module.conv1.weight", "stem.convolution.weight"),
        ("module.bn1.running_mean", "stem.normalization.running_mean"),
        ("module.layer3.5.conv2.weight", "stages.2.5.units.1.convolution.weight"),
        ("layer4.0.bn3.bias", "stages.3.0.units.2.normalization.bias"),
        ("module.layer2.0.downsample.0.weight", "stages.1.0.shortcut.convolution.weight"),
        ("layer2.0.downsample.1.running_var", "stages.1.0.shortcut.normalization.running_var"),
        ("module.conv_seg.0.weight", ""),
    ],
)
def test_names(theirs, ours):
    assert renamed(theirs) == ours


def test_every_mismatch_is_said_and_nothing_is_changed(tmp_path):
    network = build("medicalnet-10", SMALL)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    weights = published(network)
    weights["module.conv1.weight"] = torch.zeros(4, 1, 7, 7, 7)
    weights["module.layer1.1.conv1.weight"] = torch.zeros(2, 2, 3, 3, 3)
    del weights["module.bn1.bias"]
    torch.save(weights, tmp_path / "r.pth")
    with pytest.raises(ConfigError) as caught:
        load_published(network, tmp_path / "r.pth")
    said = str(caught.value)
    assert "stem.convolution.weight: expected shape (2, 1, 7, 7, 7), found (4, 1, 7, 7, 7)" in said
    assert "stem.normalization.bias is missing" in said
    assert "stages.0.1.units.0.convolution.weight is not part of it" in said
    assert said.endswith("Choose the depth, filters and channels with which they were published")
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Hostile:
    def __reduce__(self):
        return (open, ("/tmp/never-written-by-densem", "w"))


def test_a_file_that_would_run_something_is_not_opened(tmp_path):
    path = tmp_path / "r.pth"
    torch.save({"state_dict": Hostile()}, path)
    with pytest.raises(IntegrityError, match="holds more than tensors, which is not opened"):
        load_published(build("medicalnet-10", SMALL), path)
    path.write_bytes(pickle.dumps({"a": Hostile()}))
    with pytest.raises(IntegrityError):
        load_published(build("medicalnet-10", SMALL), path)
    path.write_bytes(b"not weights")
    with pytest.raises(IntegrityError):
        load_published(build("medicalnet-10", SMALL), path)


def test_what_are_no_weights_is_said(tmp_path):
    network = build("medicalnet-10", SMALL)
    with pytest.raises(NotFoundError, match=r"none\.pth: no weights there"):
        load_published(network, tmp_path / "none.pth")
    torch.save({"state_dict": {"epoch": 3}}, tmp_path / "r.pth")
    with pytest.raises(IntegrityError, match=r"expected a table of tensors by name.* found values of int"):
        load_published(network, tmp_path / "r.pth")
    with pytest.raises(ConfigError, match=r"expected a network with a ResNet .* found UNet2D; leave"):
        load_published(build("unet-2d", SMALL), tmp_path / "r.pth")
