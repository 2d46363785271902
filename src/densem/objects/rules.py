"""Rules: how the objects of each thing class are found; a TOML file, or KEY=VALUE pairs.

[alpha_granule]
method = "watershed"
h_nm = 40.0
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from densem.errors import ConfigError, NotFoundError, SchemaError, nearest
from densem.schema import LabelSchema
from densem.volumes.volume import Nanometres

OF_METHOD = {"h_nm": "watershed", "mutex_bias": "mutex"}
"""Settings that mean something with one method alone."""


class ClassRule(BaseModel):
    """How the objects of one class are found."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Literal["components", "watershed", "mutex"] = Field(
        default="components",
        description="connected voxels; those split further at their necks; or by a network's affinities",
    )
    h_nm: float = Field(
        default=20.0, gt=0, description="two bodies are apart if the neck is so much thinner (radius, nm)"
    )
    mutex_bias: float = Field(
        default=0.5, gt=0, lt=1, description="0.5: affinities as they are; larger: more objects"
    )
    min_volume_nm3: float = Field(default=0.0, ge=0, description="smaller objects are left away")
    fill_holes_nm3: float = Field(default=0.0, ge=0, description="enclosed holes of up to so much are filled")
    connectivity: Literal[6, 26] = Field(
        default=26, description="voxels are joined by faces (6), or by edges and corners as well (26)"
    )


@dataclass(frozen=True)
class Rules:
    """The rules of all thing classes of a schema, by name in order of id."""

    by_class: dict[str, ClassRule]

    def __getitem__(self, name: str) -> ClassRule:
        """The rule of a class."""
        return self.by_class[name]

    def have(self, method: str) -> bool:
        """Whether any class is cut by this method."""
        return any(rule.method == method for rule in self.by_class.values())

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {name: rule.model_dump() for name, rule in self.by_class.items()}

    @classmethod
    def of(
        cls,
        schema: LabelSchema,
        voxel_size_nm: Nanometres,
        table: dict[str, Any] | None = None,
        where: str = "--settings",
        affinities: Iterable[str] = (),
    ) -> Rules:
        """The defaults of a schema, changed by a table of class -> entries.

        Without an entry, classes that hold no other thing (organelles) are split by watershed with an `h_nm`
        of half the longest side of a voxel, the least difference of radii that can be seen; classes that
        hold things (cells) are connected components, since elongated cells have necks of their own. Classes
        that `affinities` names, since a network says which of their voxels belong together, are cut by these.

        Raises:
            SchemaError: if the schema has no thing class.
            ConfigError: for entries that are wrong, or of no thing class.
        """
        things, told = [c.name for c in schema.classes if c.thing], tuple(affinities)
        if not things:
            raise SchemaError(
                f"the schema has no class with  thing = true  (its classes: {', '.join(schema.names)}); mark "
                "those that come in countable objects in study.toml"
            )
        table = table or {}
        for name in table:
            if name not in things:
                raise ConfigError(
                    f"{where}: {name!r} is no thing class of the schema.{nearest(name, things)}"
                )
        rules = {}
        for name in things:
            inner = set(schema.descendant_ids(name)) - {schema[name].id}
            holds = any(c.thing for c in schema.classes if c.id in inner)
            base = {} if holds else {"method": "watershed", "h_nm": max(voxel_size_nm) / 2}
            base |= {"method": "mutex"} if name in told else {}
            rules[name] = _rule({**base, **_entries(table.get(name, {}), name, where)}, name, where)
            if rules[name].method == "mutex" and name not in told:
                raise _no_affinities(name, told, where)
            _check_used(_entries(table.get(name, {}), name, where), rules[name].method, name, where)
        return cls(rules)


def _check_used(entries: dict[str, Any], method: str, name: str, where: str) -> None:
    """Refuse a setting that the method does not have."""
    for key, owner in OF_METHOD.items():
        if key in entries and method != owner:
            raise ConfigError(
                f'{where}: [{name}] {key}: expected it with method = "{owner}", found "{method}"; '
                "leave it away, or choose that method"
            )


def _no_affinities(name: str, told: tuple[str, ...], where: str) -> ConfigError:
    found = f"some of {', '.join(told)}" if told else "none"
    return ConfigError(
        f'{where}: [{name}] method = "mutex": expected a prediction with affinities of {name}, found '
        f"{found}; train a model on its annotated objects with  --set affinities.share=1  and predict with "
        "it, or choose components or watershed"
    )


def read_rules(path: Path | None, pairs: Iterable[str]) -> dict[str, Any]:
    """A table of class -> entries from a TOML file and from `class.key=value` pairs, which go before it.

    Raises:
        NotFoundError, ConfigError: for a file that is not there or no TOML, and pairs that are none.
    """
    table: dict[str, Any] = {}
    if path is not None:
        try:
            table = tomllib.loads(path.read_text())
        except OSError as error:
            raise NotFoundError(f"--settings {path}: no such file ({error.strerror})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"--settings {path}: not a TOML file: {error}") from None
    for pair in pairs:
        key, equals, value = pair.partition("=")
        name, dot, entry = key.strip().rpartition(".")
        if not (equals and dot and name and entry):
            raise ConfigError(f"--set {pair}: expected CLASS.KEY=VALUE, such as alpha_granule.h_nm=30")
        table[name] = {**_entries(table.get(name, {}), name, "--settings"), entry: _value(value.strip())}
    return table


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _entries(found: Any, name: str, where: str) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: expected a table [{name}] of settings, found {found!r}")
    return found


def _rule(entries: dict[str, Any], name: str, where: str) -> ClassRule:
    try:
        return ClassRule.model_validate(entries)
    except ValidationError as error:
        row = error.errors()[0]
        key = str(row["loc"][0])
        hint = nearest(key, list(ClassRule.model_fields)) if key not in ClassRule.model_fields else ""
        raise ConfigError(
            f"{where}: [{name}] {key}: {row['msg']}, found {row.get('input')!r}.{hint}"
        ) from None
