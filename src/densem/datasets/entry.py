"""Dataset: what is known of a published data set, as one TOML file says it.

    [volumes.NAME]                       facts: role, shape, dtype, protocols
    [[packagings.P.archives]]            files to download: urls, bytes, checksum
    [packagings.P.volumes.NAME]          which member holds the image, the labels, the objects of a volume
    [packagings.P.phantoms.NAME]         or: the synthetic volume that is made instead

What is not known is left out and listed under `unknown`; nothing here is a guess.
"""

from __future__ import annotations

import re
import tomllib
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from densem.blocks import Triple
from densem.datasets.checksum import Checksum
from densem.errors import ConfigError, DensemError, nearest
from densem.schema import BUILTIN, LabelSchema
from densem.volumes.palettes import Palette

FORMAT = 1
SCHEMES = ("https", "http", "file")
NAME = r"[A-Za-z0-9][A-Za-z0-9._+-]*"

Role = Literal["train", "eval", "test", "unlabelled"]
ProtocolName = Literal["labelled", "cells"]
Encoding = Literal["ids", "colours", "run-length", "mask"]
Nanometres = tuple[float, float, float]


class _Part(BaseModel):
    """A part of a registry file: unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ignored_types=(cached_property,))


class Archive(_Part):
    """A file to download."""

    file: str = Field(description="its name on disk; the ending says what it is: .zip, .tar.gz, or plain")
    urls: tuple[str, ...] = Field(default=(), description="where it is; a path is beside the TOML file")
    bytes: int | None = Field(default=None, gt=0, description="exact size, if it is known")
    stated_size: str | None = Field(default=None, description="the size its page states, such as 95.3 MB")
    checksum: str | None = Field(default=None, description="algorithm:hex, if one was published")
    source: str | None = Field(default=None, description="where size and checksum are known from")

    @field_validator("file")
    @classmethod
    def _plain_name(cls, file: str) -> str:
        if not re.fullmatch(NAME, file):
            raise ValueError("expected a plain file name without folders")
        return file

    @field_validator("urls")
    @classmethod
    def _known_schemes(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            scheme = urlsplit(url).scheme
            if scheme and scheme not in SCHEMES:
                raise ValueError(f"expected an address that begins with {', '.join(SCHEMES)}, found {url}")
        return urls

    @field_validator("checksum")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return _checked_checksum(text)

    @property
    def expected(self) -> Checksum | None:
        """The published checksum."""
        return Checksum.parse(self.checksum) if self.checksum else None

    @property
    def size(self) -> str:
        """Its size, for people."""
        if self.bytes is not None:
            return f"{self.bytes / 1e6:.1f} MB"
        return self.stated_size or "size not published"


class Member(_Part):
    """A file, or with a `/` at its end a folder of slices, inside an archive."""

    member: str = Field(description="its path in the archive, or the end of it after a folder")
    archive: str | None = Field(default=None, description="which archive, where there are several")
    checksum: str | None = Field(default=None, description="algorithm:hex of the member itself")
    dataset: str | None = Field(default=None, description="name of the array in an HDF5 file")

    @field_validator("member")
    @classmethod
    def _relative(cls, member: str) -> str:
        path = PurePosixPath(member)
        if not member or path.is_absolute() or ".." in path.parts or "\\" in member:
            raise ValueError("expected a path inside the archive, without '..'")
        return member

    @field_validator("checksum")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return _checked_checksum(text)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of slices."""
        return self.member.endswith("/")


class Labels(Member):
    """A member that holds classes, and how."""

    encoding: Encoding = Field(
        default="ids", description="ids, colours of a palette, run-length JSON, or a mask: 0 and not 0"
    )
    palette: str | None = Field(default=None, description="with colours: a built-in palette, or schema")
    foreground: str | None = Field(default=None, description="with mask: the class of what is not 0")
    unlabelled_value: int | None = Field(default=None, description="the value that means: nobody has said")
    values: dict[str, str] = Field(default={}, description="with ids that are not the schema's: id to class")

    @model_validator(mode="after")
    def _fitting(self) -> Labels:
        needed = {"colours": ("palette", self.palette), "mask": ("foreground", self.foreground)}
        for encoding, (key, value) in needed.items():
            if (self.encoding == encoding) != (value is not None):
                raise ValueError(f"{key} is needed with encoding {encoding!r}, and only there")
        if self.encoding == "run-length" and not self.member.endswith(".json"):
            raise ValueError("encoding 'run-length' is read from a .json member")
        if not all(re.fullmatch(r"\d+", key) for key in self.values):
            raise ValueError(f"values: expected whole numbers as keys, found {', '.join(self.values)}")
        return self


