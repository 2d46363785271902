"""The catalogue: data sets that densem knows, one TOML file each in `registry/`, and files of users."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from urllib.parse import urlsplit

from densem.datasets.entry import Dataset, read_file
from densem.errors import NotFoundError, nearest


@dataclass(frozen=True)
class Found:
    """A data set and where its TOML file lies.

    Attributes:
        dataset: what is known of it.
        text: the file as it is.
        folder: where addresses that are paths begin; None in the registry.
    """

    dataset: Dataset
    text: str
    folder: Path | None = None

    def address(self, url: str) -> str | Path:
        """A path for what is a file on this machine, else the address as it is."""
        parts = urlsplit(url)
        if parts.scheme == "file":
            from urllib.request import url2pathname

            return Path(url2pathname(parts.path))
        if not parts.scheme:
            return (self.folder or Path()) / url
        return url


def names() -> list[str]:
    """Names of the registry, sorted."""
    folder = resources.files("densem.datasets") / "registry"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def find(word: str) -> Found:
    """A data set by its name in the registry, or by the path of a TOML file.

    Raises:
        NotFoundError: naming the nearest one.
        ConfigError, SchemaError: if the file is wrong.
    """
    if word in names():
        text = (resources.files("densem.datasets") / "registry" / f"{word}.toml").read_text()
        return Found(Dataset.read(text, f"registry, {word}"), text)
    path = Path(word)
    if word.endswith(".toml"):
        if not path.is_file():
            raise NotFoundError(f"{word}: no data set file there")
        return Found(read_file(path), path.read_text(), path.parent)
    raise NotFoundError(
        f"data set {word!r}: neither in the registry nor a .toml file.{nearest(word, names())}"
    )
