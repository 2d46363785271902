"""Published: weights of a ResNet in the layout its authors published, brought into a network of densem.

    module.layer2.0.conv1.weight         ->  stages.1.0.units.0.convolution.weight
    module.layer2.0.bn1.weight           ->  stages.1.0.units.0.normalization.weight
    module.layer2.0.downsample.0.weight  ->  stages.1.0.shortcut.convolution.weight

1. Tensors are read and nothing is executed: PyTorch's reader of weights alone, or safetensors.
2. Every tensor of the network's ResNet must be there with its shape; what the file has beside the ResNet
   (classifiers) is left away.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from densem.errors import ConfigError, IntegrityError, NotFoundError

SHOWN = 4
"""Mismatches that a message names."""
HEADS = ("conv_seg.", "fc.", "classifier.")
"""Beginnings of published names that do not belong to the ResNet."""


def load_published(network: nn.Module, path: Path | str) -> int:
    """Put published weights into the ResNet of a network.

    Args:
        network: one with a `backbone`; nothing of it is changed if anything is wrong.
        path: a `.pth` of tensors, as they are or under `state_dict`, or a `.safetensors`.

    Returns:
        The number of tensors loaded.

    Raises:
        NotFoundError: no such file.
        IntegrityError: a file that is damaged or holds more than tensors.
        ConfigError: a network without a ResNet, or weights that do not fit it; says which.
    """
    backbone = getattr(network, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise ConfigError(
            f"network.weights: expected a network with a ResNet (deeplab-v3plus, medicalnet), found "
            f"{type(network).__name__}; leave network.weights out"
        )
    path = Path(path)
    given = {ours: tensor for name, tensor in read_tensors(path).items() if (ours := renamed(name))}
    wanted = backbone.state_dict()
    found, wrong = _matched(given, wanted)
    if wrong:
        more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise ConfigError(
            f"{path}: the weights do not fit this network: {'; '.join(wrong[:SHOWN])}{more}. Choose the "
            "depth, filters and channels with which they were published"
        )
    backbone.load_state_dict(found)
    return len(given)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their published names, without executing anything of it."""
    if not path.is_file():
        raise NotFoundError(f"{path}: no weights there; network.weights names a .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the reader, about old ways to write such files
            record = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())[:120]
        raise IntegrityError(
            f"{path}: expected weights, found a file that is damaged or holds more than tensors, which is "
            f"not opened because it could run anything ({line}); get the published file anew"
        ) from None
    found = record.get("state_dict", record) if isinstance(record, dict) else record
    if not isinstance(found, Mapping) or not all(isinstance(v, Tensor) for v in found.values()):
        raise IntegrityError(
            f"{path}: expected a table of tensors by name, as it is or under state_dict, found "
            f"{_kinds(found)}; save network.state_dict() alone"
        )
    return dict(found)


def renamed(name: str) -> str:
    """A published name as this package's ResNet calls it; empty for what does not belong to the ResNet."""
    name = name.removeprefix("module.")
    if name.startswith(HEADS):
        return ""
    for pattern, ours in _RULES:
        name = re.sub(pattern, ours, name)
    return name


_RULES: tuple[tuple[str, Any], ...] = (
    (r"^conv1\.", "stem.convolution."),
    (r"^bn1\.", "stem.normalization."),
    (r"^layer(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    (r"\.conv(\d)\.", lambda m: f".units.{int(m[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda m: f".units.{int(m[1]) - 1}.normalization."),
    (r"\.downsample\.0\.", ".shortcut.convolution."),
    (r"\.downsample\.1\.", ".shortcut.normalization."),
)


def _matched(
    given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """What each tensor of the ResNet becomes, and a sentence for each that does not fit."""
    found, wrong = {}, []
    for name, ours in wanted.items():
        theirs = given.get(name)
        if theirs is None:
            found[name] = ours
            if not name.endswith("num_batches_tracked"):
                wrong.append(f"{name} is missing")
            continue
        if theirs.dim() == 4 and ours.dim() == 5:  # a 2D kernel: one slice
            theirs = theirs.unsqueeze(2)
        if theirs.shape != ours.shape:
            wrong.append(f"{name}: expected shape {tuple(ours.shape)}, found {tuple(theirs.shape)}")
        found[name] = theirs
    wrong += [f"{name} is not part of it" for name in given if name not in wanted]
    return found, wrong


def _kinds(found: Any) -> str:
    if not isinstance(found, Mapping):
        return type(found).__name__
    return "values of " + ", ".join(sorted({type(v).__name__ for v in found.values()}))
