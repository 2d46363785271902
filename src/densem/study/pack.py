"""Packing a study as a data set for others: data, split, protocols, datasheet, checksums, evaluator.

    OUT.zip              images/ labels/ objects/ dataset.toml DATASHEET.md EVALUATE.md SHA256SUMS
    OUT.toml             the same with the archive's size and checksum: densem datasets get OUT.toml DIR
    OUT-test-labels.zip  with `without_test_labels`: what the organiser keeps

The data are TIFF, not OME-Zarr: every tool of the field opens it, a volume is one file with one checksum, and
values and types survive it; densem reads it back to the same content ids. Offsets and exact voxel sizes are
in dataset.toml. The same study gives the same bytes.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from densem import __version__
from densem.datasets.checksum import Checksum
from densem.datasets.entry import FORMAT, Dataset
from densem.errors import ExistsError, InputError, ResourceError
from densem.study.dataset import read_record
from densem.study.datasheet import Sheet, datasheet, read_answers
from densem.study.evaluator import Evaluator, evaluator
from densem.study.lineage import label_shares
from densem.study.manifest import VolumeEntry, check_name
from densem.study.study import Study
from densem.volumes import Volume, content_id
from densem.volumes.tiff_writer import write_tiff

LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The date of every member: the same study is the same archive."""
HIDDEN = "-test-labels"

Report = Callable[[int, int], None]
Phase = Callable[[str], AbstractContextManager[Report]]


@dataclass(frozen=True)
class PackRequest:
    """What is packed, and what the study cannot know."""

    study: Path
    out: Path
    title: str
    licence: str
    name: str | None = None
    description: str | None = None
    citation: tuple[str, ...] = ()
    homepage: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    answers: Path | None = None
    without_test_labels: bool = False
    overwrite: bool = False


def pack_study(request: PackRequest, phase: Phase) -> list[str]:
    """Write the archive and its registry file; a failure leaves neither.

    Args:
        request: which study, and the facts that others need.
        phase: opens a progress report under a title.

    Returns:
        Lines for the user.

    Raises:
        InputError: a name without .zip, nothing to pack, or an empty title or licence.
        ExistsError: one of the files is there and `overwrite` is not set.
        NotFoundError, ConfigError: no study, or a wrong file of answers.
        ResourceError: the disk cannot hold it.
    """
    packing = _Packing(request, Study.open(request.study), phase)
    return packing.run()


@dataclass(frozen=True)
class _Written:
    """A volume of the study in the pack; paths are relative to its top folder."""

    name: str
    entry: VolumeEntry
    image: Volume
    labels: Volume | None
    objects: Volume | None
    hidden: bool

    @property
    def files(self) -> dict[str, tuple[str, Volume]]:
        """Kind to (path, volume)."""
        kinds = {"image": ("images", self.image), "labels": ("labels", self.labels),
                 "objects": ("objects", self.objects)}  # fmt: skip
        return {k: (f"{folder}/{self.name}.tif", v) for k, (folder, v) in kinds.items() if v is not None}