class Extra(_Part):
    """A member that a study has no place for."""

    member: str
    what: str = Field(description="what it holds")
    checksum: str | None = None


class Files(_Part):
    """The members of one volume."""

    image: Member
    labels: Labels | None = None
    objects: Member | None = Field(default=None, description="object ids, or colours that each mean one")

    @property
    def members(self) -> tuple[Member, ...]:
        """All of them."""
        return tuple(m for m in (self.image, self.labels, self.objects) if m is not None)


class Packaging(_Part):
    """One form in which the data were published."""

    title: str
    note: str | None = None
    archives: tuple[Archive, ...] = ()
    volumes: dict[str, Files] = {}
    phantoms: dict[str, dict[str, Any]] = Field(default={}, description="volumes that are made, not loaded")
    extras: tuple[Extra, ...] = ()

    @model_validator(mode="after")
    def _fitting(self) -> Packaging:
        if bool(self.volumes) == bool(self.phantoms):
            raise ValueError("expected either volumes with archives, or phantoms")
        names = [a.file for a in self.archives]
        if self.volumes and not names:
            raise ValueError("expected at least one archive")
        if len(set(names)) < len(names):
            raise ValueError(f"two archives have one file name, found {', '.join(names)}")
        for volume, files in self.volumes.items():
            for member in files.members:
                if member.archive is None and len(names) > 1:
                    raise ValueError(f"volume {volume}: {member.member}: say which archive it is in")
                if member.archive is not None and member.archive not in names:
                    raise ValueError(f"volume {volume}: no archive {member.archive}; there are {names}")
        return self

    @property
    def size(self) -> str:
        """Size of the download, for people."""
        return " + ".join(a.size for a in self.archives) or "made here"


class VolumeFacts(_Part):
    """What is known of one volume, whatever it is packed in."""

    role: Role
    shape: Triple | None = Field(default=None, description="voxels (z, y, x)")
    dtype: str | None = Field(default=None, description="type of the image's voxels")
    voxel_size_nm: Nanometres | None = Field(default=None, description="where it differs from the data set's")
    offset_nm: Nanometres | None = Field(default=None, description="where its first voxel lies, (z, y, x)")
    labelled: str | None = Field(default=None, description="which voxels somebody labelled")
    protocols: tuple[ProtocolName, ...] = Field(default=("labelled",), description="how it is scored")
    note: str | None = None


