"""Model: a trained network ready for a volume, kept as one folder without pickle.

    model.toml            network, schema, voxel size, tile, training summary: readable, and part of the id
    weights.safetensors   the weights
    training/             recipe as run, metrics as JSON lines
    int8/                 the network in 8-bit integers, where `densem quantize` made it

The id is a hash over weights and everything in `model.toml` that changes a prediction. It is
computed again on loading: a folder that was edited by hand is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from densem import __version__, networks
from densem.blocks import Triple, triple
from densem.errors import ConfigError, ExistsError, IntegrityError, NotFoundError, SchemaError, VoxelSizeError
from densem.networks import Geometry
from densem.schema import LabelSchema
from densem.volumes import Intensity
from densem.volumes.volume import Nanometres

FORMAT = 1


LARGEST_WINDOW = 24_000_000
"""Voxels of a core with its context above which a network is run on windows of one fixed size instead."""


class TilePlan(BaseModel):
    """What the network is run on: a core that it yields with the context read around it, or fixed windows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    core: Triple = Field(description="voxels a tile yields, (z, y, x)")
    exact: Triple | None = Field(
        default=None, description="context with which any tiling equals one pass over the whole volume"
    )
    practical: Triple | None = Field(
        default=None, description="smaller context, measured: changes fewer than 5 in 100,000 labels"
    )
    window: Triple | None = Field(
        default=None, description="fixed windows the network is run on, blended where they overlap, (z, y, x)"
    )

    @property
    def context(self) -> Triple | None:
        """The context used by default: practical where it was measured; None if there is no bound."""
        return self.practical or self.exact

    @classmethod
    def default(cls, geometry: Geometry, voxel_size_nm: Nanometres, patch: Triple | None = None) -> TilePlan:
        """About 1.5 million voxels with the context, near-cubic in nm, whole multiples in y and x.

        A network whose context has no bound, or whose core with its context would have more than
        `LARGEST_WINDOW` voxels, is run on windows of the shape of the patches it was trained on.

        Args:
            geometry: of the network.
            voxel_size_nm: (z, y, x).
            patch: shape of the largest patches, (z, y, x).

        Raises:
            ConfigError: if such a network comes without a patch.
        """
        anisotropy = voxel_size_nm[0] / voxel_size_nm[1]
        depth = 16 if anisotropy >= 2 else 64
        side = 128 if anisotropy >= 2 else 64
        multiple = geometry.multiple
        core = triple(-(-n // m) * m for n, m in zip((depth, side, side), multiple, strict=True))
        exact = geometry.context
        if (
            exact is not None
            and math.prod(n + 2 * c for n, c in zip(core, exact, strict=True)) <= LARGEST_WINDOW
        ):
            return cls(core=core, exact=exact)
        if patch is None:
            raise ConfigError(
                "tile: this network sees so far that it is run on windows of one fixed size: expected the "
                "shape of the patches it was trained on, found none; give patch"
            )
        return cls(
            core=core,
            exact=exact,
            window=triple(-(-n // m) * m for n, m in zip(patch, multiple, strict=True)),
        )


class AffinityHead(BaseModel):
    """What a network says beside the classes: whether a voxel and one some way off are of one object.

    Output channel n_classes + k is the logit of voxels p and p + offsets[k] being of the same object.
    Source: Turaga et al., Neural Computation 22 (2010); long offsets: Lee et al., arXiv:1706.00120 (2017).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    offsets: tuple[Triple, ...] = Field(min_length=1, description="in voxels, (z, y, x)")
    classes: tuple[str, ...] = Field(default=(), description="thing classes whose objects were annotated")


@dataclass
class Model:
    """A trained network with all it needs to label a volume.

    Attributes:
        network: maps float32 (N, 1, Z, Y, X) to a dict of logits (N, C, Z, Y, X); in eval mode. With an
            affinity head, `semantic` has a channel for each offset behind those of the classes.
        architecture: its name in `networks.ARCHITECTURES`.
        schema: output channel i is class `schema.ids[i]`.
        voxel_size_nm: (z, y, x) it was trained at.
        tile: tile and context for prediction.
        fingerprint: grey-value statistics of the training volumes, for comparing new ones.
        training: summary of how it was made, as plain values.
        int8: folder of its form in 8-bit integers, if there is one; no part of the id.
        affinities: the affinities it gives beside the classes; None: it gives none.
    """

    network: nn.Module
    architecture: str
    schema: LabelSchema
    voxel_size_nm: Nanometres
    tile: TilePlan
    fingerprint: tuple[Intensity, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    name: str = "model"
    int8: Path | None = None
    affinities: AffinityHead | None = None

    @property
    def geometry(self) -> Geometry:
        """Accepted sizes and context of the network."""
        geometry = self.network.geometry
        assert isinstance(geometry, Geometry)
        return geometry

    def describe(self) -> dict[str, Any]:
        """What `model.toml` says, without the id."""
        config: Any = self.network.config
        return {
            "format": FORMAT,
            "name": self.name,
            "architecture": self.architecture,
            "normalization": "volume",
            "voxel_size_nm": list(self.voxel_size_nm),
            "network": _without_none(config.model_dump(mode="json")),
            "tile": _without_none(self.tile.model_dump(mode="json")),
            **({"affinities": self.affinities.model_dump(mode="json")} if self.affinities else {}),
            "schema": {"classes": self.schema.to_table()},
            "fingerprint": [f.to_dict() for f in self.fingerprint],
            "training": _without_none(self.training),
        }

    @property
    def id(self) -> str:
        """16 hex digits over the weights and all that changes a prediction."""
        return _identity(self.describe(), _hash_weights(self.network.state_dict()))

    def save(self, folder: Path, overwrite: bool = False) -> None:
        """Write the model folder; it appears whole or not at all.

        Raises:
            ExistsError: if the folder is there and `overwrite` is not set.
        """
        if folder.exists() and not overwrite:
            raise ExistsError(f"{folder}: exists already; give another name or --overwrite to replace it")
        part = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        state = {k: v.detach().contiguous().cpu() for k, v in self.network.state_dict().items()}
        save_file(state, part / "weights.safetensors")
        identity = _identity(self.describe(), _hash_weights(state))
        record = {"densem": __version__, "id": identity, **self.describe()}
        (part / "model.toml").write_text(tomli_w.dumps(record))
        shutil.copymode(part / "model.toml", part / "weights.safetensors")  # safetensors: for the owner alone
        if (folder / "training").exists():
            shutil.copytree(folder / "training", part / "training")
        if self.int8 is not None:
            shutil.copytree(self.int8, part / "int8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)

    @classmethod
    def load(cls, folder: Path | str) -> Model:
        """Read a model folder and check it against its id.

        Raises:
            NotFoundError: no model folder.
            ConfigError: an entry of `model.toml` that cannot be read.
            IntegrityError: weights or entries do not match the id.
        """
        folder = Path(folder)
        record = _read_record(folder)
        try:
            network = networks.build(record["architecture"], record["network"])
            head = AffinityHead.model_validate(record["affinities"]) if "affinities" in record else None
            if head is not None:
                networks.widen(network, len(head.offsets))
            state = load_file(folder / "weights.safetensors")
            network.load_state_dict(state)
            model = cls(
                network=network.eval(),
                architecture=record["architecture"],
                schema=LabelSchema.from_table(record["schema"]["classes"], str(folder / "model.toml")),
                voxel_size_nm=_lengths(record["voxel_size_nm"]),
                tile=TilePlan.model_validate(record["tile"]),
                fingerprint=tuple(Intensity.from_dict(f) for f in record["fingerprint"]),
                training=record["training"],
                name=record["name"],
                int8=folder / "int8" if (folder / "int8").is_dir() else None,
                affinities=head,
            )
        except FileNotFoundError as error:
            raise IntegrityError(
                f"{error.filename or folder / 'weights.safetensors'}: expected the model's weights, found no "
                "such file; copy the whole model folder anew"
            ) from None
        except (SafetensorError, RuntimeError, OSError) as error:
            line = " ".join(str(error).split())[:160]
            raise IntegrityError(
                f"{folder}: the weights do not fit model.toml or are damaged ({line}); "
                "copy the model anew or train again"
            ) from None
        except ValidationError as error:
            row = error.errors()[0]
            entry = ".".join(str(part) for part in row["loc"])
            raise ConfigError(f"{folder / 'model.toml'}: wrong entry {entry}: {row['msg']}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{folder / 'model.toml'}: missing or wrong entry: {error}") from None
        if model.id != record.get("id"):
            raise IntegrityError(
                f"{folder}: expected id {record.get('id')}, found {model.id}: model.toml or the weights "
                "were changed after training; copy the model anew or train again"
            )
        return model


class Ensemble:
    """Several models used as one: the mean of their class probabilities."""

    def __init__(self, members: Sequence[Model]) -> None:
        if not members:
            raise ConfigError("an ensemble needs at least one model, found none")
        first = members[0]
        for other in members[1:]:
            if other.schema.to_table() != first.schema.to_table():
                raise SchemaError(
                    f"ensemble: models {first.name!r} and {other.name!r} have different label schemas; "
                    "only models of one schema can be fused"
                )
            if not _close(other.voxel_size_nm, first.voxel_size_nm):
                raise VoxelSizeError(
                    f"ensemble: models {first.name!r} and {other.name!r} were trained at different voxel "
                    f"sizes ({first.voxel_size_nm} and {other.voxel_size_nm} nm)"
                )
        _check_windows(members)
        self.members = tuple(members)

    @property
    def schema(self) -> LabelSchema:
        """The one schema of all members."""
        return self.members[0].schema

    @property
    def voxel_size_nm(self) -> Nanometres:
        """The one voxel size of all members."""
        return self.members[0].voxel_size_nm

    @property
    def tile(self) -> TilePlan:
        """The first member's core, the largest context of all, the fixed windows of those that have them."""
        plans = [m.tile for m in self.members]
        return TilePlan(
            core=plans[0].core,
            exact=_widest([p.exact for p in plans]),
            practical=_widest([p.context for p in plans]),
            window=next((p.window for p in plans if p.window), None),
        )

    @property
    def affinities(self) -> AffinityHead | None:
        """What all members say about pairs of voxels; None if none of them says anything.

        Raises:
            ConfigError: if they say different things, or only some say any.
        """
        first = self.members[0]
        for other in self.members[1:]:
            if other.affinities != first.affinities:
                raise ConfigError(
                    f"ensemble: models {first.name!r} and {other.name!r} have different affinities "
                    f"({_said(first)} and {_said(other)}), which cannot be averaged; give --no-affinities"
                )
        return first.affinities

    @property
    def multiple(self) -> Triple:
        """Sizes that every member accepts are multiples of this."""
        return triple(math.lcm(*(m.geometry.multiple[i] for m in self.members)) for i in range(3))

    @property
    def fingerprint(self) -> tuple[Intensity, ...]:
        """Grey-value statistics of all members' training volumes."""
        return tuple(f for m in self.members for f in m.fingerprint)

    @property
    def id(self) -> str:
        """The model's id; of several, a hash over the ids in order."""
        ids = [m.id for m in self.members]
        return ids[0] if len(ids) == 1 else hashlib.sha256("+".join(ids).encode()).hexdigest()[:16]

    @property
    def name(self) -> str:
        """The members' names joined by `+`."""
        return "+".join(m.name for m in self.members)


def _said(model: Model) -> str:
    head = model.affinities
    return f"{len(head.offsets)} offsets, of {', '.join(head.classes)}" if head else "none"


def _widest(contexts: Sequence[Triple | None]) -> Triple | None:
    """The largest on each axis; None as soon as one has no bound."""
    bounded = [c for c in contexts if c is not None]
    if len(bounded) < len(contexts):
        return None
    return triple(max(c[i] for c in bounded) for i in range(3))


def _check_windows(members: Sequence[Model]) -> None:
    """Members on fixed windows are run on the same ones."""
    fixed = [m for m in members if m.tile.window]
    for other in fixed[1:]:
        if other.tile.window != fixed[0].tile.window:
            raise ConfigError(
                f"ensemble: models {fixed[0].name!r} and {other.name!r} are run on fixed windows of "
                f"different shapes ({fixed[0].tile.window} and {other.tile.window}); only models of one "
                "window can be fused"
            )


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "model.toml"
    if not path.is_file():
        raise NotFoundError(
            f"{folder}: no model there (expected a folder with model.toml and weights.safetensors)"
        )
    try:
        record = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    if record.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: expected format = {FORMAT}, found {record.get('format')!r}; "
            "it was written by another version of densem"
        )
    return record


def _identity(description: dict[str, Any], weights: str) -> str:
    matters = {k: v for k, v in description.items() if k not in ("name", "training", "fingerprint")}
    return hashlib.sha256((weights + json.dumps(matters, sort_keys=True)).encode()).hexdigest()[:16]


def _hash_weights(state: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        array = state[name].detach().contiguous().cpu().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list | tuple):
        return [_without_none(v) for v in value]
    return value


def _lengths(values: Sequence[float]) -> Nanometres:
    z, y, x = values
    return float(z), float(y), float(x)


def _close(a: Nanometres, b: Nanometres, tolerance: float = 0.01) -> bool:
    return all(abs(p - q) <= tolerance * q for p, q in zip(a, b, strict=True))
