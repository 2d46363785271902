"""study.toml: the classes of a study, its volumes with their roles, and who was made from what.

The file is plain TOML that a person can read and put under version control. Paths inside the study
are relative to it. Every change re-reads the file under a lock and replaces it whole.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from densem.blocks import lock
from densem.errors import ConfigError, InputError, NotFoundError, ResourceError, nearest
from densem.schema import LabelSchema

FORMAT = 1
Role = Literal["train", "eval", "test", "unlabelled"]
ROLES: tuple[str, ...] = get_args(Role)
MAIN = "main"
"""What the annotation without an annotator's name is called where several are spoken of."""


class VolumeEntry(BaseModel):
    """One volume of a study."""

    model_config = ConfigDict(extra="forbid")

    role: Role = Field(description="what the volume is for")
    image: str = Field(
        description="path of the image, relative to the study; absolute where it is referred to"
    )
    semantic: str | None = Field(default=None, description="path of the class ids")
    objects: str | None = Field(default=None, description="path of the object ids")
    annotators: dict[str, str] | None = Field(
        default=None, description="annotator -> path of the class ids, of further annotations"
    )
    voxel_size_nm: tuple[float, float, float] | None = Field(
        default=None, description="for an image that is referred to and stores no voxel size"
    )
    protocols: list[str] | None = Field(
        default=None, description="how the data set it belongs to has it scored: labelled, cells"
    )

    @property
    def referred(self) -> bool:
        """Whether the image lies outside the study and is not densem's to change."""
        return Path(self.image).is_absolute()


class ModelEntry(BaseModel):
    """One trained model: what it was made from."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    id: str = Field(description="the model's id")
    recipe: str = Field(description="the recipe it was trained by")
    trained_on: dict[str, str] = Field(
        default_factory=dict, description="volume name -> ids of image and labels"
    )
    evaluated_on: dict[str, str] = Field(default_factory=dict, description="the same for validation")


class PredictionEntry(BaseModel):
    """One prediction: which models labelled which volume."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    models: list[str] = Field(description="names of the models")
    model_id: str = Field(description="id of the model or ensemble")
    volume: str = Field(description="name of the volume")
    volume_id: str = Field(description="id of its image")


class ObjectsEntry(BaseModel):
    """The objects of a prediction or of the labels of a volume."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(description="prediction or labels")
    name: str = Field(description="name of the prediction, or of the volume whose labels they are of")
    volume: str = Field(description="name of the volume")
    classes_id: str = Field(description="id of the class ids they were made from")


class Manifest(BaseModel):
    """The content of study.toml."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    name: str
    schema_: LabelSchema
    volumes: dict[str, VolumeEntry] = Field(default_factory=dict)
    models: dict[str, ModelEntry] = Field(default_factory=dict)
    predictions: dict[str, PredictionEntry] = Field(default_factory=dict)
    objects: dict[str, ObjectsEntry] = Field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read study.toml.

        Raises:
            NotFoundError: no study there.
            ConfigError: naming the entry that is wrong.
        """
        try:
            data = tomllib.loads(path.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(
                f"{path.parent}: no study there (expected a study.toml); "
                f"make one with  densem new {path.parent}"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: not a TOML file: {error}") from None
        if data.pop("format", None) != FORMAT:
            raise ConfigError(
                f"{path}: expected format = {FORMAT}; it was written by another version of densem"
            )
        schema = LabelSchema.from_table(data.pop("classes", None), str(path))
        try:
            return cls.model_validate({**data, "schema_": schema})
        except ValidationError as error:
            raise ConfigError(f"{path}: {_first(error)}") from None

    def write(self, path: Path) -> None:
        """Replace study.toml whole."""
        data = self.model_dump(mode="json", exclude={"schema_"}, exclude_none=True)
        if not self.objects:
            del data["objects"]  # a study without any stays readable for versions that know none
        record = {"format": FORMAT, "name": data.pop("name"), "classes": self.schema_.to_table(), **data}
        part = path.with_name(f".{path.name}.part")
        part.write_text(tomli_w.dumps(record))
        os.replace(part, path)


def _first(error: ValidationError) -> str:
    row = error.errors()[0]
    place = ".".join(str(p) for p in row["loc"])
    value = row.get("input")
    hint = nearest(str(value), ROLES) if row["loc"][-1] == "role" else ""
    return f"entry {place}: {row['msg']}, found {value!r}.{hint}"


@contextmanager
def locked(path: Path) -> Iterator[Manifest]:
    """The manifest, to be changed; written back when the block ends without an error."""
    with _lock(path.with_name(".study.lock")):
        manifest = Manifest.read(path)
        yield manifest
        manifest.write(path)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        lock.take(handle, wait=True)
        yield


@contextmanager
def claimed(folder: Path, what: str, instead: str = "give another --name") -> Iterator[None]:
    """A folder that one process at a time works in; the message tells what it does, and what to do instead.

    Raises:
        ResourceError: if another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        if not lock.take(handle):
            raise ResourceError(f"{folder}: another densem process is {what}; wait for it, or {instead}")
        yield


def check_name(name: str, what: str) -> str:
    """A name that can be a file name inside the study.

    Raises:
        InputError: if it is empty, hidden, or could lead out of its folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name) or len(name) > 100:
        raise InputError(
            f"{what} name {name!r}: expected letters, digits, '.', '_', '+' and '-', "
            "starting with a letter or digit (it becomes a folder inside the study)"
        )
    return name


def check_role(role: str) -> Any:
    """One of the roles.

    Raises:
        ConfigError: naming the nearest one.
    """
    if role not in ROLES:
        raise ConfigError(f"--role {role}: expected one of {', '.join(ROLES)}.{nearest(role, ROLES)}")
    return role
