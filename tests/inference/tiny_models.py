"""Small models of the hybrid family with random weights, and small volumes; all three sides differ."""

import hashlib

import numpy as np
import torch
import torch.nn.functional as F

from densem import networks
from densem.inference import PredictOptions
from densem.inference.prepared import torch_threads
from densem.model import Model, TilePlan
from densem.schema import LabelSchema
from densem.volumes import Intensity, Volume, ome_zarr, open_volume

VOXEL_SIZE = (40.0, 10.0, 8.0)
SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 3, "color": "#000000"},
        "cell": {"id": 7, "color": "#0101e0"},
        "membrane": {"id": 8, "color": "#ff0000"},
        "granule": {"id": 21, "color": "#00ff00"},
    },
    "test",
)
SMALL = {"filters": 3, "depth": 1, "convs_per_block": 1, "volumetric_scales": (0,)}
CONFIGS = {
    "whole-family": ("hybrid-2d3d-333", {**SMALL, "pyramid": (1, 1), "normalization": "batch"}),
    "deeper": ("hybrid-2d3d-333", {**SMALL, "depth": 2, "volumetric_scales": (1,), "pyramid": (2,)}),
    "no-pyramid": ("hybrid-2d3d-no-pyramid", SMALL),
    "planar": ("hybrid-2d", {**SMALL, "volumetric_scales": ()}),
}
EXACT = PredictOptions(context="exact", precision="fp32", device="cpu")


def make_model(config="no-pyramid", seed=0, core=(4, 16, 24), practical=None, name="tiny"):
    """A model whose labels are well mixed: weights are random, logits are spread."""
    torch.manual_seed(seed)
    architecture, entries = CONFIGS[config]
    network = networks.build(architecture, {"n_classes": len(SCHEMA), **entries})
    _spread(network)
    return Model(
        network=network.eval(),
        architecture=architecture,
        schema=SCHEMA,
        voxel_size_nm=VOXEL_SIZE,
        tile=TilePlan(core=core, exact=network.geometry.context, practical=practical),
        name=name,
    )


@torch.no_grad()
def _spread(network):
    """Give normalisations statistics worth folding, and all classes about equal shares.

    On one thread: on some processors the last bits, and so the model's id, go by the number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x = torch.randn(1, 1, 4, 32, 32, generator=torch.Generator().manual_seed(5))
    networks.reestimate_normalization(network, [x])
    head = network.head_2d if network.head_3d is None else network.head_3d
    logits = network.eval()(x)["semantic"]
    mean, gain = logits.mean(dim=(0, 2, 3, 4)), 2 / logits.std(dim=(0, 2, 3, 4))
    head.weight.mul_(gain.view(-1, *[1] * (head.weight.dim() - 1)))
    head.bias.copy_((head.bias - mean) * gain)
    torch.set_num_threads(threads)


def make_volume(shape=(7, 53, 70), seed=0, voxel_size_nm=VOXEL_SIZE):
    """A uint8 volume of smooth noise, with its statistics."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=shape)
    for axis in (1, 2):
        noise = noise + np.roll(noise, 1, axis)
    array = np.clip(120 + 30 * noise, 0, 255).astype(np.uint8)
    values = array.astype(float)
    intensity = Intensity(values.mean(), values.std(), 0, 255, 1, 254, 1.0)
    return Volume(array, voxel_size_nm, attributes={"intensity": intensity.to_dict(), "id": f"volume-{seed}"})


def write_volume(volume, path):
    """The volume as an OME-Zarr that another process can open."""
    array = ome_zarr.create(path, volume.shape, volume.dtype)
    array[:] = volume.read()
    part = ome_zarr.temporary(path)
    ome_zarr.describe(part, [("s0", volume.voxel_size_nm)], volume.offset_nm, volume.attributes)
    ome_zarr.finish(path)
    return open_volume(path)


def with_(options, **changes):
    """The same options but for these."""
    return options.model_copy(update=changes)


def chunk_files(folder):
    """Digest of every chunk file of every level of every output of a prediction."""
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.glob("*.zarr/s*/c/**/*"))
        if p.is_file()
    }


def whole_pass(model, volume):
    """Class probabilities of one pass over the whole volume, float32 (C, Z, Y, X): the oracle."""
    raw = volume.read().astype(np.float32)
    image = (raw - np.float32(volume.intensity.mean)) / np.float32(volume.intensity.std)
    pad = [(0, -n % m) for n, m in zip(raw.shape, model.geometry.multiple, strict=True)]
    x = torch.from_numpy(np.pad(image, pad, mode="reflect"))[None, None]
    with torch.no_grad():
        logits = model.network.eval()(x)["semantic"][0]
    z, y, x_side = raw.shape
    return torch.softmax(logits[:, :z, :y, :x_side].float(), dim=0).numpy()


def scene(shape, generator):
    """Noisy grey values (1, 1, Z, Y, X) of four bands of a smooth field, and the bands."""
    coarse = torch.randn(1, 1, shape[0], shape[1] // 8, shape[2] // 8, generator=generator)
    field = F.interpolate(coarse, size=shape, mode="trilinear")
    truth = torch.bucketize(field, torch.tensor([-0.4, 0.0, 0.4]))[:, 0]
    return field * 2 + 0.2 * torch.randn(field.shape, generator=generator), truth


def train_on_scenes():
    """A tiny network that has learnt, for some seconds, to tell four bands of grey in noise."""
    torch.manual_seed(1)
    config = {"n_classes": 4, "filters": 6, "depth": 1, "convs_per_block": 1, "volumetric_scales": (0,)}
    network = networks.build("hybrid-2d3d-no-pyramid", {**config, "normalization": "batch"}).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    generator = torch.Generator().manual_seed(0)
    with torch_threads(1):
        for _ in range(60):
            x, truth = scene((3, 32, 32), generator)
            loss = F.cross_entropy(network(x)["semantic"], truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        networks.reestimate_normalization(network, [scene((4, 64, 64), generator)[0] for _ in range(4)])
    x, truth = scene((8, 64, 64), generator)
    with torch.no_grad():
        right = (network(x)["semantic"].argmax(1) == truth).float().mean()
    assert right > 0.7
    return network
