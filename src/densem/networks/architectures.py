"""Architectures: the networks by name, and what one costs.

To add one: a file with its config, its module and its geometry, and a line here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from densem.blocks import Triple
from densem.errors import ConfigError, nearest
from densem.networks.deeplab import DeepLab, DeepLabConfig
from densem.networks.deepvess import DeepVess, DeepVessConfig
from densem.networks.hybrid import Hybrid2D3D, HybridConfig
from densem.networks.medicalnet import MedicalNet, MedicalNetConfig
from densem.networks.mednext import MedNeXt, MedNeXtConfig
from densem.networks.planar import DilatedConfig, DilatedPlane, PlaneConfig, ResidualPlane
from densem.networks.resenc import ResEncConfig, ResEncUNet, plan_resenc
from densem.networks.unet import AnisotropicUNet, AnisotropicUNetConfig, UNet2D, UNet2DConfig, UNet2DValid


@dataclass(frozen=True)
class Architecture:
    """A network that can be asked for by name.

    Attributes:
        config: the class of its configs.
        module: the network, made from such a config.
        preset: what the name implies unless the config says otherwise.
        plan: makes entries of the config from a voxel size in nm and the shape of a patch, both (z, y, x).
        source: the paper.
        window: what it is run on where tiles are not exact; a trained model has that of its patches.
    """

    config: type[BaseModel]
    module: type[nn.Module]
    preset: Mapping[str, Any] = field(default_factory=dict)
    plan: Callable[[tuple[float, float, float], Triple], dict[str, Any]] | None = None
    source: str = ""
    window: Triple = (8, 192, 192)


_NO_PYRAMID: dict[str, Any] = {"pyramid": (), "auxiliary": False, "feed": "none"}
_PLANAR: dict[str, Any] = {"volumetric_scales": (), "stem": False}
_UNET_3D: dict[str, Any] = {"filters": 32, "normalization": "none"}
_THIN: dict[str, Any] = {"filters": 32, "slope": 0.01, "normalize_once": True}
_SECTION: Triple = (1, 576, 576)

_SEED = "the reference study: Guay et al., Sci. Rep. 11, 2561 (2021)"
_UNET = "Ronneberger et al., MICCAI 2015"
_CICEK = "Cicek et al., MICCAI 2016"
_DEEPLAB = "Chen et al., ECCV 2018"
_MEDICALNET = "Chen, Ma and Zheng, arXiv:1904.00625 (2019)"

ARCHITECTURES: dict[str, Architecture] = {
    "hybrid-2d3d-333": Architecture(HybridConfig, Hybrid2D3D, source=_SEED),
    "hybrid-2d3d": Architecture(HybridConfig, Hybrid2D3D, _PLANAR, source=_SEED),
    "hybrid-2d3d-no-333": Architecture(
        HybridConfig, Hybrid2D3D, {"volumetric_kernel": "1x3x3"}, source=_SEED
    ),
    "hybrid-2d3d-no-auxiliary": Architecture(HybridConfig, Hybrid2D3D, {"auxiliary": False}, source=_SEED),
    "hybrid-2d3d-no-pyramid": Architecture(HybridConfig, Hybrid2D3D, _NO_PYRAMID, source=_SEED),
    "hybrid-2d": Architecture(HybridConfig, Hybrid2D3D, {**_PLANAR, **_NO_PYRAMID}, source=_SEED),
    "unet-anisotropic": Architecture(AnisotropicUNetConfig, AnisotropicUNet, source=_CICEK),
    "unet-2d": Architecture(UNet2DConfig, UNet2D, source=_UNET),
    "unet-2d-valid": Architecture(UNet2DConfig, UNet2DValid, source=_UNET),
    "unet-3d": Architecture(AnisotropicUNetConfig, AnisotropicUNet, _UNET_3D, source=_CICEK),
    "unet-3d-1x3x3": Architecture(
        AnisotropicUNetConfig, AnisotropicUNet, {**_UNET_3D, "kernels": ("1x3x3",) * 4}, source=_SEED
    ),
    "thin-unet-3d": Architecture(AnisotropicUNetConfig, AnisotropicUNet, _THIN, source=_SEED),
    "residual-2d": Architecture(PlaneConfig, ResidualPlane, source=_SEED),
    "dilated-2d": Architecture(DilatedConfig, DilatedPlane, source=_SEED),
    "deeplab-v3plus": Architecture(DeepLabConfig, DeepLab, source=_DEEPLAB, window=_SECTION),
    "deeplab-v3plus-50": Architecture(
        DeepLabConfig, DeepLab, {"depth": 50}, source=_DEEPLAB, window=_SECTION
    ),
    "deeplab-v3plus-18": Architecture(
        DeepLabConfig, DeepLab, {"depth": 18}, source=_DEEPLAB, window=_SECTION
    ),
    "deepvess": Architecture(DeepVessConfig, DeepVess, source="Haft-Javaherian et al., PLoS ONE 14 (2019)"),
    "medicalnet-10": Architecture(MedicalNetConfig, MedicalNet, {"depth": 10}, source=_MEDICALNET),
    "medicalnet-18": Architecture(MedicalNetConfig, MedicalNet, {"depth": 18}, source=_MEDICALNET),
    "medicalnet-34": Architecture(MedicalNetConfig, MedicalNet, {"depth": 34}, source=_MEDICALNET),
    "medicalnet-50": Architecture(MedicalNetConfig, MedicalNet, {"depth": 50}, source=_MEDICALNET),
    "resenc-unet": Architecture(
        ResEncConfig, ResEncUNet, plan=plan_resenc, source="Isensee et al., MICCAI 2024"
    ),
    "mednext": Architecture(MedNeXtConfig, MedNeXt, source="Roy et al., MICCAI 2023"),
}


def build(architecture: str, config: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised network.

    Args:
        architecture: a name in `ARCHITECTURES`.
        config: `n_classes` and whatever differs from the preset of that name.

    Raises:
        ConfigError: for an unknown name or entry, or a value that cannot be.
    """
    if architecture not in ARCHITECTURES:
        hint = nearest(architecture, tuple(ARCHITECTURES))
        raise ConfigError(f"network: no architecture is called {architecture!r}.{hint}")
    entry = ARCHITECTURES[architecture]
    try:
        made = entry.config.model_validate({**entry.preset, **config})
    except ValidationError as error:
        raise ConfigError(_explain(architecture, entry, error)) from None
    return entry.module(made)