class Dataset(_Part):
    """A data set of the registry, or of a user's own file."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    format: Literal[1]
    name: str = Field(pattern=f"^{NAME}$", max_length=100)
    title: str
    description: str | None = None
    homepage: tuple[str, ...] = Field(default=(), description="pages that describe it")
    licence: str | None = Field(default=None, description="as its publisher states it")
    citation: tuple[str, ...] = ()
    voxel_size_nm: Nanometres = Field(description="sides of a voxel (z, y, x)")
    schema_: LabelSchema
    volumes: dict[str, VolumeFacts] = Field(min_length=1)
    packagings: dict[str, Packaging] = Field(min_length=1)
    unknown: tuple[str, ...] = Field(default=(), description="what is not known of it, one sentence each")

    @model_validator(mode="after")
    def _fitting(self) -> Dataset:
        if not all(0 < side < 1e6 for side in self.voxel_size_nm):
            raise ValueError("voxel_size_nm: expected three sides above 0 (z, y, x)")
        for name in (*self.volumes, *self.packagings):
            if not re.fullmatch(NAME, name):
                raise ValueError(f"name {name!r}: expected letters, digits, '.', '_', '+' and '-'")
        for name, facts in self.volumes.items():
            self._check_protocols(name, facts)
        for name, packaging in self.packagings.items():
            self._check_packaging(name, packaging)
        return self

    def _check_protocols(self, name: str, facts: VolumeFacts) -> None:
        schema = self.schema_
        if "cells" in facts.protocols and (schema.background_id is None or not schema.organelle_ids):
            raise ValueError(
                f"volume {name}: protocol cells needs a class with background = true and classes with "
                "organelle = true"
            )

    def _check_packaging(self, name: str, packaging: Packaging) -> None:
        for volume in (*packaging.volumes, *packaging.phantoms):
            if volume not in self.volumes:
                hint = nearest(volume, list(self.volumes))
                raise ValueError(f"packaging {name}: no volume {volume!r} under [volumes].{hint}")
        for files in packaging.volumes.values():
            if files.labels:
                _check_classes(files.labels, self.schema_)
        from densem.datasets.phantom import PhantomConfig

        for volume, table in packaging.phantoms.items():
            PhantomConfig.parse(table, f"packaging {name}, volume {volume}")

    def packaging(self, name: str | None) -> tuple[str, Packaging]:
        """A packaging by name; the first one without.

        Raises:
            ConfigError: naming the nearest one.
        """
        if name is None:
            return next(iter(self.packagings.items()))
        if name not in self.packagings:
            known = list(self.packagings)
            raise ConfigError(
                f"--packaging {name}: data set {self.name} has {', '.join(known)}.{nearest(name, known)}"
            )
        return name, self.packagings[name]

    def voxel_size(self, volume: str) -> Nanometres:
        """Sides of the voxels of a volume, (z, y, x) in nm."""
        return self.volumes[volume].voxel_size_nm or self.voxel_size_nm

    @classmethod
    def read(cls, text: str, where: str) -> Dataset:
        """From the text of a TOML file.

        Raises:
            ConfigError, SchemaError: naming `where` and the entry that is wrong.
        """
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(f"{where}: not a TOML file: {error}") from None
        if data.get("format") != FORMAT:
            raise ConfigError(f"{where}: expected format = {FORMAT}, found {data.get('format')!r}")
        data["schema_"] = _schema(data, where)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ConfigError(f"{where}: {_explained(error)}") from None


def _schema(data: dict[str, Any], where: str) -> LabelSchema:
    word, table = data.pop("schema", None), data.pop("classes", None)
    if (word is None) == (table is None):
        raise ConfigError(f'{where}: expected either schema = "NAME" or a [classes] table')
    if table is not None:
        return LabelSchema.from_table(table, where)
    if word not in BUILTIN:
        hint = nearest(str(word), list(BUILTIN))
        raise ConfigError(f"{where}: schema: expected a built-in schema, found {word!r}.{hint}")
    return LabelSchema.from_table(BUILTIN[word], where)


def _check_classes(labels: Labels, schema: LabelSchema) -> None:
    """Refuse classes and palettes that the schema does not know."""
    for name in (*labels.values.values(), *filter(None, (labels.foreground,))):
        if name != "unlabelled":
            _known_class(schema, name)
    if labels.encoding == "mask" and schema.background_id is None:
        raise ValueError(f"{labels.member}: a mask needs a class with background = true")
    if labels.palette:
        if labels.palette.endswith(".toml"):
            raise ValueError(f"{labels.member}: palette: expected a built-in palette, or schema")
        _said(lambda: Palette.resolve(str(labels.palette), schema))


def _known_class(schema: LabelSchema, name: str) -> None:
    _said(lambda: schema[name])


def _said(look: Any) -> None:
    """Errors of densem as those of pydantic, which adds where they are."""
    try:
        look()
    except DensemError as error:
        raise ValueError(str(error)) from None


def _checked_checksum(text: str | None) -> str | None:
    if text is not None:
        Checksum.parse(text)
    return text


def _explained(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"entry {place}: no entry is called {first['loc'][-1]!r}"
    message = first["msg"].removeprefix("Value error, ")
    found = f", found {first['input']!r}" if isinstance(first["input"], str | int | float) else ""
    return f"entry {place}: {message}{found}" if place else message


def read_file(path: Path) -> Dataset:
    """From a TOML file of a user's own; addresses that are paths are taken to lie beside it.

    Raises:
        ConfigError: if there is none, or it is wrong.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected the TOML file of a data set ({error})") from None
    return Dataset.read(text, str(path))
