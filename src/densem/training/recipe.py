"""Recipes: TOML files that say how a model is trained.

A recipe is a name of a packaged file or a path. Any value can be overridden as `section.key=value`; what no
section knows is refused with the nearest key that exists.
"""

from __future__ import annotations

import copy
import math
import tomllib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tomli_w
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from densem import networks
from densem.blocks import Triple
from densem.errors import ConfigError, NotFoundError, nearest
from densem.sampling import Augmentation, ErrorWeights, Patches
from densem.training.affinities import default_offsets

AUTO = "auto"
SET_BY_TRAINING = ("n_classes",)
NEXT = ((1, 0, 0), (0, 1, 0), (0, 0, 1))


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NetworkChoice(_Section):
    """Which network is trained."""

    architecture: str = Field(default="hybrid-2d3d-333", description="name of an architecture")
    config: dict[str, Any] = Field(
        default_factory=dict,
        description='entries of its config; filters may be "auto": see [auto]; so may strides of a network '
        "that plans itself",
    )
    weights: str = Field(
        default="", description="file of published weights for its ResNet (.pth, .safetensors); empty: none"
    )


class Auto(_Section):
    """How `filters = "auto"` and the patches are decided: the widest network that still gets enough steps."""

    filters: tuple[int, ...] = Field(
        default=(8, 12, 16, 24, 32), min_length=1, description="widths, ascending"
    )
    steps: int = Field(default=800, ge=1, description="steps the time budget must allow")
    sides: tuple[int, int] = Field(
        default=(96, 256), description="smallest and largest in-plane side that patches may be given"
    )
    otherwise: int = Field(default=16, ge=1, description="width where there is no time budget")


class Loss(ErrorWeights):
    """What is minimised: weighted cross-entropy, and with soft targets the divergence from these."""

    auxiliary: float = Field(default=0.33, ge=0, description="share of the loss of the 2D head")
    soft: float = Field(
        default=0.7, ge=0, le=1, description="share of the soft targets in a distillation; else unused"
    )
    temperature: float = Field(
        default=1.0,
        gt=0,
        description="softens both sides in a distillation; above 1, small probabilities count",
    )


class Affinities(_Section):
    """A further output: whether a voxel and one some way off are of one object (docs/training.md)."""

    share: float = Field(
        default=0.0, ge=0, description="of the affinities in the loss; 0: the network has no such output"
    )
    offsets: tuple[Triple, ...] = Field(
        default=(), description="in voxels, z y x each; none given: next and farther ones along each axis"
    )

    @field_validator("offsets")
    @classmethod
    def _apart(cls, offsets: tuple[Triple, ...]) -> tuple[Triple, ...]:
        if any(not any(o) for o in offsets) or len(set(offsets)) < len(offsets):
            raise ValueError("expected different offsets, none of them (0, 0, 0)")
        if offsets and {tuple(map(abs, o)) for o in offsets}.isdisjoint(NEXT):
            raise ValueError("expected some between neighbours, such as [0, 0, 1], which join voxels")
        return offsets


class Optimizer(_Section):
    """How weights are changed."""

    name: Literal["adamw", "adam", "muon"] = Field(
        default="adamw", description="algorithm; muon: orthogonalised momentum for kernels, Adam for the rest"
    )
    lr: float = Field(default=2e-3, gt=0, description="largest learning rate")
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="decay of the moment estimates")
    eps: float = Field(default=1e-8, gt=0, description="added to the denominator")
    weight_decay: float = Field(default=1e-2, ge=0, description="shrinking of convolution weights")
    clip: float = Field(default=1.0, ge=0, description="largest gradient norm; 0 = no limit")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of the activations; auto: bfloat16 where the processor computes with it"
    )


