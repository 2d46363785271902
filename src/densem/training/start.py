"""Start: a trained model whose weights a run begins with, in place of random ones.

Its network is the one that is trained further, so its width and kernels are decided by it.
"""

from __future__ import annotations

from typing import Any

from densem import networks
from densem.errors import ConfigError, SchemaError, VoxelSizeError
from densem.model import Model
from densem.schema import LabelSchema
from densem.training.recipe import AUTO, Recipe


def begun_with(
    start: Model, recipe: Recipe, schema: LabelSchema, voxel_size_nm: tuple[float, float, float]
) -> Recipe:
    """The recipe with what it leaves open in its network decided by the model that training begins with.

    Args:
        start: the model.
        recipe: how it is to be trained further.
        schema: classes of the labels.
        voxel_size_nm: of the training volumes, (z, y, x).

    Raises:
        ConfigError: if the recipe trains another network, or other affinities.
        SchemaError: if the model knows other classes.
        VoxelSizeError: if it was trained at voxels that differ by more than 10 %.
    """
    where = f"beginning with model {start.name!r}"
    _check_classes(where, start, schema)
    _check_voxel_size(where, start, voxel_size_nm)
    asked, theirs = recipe.network, _config_of(start)
    if asked.architecture != start.architecture:
        raise ConfigError(
            f"{where}: expected a recipe for its network, {start.architecture}, found one for "
            f"{asked.architecture}; train it by the recipe it was made by, or begin with random weights"
        )
    fixed = {key: value for key, value in asked.config.items() if value != AUTO}
    built = networks.ARCHITECTURES[start.architecture].config(**{**theirs, **fixed}).model_dump(mode="json")
    for key in asked.config:
        if built[key] != theirs[key]:
            raise ConfigError(
                f"{where}: expected network.config.{key} = {theirs[key]}, as it has, found {built[key]}; "
                "leave it out, or begin with random weights"
            )
    config = {key: value for key, value in theirs.items() if key != "n_classes" and value is not None}
    network = asked.model_copy(update={"config": config, "weights": ""})
    decided = recipe.model_copy(update={"network": network})
    offsets = start.affinities.offsets if start.affinities else ()
    if decided.planned(voxel_size_nm).offsets != offsets:
        expected = "with its affinities" if offsets else "without affinities"
        raise ConfigError(
            f"{where}: expected a recipe {expected}, found another; train it by the recipe it was made "
            "by, or begin with random weights"
        )
    return decided


def _config_of(start: Model) -> dict[str, Any]:
    config: Any = start.network.config
    found: dict[str, Any] = config.model_dump(mode="json")
    return found


def _check_classes(where: str, start: Model, schema: LabelSchema) -> None:
    if (start.schema.names, start.schema.ids) != (schema.names, schema.ids):
        raise SchemaError(
            f"{where}: expected the classes {', '.join(start.schema.names)}, which it knows, found "
            f"{', '.join(schema.names)}; begin with random weights"
        )


def _check_voxel_size(where: str, start: Model, voxel_size_nm: tuple[float, float, float]) -> None:
    pairs = zip(voxel_size_nm, start.voxel_size_nm, strict=True)
    if any(abs(a - b) > 0.1 * b for a, b in pairs):
        raise VoxelSizeError(
            f"{where}: expected voxels of {start.voxel_size_nm} nm within 10 %, at which it was trained, "
            f"found {voxel_size_nm} nm; resample the volumes, or begin with random weights"
        )
