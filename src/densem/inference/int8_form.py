"""Int8Form: a model's network in 8-bit integers, beside the weights that it was made of.

    <model>/int8/graph.xml, graph.bin   the network as a graph that OpenVINO reads
    <model>/int8/record.toml            the model's id and its own, what it was calibrated on, how it scored

Its id is a hash over the graph; it stands in the plan of a prediction beside the model's, of which it is no
part: the same model has the same id, with the form and without. Nothing in it is executed on loading.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import tomli_w

from densem.errors import IntegrityError, NotFoundError
from densem.model import Model

FORMAT = 1
_FILES = ("graph.xml", "graph.bin")


@dataclass(frozen=True)
class Int8Form:
    """A form of a model in 8-bit integers.

    Attributes:
        folder: where it lies.
        record: what its `record.toml` says.
    """

    folder: Path
    record: dict[str, Any]

    @classmethod
    def of(cls, model: Model) -> Self:
        """That of a model.

        Raises:
            NotFoundError: if it has none, with the command that makes one.
            IntegrityError: if it was made of another model or cannot be read.
        """
        path = None if model.int8 is None else model.int8 / "record.toml"
        if path is None or not path.is_file():
            raise NotFoundError(
                f"--runtime openvino-int8: model {model.name!r} has no form in 8-bit integers; make one with "
                f" densem quantize STUDY --model {model.name} , or give --runtime openvino"
            )
        try:
            record = tomllib.loads(path.read_text())
            made_of = (record["format"], record["model"], record["id"])[:2]
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, KeyError) as error:
            raise IntegrityError(f"{path}: damaged ({error}); {_anew(model.name)}") from None
        if made_of != (FORMAT, model.id):
            raise IntegrityError(
                f"{path}: expected format {FORMAT} and model {model.id}, found format {made_of[0]} and model "
                f"{made_of[1]}: it was made of another model; {_anew(model.name)}"
            )
        return cls(path.parent, record)

    @classmethod
    def write(cls, folder: Path, model: Model, facts: dict[str, Any]) -> Self:
        """Describe the graph that lies in the folder."""
        record = {"format": FORMAT, "model": model.id, "id": _digest(folder), **facts}
        (folder / "record.toml").write_text(tomli_w.dumps(record))
        return cls(folder, record)

    @property
    def id(self) -> str:
        """16 hex digits over the graph."""
        return str(self.record["id"])

    def files(self) -> tuple[Path, Path]:
        """Of the graph, checked against the id.

        Raises:
            IntegrityError: if they are not what the record was written for.
        """
        xml, weights = (self.folder / name for name in _FILES)
        found = _digest(self.folder) if xml.is_file() and weights.is_file() else "no graph"
        if found != self.id:
            raise IntegrityError(
                f"{self.folder}: expected id {self.id}, found {found}: the graph was changed or is damaged; "
                f"{_anew(self.folder.parent.name)}"
            )
        return xml, weights


def _anew(name: str) -> str:
    return f"make it anew with  densem quantize STUDY --model {name} --overwrite"


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in _FILES:
        content = (folder / name).read_bytes()
        digest.update(f"{name} {len(content)}".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