class _Packing:
    """One study on its way into an archive."""

    def __init__(self, request: PackRequest, study: Study, phase: Phase) -> None:
        self.request, self.study, self.phase = request, study, phase
        self.out = request.out
        self.answers = read_answers(request.answers)
        self._sums_of_data: dict[str, str] = {}
        self.volumes = [self._volume(n, e) for n, e in study.manifest.volumes.items()]
        self._check()

    # ---- what is there ---------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.request.name or self.out.name.removesuffix(".zip")

    @property
    def targets(self) -> list[Path]:
        hidden = [self.out.with_name(f"{self._stem}{HIDDEN}.zip")] if self.request.without_test_labels else []
        return [self.out, self.out.with_name(f"{self._stem}.toml"), *hidden]

    @property
    def _stem(self) -> str:
        return self.out.name.removesuffix(".zip")

    def _volume(self, name: str, entry: VolumeEntry) -> _Written:
        study = self.study
        hidden = self.request.without_test_labels and entry.role == "test"
        return _Written(name, entry, study.image(name), study.labels(name), study.objects(name), hidden)

    def _check(self) -> None:
        request = self.request
        if not self.out.name.endswith(".zip") or self._stem == "":
            raise InputError(f"{self.out}: expected a name that ends in .zip")
        check_name(self._stem, "archive")
        check_name(self.name, "data set")
        for what, text in (("--title", request.title), ("--licence", request.licence)):
            if not text.strip():
                raise InputError(f"{what}: expected some text, found none; those who get the data need it")
        if not self.volumes:
            raise InputError(f"study {self.study.name}: it has no volume to pack")
        if request.without_test_labels and not any(v.hidden and v.labels for v in self.volumes):
            raise InputError(
                f"study {self.study.name}: --without-test-labels: no volume of role test has labels to keep "
                "back"
            )
        there = [p for p in self.targets if p.exists()]
        if there and not request.overwrite:
            raise ExistsError(f"{there[0]}: exists already; give another name, or --overwrite to replace it")
        self._check_disk()

    def _check_disk(self) -> None:
        parts = [v for volume in self.volumes for _, v in volume.files.values()]
        need = 2 * sum(v.box.size * v.dtype.itemsize for v in parts)
        place = self.out.absolute().parent
        free = shutil.disk_usage(place).free if place.exists() else need
        if free < need:
            raise ResourceError(
                f"{self.out}: expected {need / 1e9:.3g} GB of free disk (the data twice, uncompressed), "
                f"found {free / 1e9:.3g} GB; free some, or choose another place"
            )

    # ---- writing ---------------------------------------------------------------------------------

    def run(self) -> list[str]:
        """Write all beside the target under a hidden name, and rename at the end."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        work = self.out.with_name(f".{self.out.name}.part")
        shutil.rmtree(work, ignore_errors=True)
        try:
            public, hidden = work / "public", work / "hidden"
            self._write_volumes(public, hidden)
            self._write_pages(public, hidden)
            made = self._write_archives(work, public, hidden)
            for source, target in zip(made, self.targets, strict=True):
                os.replace(source, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return self._said()

    def _write_volumes(self, public: Path, hidden: Path) -> None:
        for written in self.volumes:
            for kind, (path, volume) in written.files.items():
                root = hidden if written.hidden and kind != "image" else public
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                with self.phase(f"Writing {path}") as report:
                    write_tiff(volume, root / path, report)

    def _write_pages(self, public: Path, hidden: Path) -> None:
        sums = self._sums_of_data = _sums(public)
        (public / "dataset.toml").write_text(tomli_w.dumps(self._entry(sums, archive={})))
        (public / "DATASHEET.md").write_text(datasheet(self._sheet()))
        (public / "EVALUATE.md").write_text(evaluator(self._evaluator(organiser=False)))
        _write_sums(public, sums)
        if hidden.exists():
            (hidden / "EVALUATE.md").write_text(evaluator(self._evaluator(organiser=True)))
            _write_sums(hidden, {})

    def _write_archives(self, work: Path, public: Path, hidden: Path) -> list[Path]:
        made = [work / "public.zip", work / "dataset.toml"]
        with self.phase(f"Packing {self.out.name}") as report:
            _zip(public, made[0], self.name, report)
        facts = {"bytes": made[0].stat().st_size, "checksum": str(Checksum.of(made[0]))}
        text = tomli_w.dumps(self._entry(self._sums_of_data, facts))
        Dataset.read(text, "the registry file of the pack")  # what others will read
        made[1].write_text(text)
        if self.request.without_test_labels:
            made.append(work / "hidden.zip")
            _zip(hidden, made[2], f"{self.name}{HIDDEN}", None)
        return made

    # ---- the registry file -------------------------------------------------------------------------

    def _entry(self, sums: dict[str, str], archive: dict[str, Any]) -> dict[str, Any]:
        request = self.request
        head = {
            "format": FORMAT,
            "name": self.name,
            "title": request.title,
            "description": request.description,
            "homepage": list(request.homepage),
            "licence": request.licence,
            "citation": list(request.citation),
            "voxel_size_nm": list(self.volumes[0].image.voxel_size_nm),
        }
        facts = {"file": self.out.name, "urls": [self.out.name, *request.urls], **archive}
        return {
            **{k: v for k, v in head.items() if v},
            "classes": self.study.schema.to_table(),
            "volumes": {v.name: _facts(v) for v in self.volumes},
            "packagings": {
                "tiff": {
                    "title": f"packed by densem {__version__}, TIFF",
                    "archives": [facts],
                    "volumes": {v.name: _members(v, sums) for v in self.volumes},
                }
            },
        }

    # ---- pages -----------------------------------------------------------------------------------

    def _sheet(self) -> Sheet:
        request = self.request
        facts = (
            ("name", self.name),
            ("licence", request.licence),
            ("description", request.description or ""),
            ("citation", " ".join(request.citation)),
            ("pages", " ".join(request.homepage)),
            ("packed by", f"densem {__version__}"),
        )
        return Sheet(
            request.title,
            facts,
            tuple(self._volume_row(v) for v in self.volumes),
            tuple(_class_row(c) for c in self.study.schema.classes),
            self._origin(),
            self.answers,
        )

    def _volume_row(self, written: _Written) -> dict[str, str]:
        image, labels = written.image, None if written.hidden else written.labels
        shares = label_shares(self.study, labels) if labels is not None else None
        kept = "kept back" if written.hidden and written.labels is not None else "none"
        return {
            "volume": written.name,
            "role": written.entry.role,
            "shape z y x": " x ".join(map(str, image.shape)),
            "voxel nm": " x ".join(f"{s:g}" for s in image.voxel_size_nm),
            "type": str(image.dtype),
            "labels, % of the voxels": shares or ("yes" if labels is not None else kept),
            "objects": _object_text(written),
            "scored by": " and ".join(_protocols(written.entry)) if written.entry.role in _SCORED else "-",
            "content id": str(image.attributes.get("id") or content_id(image)),
        }

    def _origin(self) -> tuple[str, ...]:
        record = read_record(self.study.folder)
        if not record:
            return ()
        cited = "; ".join(record.get("citation", []))
        return (
            f"Made from the data set {record.get('name')} ({record.get('title')}), packaging "
            f"{record.get('packaging')}, licence: {record.get('licence')}. {cited}".strip(),
        )

    def _evaluator(self, organiser: bool) -> Evaluator:
        scored = {v.name: _protocols(v.entry) for v in self.volumes if v.entry.role in _SCORED and v.labels}
        hidden = {v.name: v.objects is not None for v in self.volumes if v.hidden and v.labels}
        return Evaluator(self.name, f"{self._stem}.toml", scored, hidden, organiser)

    def _said(self) -> list[str]:
        lines = [f"{p}: {p.stat().st_size / 1e6:.1f} MB" for p in self.targets]
        lines.append(f"Give away {self.targets[0].name} and {self.targets[1].name}; read back with")
        lines.append(f"  densem datasets get {self.targets[1]} DIR")
        if self.request.without_test_labels:
            lines.append(f"Keep {self.targets[2].name}: its EVALUATE.md says how to score what others send.")
        others = [v.name for v in self.volumes if v.entry.annotators]
        if others:
            lines.append(f"Not packed: what further annotators labelled in {', '.join(others)}.")
        if not self.answers:
            lines.append(
                "The datasheet leaves questions open: see  densem datasets questions  and --answers."
            )
        return lines


_SCORED = ("eval", "test")


def _protocols(entry: VolumeEntry) -> list[str]:
    return entry.protocols or ["labelled"]


def _facts(written: _Written) -> dict[str, Any]:
    image = written.image
    facts: dict[str, Any] = {
        "role": written.entry.role,
        "shape": list(image.shape),
        "dtype": str(image.dtype),
        "voxel_size_nm": list(image.voxel_size_nm),
        "protocols": _protocols(written.entry),
    }
    if any(image.offset_nm):
        facts["offset_nm"] = list(image.offset_nm)
    if written.hidden:
        facts["labelled"] = "kept back by the organisers"
    return facts


def _members(written: _Written, sums: dict[str, str]) -> dict[str, Any]:
    """The members that are in the public archive."""
    rows = {}
    for kind, (path, _) in written.files.items():
        if path in sums:
            rows[kind] = {"member": path, "checksum": f"sha256:{sums[path]}"}
    return rows


def _object_text(written: _Written) -> str:
    if written.objects is None:
        return "none"
    if written.hidden:
        return "kept back"
    count = written.objects.attributes.get("object_count")
    return str(count) if count is not None else "yes"


def _class_row(cls: Any) -> dict[str, str]:
    marks = [m for m in ("background", "thing", "organelle") if getattr(cls, m)]
    return {"id": str(cls.id), "class": cls.name, "colour": cls.color, "lies in": cls.parent or "-",
            "is": ", ".join(marks) or "-"}  # fmt: skip


def _sums(folder: Path, known: dict[str, str] | None = None) -> dict[str, str]:
    """sha256 of each file by its path in the folder; the large ones are not read twice."""
    known = known or {}
    paths = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return {path: known.get(path) or Checksum.of(folder / path).digest for path in paths}


def _write_sums(folder: Path, known: dict[str, str]) -> None:
    """In the form that `sha256sum --check` reads."""
    lines = [f"{digest}  {path}" for path, digest in _sums(folder, known).items()]
    (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def _zip(folder: Path, path: Path, top: str, report: Report | None) -> None:
    """All files below a folder of one name; TIFFs are compressed already."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    with zipfile.ZipFile(path, "w") as archive:
        for done, file in enumerate(files, start=1):
            info = zipfile.ZipInfo(f"{top}/{file.relative_to(folder).as_posix()}", LONG_AGO)
            info.compress_type = zipfile.ZIP_STORED if file.suffix == ".tif" else zipfile.ZIP_DEFLATED
            info.external_attr = 0o100644 << 16
            with open(file, "rb") as source, archive.open(info, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, 2**20)
            if report:
                report(done, len(files))
