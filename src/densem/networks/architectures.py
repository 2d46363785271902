"""Architectures: the networks by name, and what one costs.

To add one: a file with its config, its module and its geometry, and a line here.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from densem.errors import ConfigError, nearest
from densem.networks.hybrid import Hybrid2D3D, HybridConfig
from densem.networks.unet import AnisotropicUNet, AnisotropicUNetConfig, UNet2D, UNet2DConfig


@dataclass(frozen=True)
class Architecture:
    """A network that can be asked for by name.

    Attributes:
        config: the class of its configs.
        module: the network, made from such a config.
        preset: what the name implies unless the config says otherwise.
    """

    config: type[BaseModel]
    module: type[nn.Module]
    preset: Mapping[str, Any] = field(default_factory=dict)


_NO_PYRAMID: dict[str, Any] = {"pyramid": (), "auxiliary": False, "feed": "none"}
_PLANAR: dict[str, Any] = {"volumetric_scales": (), "stem": False}

ARCHITECTURES: dict[str, Architecture] = {
    "hybrid-2d3d-333": Architecture(HybridConfig, Hybrid2D3D),
    "hybrid-2d3d": Architecture(HybridConfig, Hybrid2D3D, _PLANAR),
    "hybrid-2d3d-no-333": Architecture(HybridConfig, Hybrid2D3D, {"volumetric_kernel": "1x3x3"}),
    "hybrid-2d3d-no-auxiliary": Architecture(HybridConfig, Hybrid2D3D, {"auxiliary": False}),
    "hybrid-2d3d-no-pyramid": Architecture(HybridConfig, Hybrid2D3D, _NO_PYRAMID),
    "hybrid-2d": Architecture(HybridConfig, Hybrid2D3D, {**_PLANAR, **_NO_PYRAMID}),
    "unet-anisotropic": Architecture(AnisotropicUNetConfig, AnisotropicUNet),
    "unet-2d": Architecture(UNet2DConfig, UNet2D),
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
    shape = tuple(4 * n for n in probe.geometry.multiple)  # type: ignore[union-attr]
    counted = [0]

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module.weight, Tensor)
        places = inputs[0] if isinstance(module, nn.ConvTranspose2d) else output
        counted[0] += 2 * module.weight.numel() * math.prod(places.shape[2:])

    for m in probe.modules():
        if isinstance(m, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
            m.register_forward_hook(count)
    dtype = next(probe.parameters()).dtype
    with torch.no_grad():
        probe(torch.empty((1, 1, *shape), device="meta", dtype=dtype))
    return counted[0] / math.prod(shape) / 1e6


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
