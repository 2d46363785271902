"""Label schemas: the classes of a study, their ids, colours and class tree.

Ids are 0 to 254; 255 means *unlabelled*: nobody has said what this voxel is. A schema need not have
a background and 0 is not special. Networks have one output channel per class, in ascending order of id.
"""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densem.errors import NotFoundError, SchemaError, nearest

UNLABELLED = 255
"""Label id of voxels nobody has spoken about. Takes part in no loss and no metric."""

_COLORS = (
    *("#000000", "#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0"),
    *("#f032e6", "#bcf60c", "#fabebe", "#008080", "#e6beff", "#9a6324", "#fffac8", "#800000"),
)


class LabelClass(BaseModel):
    """One class of a schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the class, as used in tables and file names")
    id: int = Field(ge=0, le=254, description="the value in label volumes; 255 is reserved")
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$", description="display colour, #rrggbb")
    parent: str | None = Field(default=None, description="the class this one lies in")
    thing: bool = Field(default=False, description="comes in countable objects")
    organelle: bool = Field(default=False, description="counts in the organelle mean")
    background: bool = Field(default=False, description="is outside every object")

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Colour as three integers 0 to 255."""
        return int(self.color[1:3], 16), int(self.color[3:5], 16), int(self.color[5:7], 16)


class LabelSchema(BaseModel):
    """The classes of a study, in ascending order of id."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))

    classes: tuple[LabelClass, ...]

    @model_validator(mode="before")
    @classmethod
    def _accept_table(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("classes"), dict):
            rows = [{"name": name, **entry} for name, entry in data["classes"].items()]
            data = {**data, "classes": rows}
        if isinstance(data, dict) and isinstance(data.get("classes"), list | tuple):
            rows = list(data["classes"])
            key = [r.id if isinstance(r, LabelClass) else r.get("id", 0) for r in rows]
            data = {
                **data,
                "classes": tuple(r for _, r in sorted(zip(key, rows, strict=True), key=lambda p: p[0])),
            }
        return data

    @model_validator(mode="after")
    def _check(self) -> LabelSchema:
        names = [c.name for c in self.classes]
        if len(names) < 2:
            raise ValueError("a schema needs at least two classes")
        columns: list[tuple[list[Any], str]] = [(names, "name"), ([c.id for c in self.classes], "id")]
        for values, what in columns:
            twice = sorted({v for v in values if values.count(v) > 1}, key=str)
            if twice:
                raise ValueError(f"class {what} {twice[0]!r} is used twice")
        for c in self.classes:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _-]*", c.name):
                raise ValueError(f"class name {c.name!r} may hold letters, digits, spaces, '_' and '-' only")
            if c.parent is not None and c.parent not in names:
                raise ValueError(f"class {c.name!r} has the unknown parent {c.parent!r}")
            self._walk_up(c)
        if sum(c.background for c in self.classes) > 1:
            raise ValueError("more than one class is marked as background")
        return self

    def _walk_up(self, start: LabelClass) -> None:
        seen, here = {start.name}, start
        while here.parent is not None:
            if here.parent in seen:
                raise ValueError(f"class {start.name!r} is its own ancestor")
            seen.add(here.parent)
            here = next(c for c in self.classes if c.name == here.parent)

    # ---- views -------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @cached_property
    def ids(self) -> tuple[int, ...]:
        """Class ids, ascending; position in this tuple is the network's output channel."""
        return tuple(c.id for c in self.classes)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Class names in channel order."""
        return tuple(c.name for c in self.classes)

    @property
    def organelle_ids(self) -> tuple[int, ...]:
        """Ids of the classes marked `organelle`."""
        return tuple(c.id for c in self.classes if c.organelle)

    @property
    def background_id(self) -> int | None:
        """Id of the background class, if there is one."""
        return next((c.id for c in self.classes if c.background), None)

    def __getitem__(self, name: str) -> LabelClass:
        """The class of that name."""
        for c in self.classes:
            if c.name == name:
                return c
        raise SchemaError(f"no class {name!r} in the schema.{nearest(name, self.names)}")

    def descendant_ids(self, name: str) -> tuple[int, ...]:
        """Ids of a class and of everything below it in the class tree."""
        inside = {self[name].name}
        while True:
            more = {c.name for c in self.classes if c.parent in inside} - inside
            if not more:
                return tuple(c.id for c in self.classes if c.name in inside)
            inside |= more

    @cached_property
    def channel_of_id(self) -> np.ndarray:
        """Lookup uint8 (256,): label id -> output channel; 255 where the id is no class."""
        table = np.full(256, UNLABELLED, np.uint8)
        table[list(self.ids)] = np.arange(len(self.ids), dtype=np.uint8)
        return table

    @cached_property
    def id_of_channel(self) -> np.ndarray:
        """Lookup uint8 (C,): output channel -> label id."""
        return np.array(self.ids, np.uint8)

    @cached_property
    def rgb_of_id(self) -> np.ndarray:
        """Lookup uint8 (256, 3): label id -> colour; unlabelled and unknown are mid grey."""
        table = np.full((256, 3), 128, np.uint8)
        for c in self.classes:
            table[c.id] = c.rgb
        return table

    # ---- in and out --------------------------------------------------------------------------

    def to_table(self) -> dict[str, Any]:
        """As the `[classes]` table of a TOML file; entries at their default are left out."""
        rows = {}
        for c in self.classes:
            row = c.model_dump(exclude_defaults=True)
            rows[row.pop("name")] = row
        return rows

    def write(self, path: Path) -> None:
        """Write as a schema file."""
        path.write_text(tomli_w.dumps({"classes": self.to_table()}))

    @classmethod
    def from_table(cls, table: Any, where: str) -> LabelSchema:
        """From a `[classes]` table.

        Raises:
            SchemaError: naming `where` and the entry that is wrong.
        """
        if not isinstance(table, dict) or not all(isinstance(row, dict) for row in table.values()):
            raise SchemaError(
                f'{where}: expected a [classes] table such as  background = {{ id = 0, color = "#000000" }}'
            )
        try:
            return cls.model_validate({"classes": table})
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(p) for p in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise SchemaError(f"{where}: schema entry {place or 'classes'}: {message}") from None

    @classmethod
    def from_names(cls, names: list[str]) -> LabelSchema:
        """Classes 0, 1, 2, ... with the given names and distinct colours."""
        rows = {n: {"id": i, "color": _COLORS[i % len(_COLORS)]} for i, n in enumerate(names)}
        if len(rows) != len(names):
            raise SchemaError(f"class names must differ, found {', '.join(names)}")
        return cls.from_table(rows, "--classes")

    @classmethod
    def read(cls, path: Path) -> LabelSchema:
        """From a TOML file with a `[classes]` table."""
        try:
            data = tomllib.loads(Path(path).read_text())
        except OSError as error:
            raise NotFoundError(f"{path}: no schema file there ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"{path}: not a TOML file: {error}") from None
        return cls.from_table(data.get("classes"), str(path))

    @classmethod
    def resolve(cls, word: str) -> LabelSchema:
        """A built-in schema by name, or a schema file by path."""
        if word in BUILTIN:
            return cls.from_table(BUILTIN[word], word)
        if word.endswith(".toml") or "/" in word:
            return cls.read(Path(word))
        raise SchemaError(
            f"--schema {word}: neither a built-in schema nor a .toml file.{nearest(word, list(BUILTIN))}"
        )


BUILTIN: dict[str, dict[str, dict[str, Any]]] = {
    # Colours as in the label files of the published platelet-em release.
    "platelet": {
        "background": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0101e0", "thing": True},
        "mitochondrion": {"id": 2, "color": "#01abfe", "parent": "cell", "thing": True, "organelle": True},
        "alpha_granule": {"id": 3, "color": "#01fe01", "parent": "cell", "thing": True, "organelle": True},
        "canalicular_vessel": {"id": 4, "color": "#ffe000", "parent": "cell", "organelle": True},
        "dense_granule": {"id": 5, "color": "#fa5e00", "parent": "cell", "thing": True, "organelle": True},
        "dense_granule_core": {"id": 6, "color": "#f500cb", "parent": "dense_granule", "organelle": True},
    },
    "membrane": {
        "inside": {"id": 0, "color": "#000000", "background": True},
        "membrane": {"id": 1, "color": "#ffffff"},
    },
}
"""Built-in schemas by name."""