class Schedule(_Section):
    """How long, how the learning rate runs, and what is done on the way."""

    steps: int = Field(default=20_000, ge=1, description="steps where no time budget is given")
    shape: Literal["cosine", "constant"] = Field(
        default="cosine", description="of the learning rate after the warm-up"
    )
    warmup: int = Field(default=50, ge=0, description="steps of linear rise of the learning rate")
    final: float = Field(default=0.01, ge=0, le=1, description="last learning rate as a share of the largest")
    ema: float = Field(
        default=0.99, ge=0, lt=1, description="decay of the averaged weights; 0 = no averaging"
    )
    frozen: float = Field(
        default=0.0, ge=0, lt=1, description="last share of the steps in which batch statistics stay fixed"
    )
    validations: int = Field(default=5, ge=0, description="validations on the eval volume, evenly spread")
    probe_patches: int = Field(
        default=16, ge=1, description="patches for re-estimating batch statistics at a validation"
    )
    final_patches: int = Field(
        default=100, ge=1, description="patches for re-estimating batch statistics at the end"
    )
    checkpoint_minutes: float = Field(default=2.0, gt=0, description="longest time a kill can cost")
    restarts: int = Field(
        default=3, ge=0, description="how often a collapsed run starts again with another seed"
    )


class Recipe(_Section):
    """Everything that decides a training run beside the volumes and the seed."""

    description: str = Field(default="", description="what the recipe is for")
    network: NetworkChoice = NetworkChoice()
    auto: Auto = Auto()
    patches: Patches = Patches()
    augmentation: Augmentation = Augmentation()
    loss: Loss = Loss()
    affinities: Affinities = Affinities()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()

    @classmethod
    def load(cls, name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
        """Read a packaged recipe by name or a file by path, with overrides `section.key=value`.

        Raises:
            NotFoundError: no such recipe.
            ConfigError: an unknown key, a wrong value, or an override that is none.
        """
        text, where = _text(str(name_or_path))
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where}: not a TOML file: {error}") from None
        return cls.from_table(table, where, overrides)

    @classmethod
    def of_model(cls, training: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> Recipe:
        """The recipe that a model was trained by, for as many steps as that took, with overrides.

        Args:
            training: the model's summary.
            name: of the model, for messages.
            overrides: section.key=value.

        Raises:
            ConfigError: if it does not say so.
        """
        if not {"recipe", "steps"} <= training.keys():
            raise ConfigError(f"model {name!r} does not say how it was trained; give --recipe")
        table = copy.deepcopy(training["recipe"])
        table["schedule"]["steps"] = training["steps"]
        return cls.from_table(table, f"model {name}", overrides)

    @classmethod
    def from_table(cls, table: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> Recipe:
        """From the table of a TOML file, with overrides; `where` is for messages."""
        table = copy.deepcopy(table)
        for override in overrides:
            _override(table, override)
        try:
            recipe = cls.model_validate(table)
        except ValidationError as error:
            raise _explain(error, where) from None
        recipe._check_network(where)
        return recipe

    def _check_network(self, where: str) -> None:
        """Refuse architectures and network entries that do not exist."""
        architecture = self.network.architecture
        if architecture not in networks.ARCHITECTURES:
            known = nearest(architecture, list(networks.ARCHITECTURES))
            raise ConfigError(f"{where}: network.architecture: no network is called {architecture!r}.{known}")
        fields = networks.ARCHITECTURES[architecture].config.model_fields
        for key in self.network.config:
            if key not in fields:
                valid = [f"network.config.{f}" for f in fields]
                raise _unknown(f"network.config.{key}", valid, where)
            if key in SET_BY_TRAINING:
                raise ConfigError(
                    f"{where}: network.config.{key} follows from the label schema; leave it out"
                )
        if not self.is_auto and not self.is_unplanned:
            with torch.device("meta"):
                self.build_network(2)

    def build_network(self, n_classes: int) -> Any:
        """The untrained network for that many classes."""
        made = networks.build(self.network.architecture, {**self.network.config, "n_classes": n_classes})
        return networks.widen(made, len(self.offsets)) if self.offsets else made

    @property
    def offsets(self) -> tuple[Triple, ...]:
        """Of the affinities that the network is to learn; none where it learns none."""
        return self.affinities.offsets if self.affinities.share else ()

    def with_filters(self, filters: int) -> Recipe:
        """The same recipe with the width decided."""
        config = {**self.network.config, "filters": filters}
        return self.model_copy(update={"network": self.network.model_copy(update={"config": config})})

    @property
    def is_unplanned(self) -> bool:
        """Whether the network is still to be planned from voxel size and patch."""
        plans = networks.ARCHITECTURES[self.network.architecture].plan is not None
        return plans and self.network.config.get("strides") == AUTO

    def planned(self, voxel_size_nm: tuple[float, float, float]) -> Recipe:
        """The same recipe with all decided that follows from the size of voxels (z, y, x): offsets of
        affinities, and a network that plans itself."""
        if self.affinities.share and not self.affinities.offsets:
            chosen = self.affinities.model_copy(update={"offsets": default_offsets(voxel_size_nm)})
            return self.model_copy(update={"affinities": chosen}).planned(voxel_size_nm)
        plan = networks.ARCHITECTURES[self.network.architecture].plan
        if plan is None or not self.is_unplanned:
            return self
        config = {**self.network.config, **plan(voxel_size_nm, self.largest_patch)}
        return self.model_copy(update={"network": self.network.model_copy(update={"config": config})})

    @property
    def largest_patch(self) -> Triple:
        """The patch shape (z, y, x) with most voxels."""
        return max(self.patches.shapes, key=math.prod)

    @property
    def is_auto(self) -> bool:
        """Whether the width is still to be decided."""
        return self.network.config.get("filters") == AUTO

    def to_toml(self) -> str:
        """As a TOML file with every value written out."""
        return tomli_w.dumps(self.model_dump(mode="json"))


def names() -> list[str]:
    """Names of the packaged recipes."""
    folder = resources.files("densem.training") / "recipes"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def keys(section: type[BaseModel] = Recipe, prefix: str = "") -> dict[str, str]:
    """Every dotted key of a recipe and its description."""
    found: dict[str, str] = {}
    for name, entry in section.model_fields.items():
        kind = entry.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found |= keys(kind, f"{prefix}{name}.")
        else:
            found[prefix + name] = entry.description or ""
    return found


def _text(name: str) -> tuple[str, str]:
    if name in names():
        return (resources.files("densem.training") / "recipes" / f"{name}.toml").read_text(), f"recipe {name}"
    path = Path(name)
    if path.is_file():
        return path.read_text(), str(path)
    if path.suffix == ".toml" or "/" in name:
        raise NotFoundError(f"{name}: no recipe file there")
    raise NotFoundError(
        f"recipe {name!r}: neither a packaged recipe nor a .toml file.{nearest(name, names())}"
    )


def _override(table: dict[str, Any], override: str) -> None:
    """Set one `section.key=value` in a table; the value is read as TOML, else as text."""
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(f"--set {override}: expected section.key=value, such as optimizer.lr=0.001")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    for part in parts[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise _unknown(key.strip(), list(keys()), f"--set {override}")
    table[parts[-1]] = value


def _explain(error: ValidationError, where: str) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown(key, list(keys()), where)
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{where}: {key}: {message}, found {first['input']!r}")


def _unknown(key: str, known: list[str], where: str) -> ConfigError:
    """The refusal of a key; the hint looks at sections or whole keys, then at last parts."""
    sections = sorted({k.rpartition(".")[0] for k in known})
    hint = nearest(key, known if "." in key else sections)
    if hint.startswith(" Known"):
        last = {k.rsplit(".", 1)[-1]: k for k in known}
        close = nearest(key.rsplit(".", 1)[-1], list(last))
        name = close.split("'")[1] if "Did you mean" in close else None
        hint = f" Did you mean {last[name]!r}?" if name else hint
    return ConfigError(f"{where}: no key {key!r}.{hint}")