def parameters(network: nn.Module) -> int:
    """Number of trainable values."""
    return sum(p.numel() for p in network.parameters())


def mflop_per_voxel(network: nn.Module) -> float:
    """Arithmetic of one forward pass, in millions of multiplications and additions per voxel of input.

    A multiplication and its addition count as two; only convolutions are counted, at their full kernel.
    """
    probe = copy.deepcopy(network).to("meta").eval()
    shape = probed(network)
    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        transposed = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
        places = inputs[0] if transposed else output
        counted[0] += 2 * module.weight.numel() * math.prod(places.shape[2:])

    for m in probe.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            m.register_forward_hook(count)
    dtype = next(probe.parameters()).dtype
    with torch.no_grad():
        probe(torch.empty((1, 1, *shape), device="meta", dtype=dtype))
    return counted[0] / math.prod(shape) / 1e6


def probed(network: nn.Module) -> Triple:
    """(z, y, x) on which the arithmetic is counted: so wide that mirrored borders count for little."""
    z, y, x = network.geometry.multiple  # type: ignore[union-attr, misc]
    return 4 * z, 128 * y, 128 * x


def _explain(architecture: str, entry: Architecture, error: ValidationError) -> str:
    """Every complaint about a config on one line."""
    known = tuple(entry.config.model_fields)
    said = []
    for e in error.errors():
        where = ".".join(str(part) for part in e["loc"])
        if e["type"] == "extra_forbidden":
            said.append(f"no entry is called {where!r}.{nearest(where, known)}")
        elif e["type"] == "missing":
            said.append(f"{where} is missing; give it")
        else:
            message = e["msg"].removeprefix("Value error, ")
            said.append(f"{where}: {message}, found {e['input']!r}" if where else message)
    return f"network {architecture}: {'; '.join(said)}"
