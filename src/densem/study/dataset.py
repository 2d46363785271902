"""Getting a data set: from its entry in the registry to a study, all of it or nothing.

    DIR.download/<archive>      what was fetched, verified; stays until the study is there
    DIR.download/files/         the members that are needed, under names of our own
    DIR.download/<name of DIR>  the study while it is built; renamed to DIR when it is whole

1. Fetch each archive, or take those that are here already; compare size and checksum.
2. Take out the members that the packaging names; compare their checksums.
3. Import volume by volume through the same door as a user's own files; compare shape and type.
4. Note in `dataset.toml` what it was made from, and put the study in place.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tomli_w

from densem.datasets import archive as archives
from densem.datasets.catalogue import Found, find
from densem.datasets.checksum import Checksum
from densem.datasets.download import Expected, download, verify
from densem.datasets.entry import Archive, Dataset, Files, Labels, Member, Packaging
from densem.datasets.phantom import Phantom, PhantomConfig, write_phantom
from densem.errors import (
    DownloadError,
    ExistsError,
    FormatError,
    InputError,
    IntegrityError,
    NotFoundError,
    ShapeError,
)
from densem.schema import UNLABELLED, LabelSchema
from densem.study.intake import ImportRequest, import_volume
from densem.study.manifest import check_name, claimed
from densem.study.study import Study
from densem.volumes.label_intake import LabelCoding
from densem.volumes.palettes import Palette
from densem.volumes.stacks import open_stack

RECORD = "dataset.toml"
BYTES_PER_VOXEL = 16
"""More than any file of images or labels needs: RGBA of 16 bits has 8, run lengths of pure noise about 12."""
SLACK_BYTES = 16 * 2**20

Report = Callable[[int, int], None]
Phase = Callable[[str], AbstractContextManager[Report]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class GetRequest:
    """What is to be got, as the command line gives it."""

    dataset: str
    folder: Path
    packaging: str | None = None
    url: str | None = None
    archives: tuple[Path, ...] = ()
    keep: bool = False


def get_dataset(request: GetRequest, phase: Phase, say: Say) -> None:
    """Make a study of a data set; a failure leaves no study, and keeps what was fetched for the next try.

    Args:
        request: which data set, where, from where.
        phase: opens a progress report under a title.
        say: told a line for the user.

    Raises:
        NotFoundError, ConfigError: no such data set or packaging, or a wrong file.
        ExistsError: the folder holds something else.
        DownloadError, IntegrityError, ResourceError: as `download` and `unpack` do.
        FormatError, ShapeError, SchemaError, InputError: the data are not what was described.
    """
    found = find(request.dataset)
    name, packaging = found.dataset.packaging(request.packaging)
    if _is_there(request.folder, found.dataset, name):
        say(f"{request.folder} is data set {found.dataset.name} ({name}) already; nothing to do.")
        return
    _check_free(request.folder)
    work = request.folder.with_name(f"{request.folder.name}.download")
    with claimed(work, "getting a data set into it", "give another folder"):
        try:
            _Getting(request, found, name, packaging, work, phase, say).run()
        finally:
            _tidy(work, keep=request.keep or not (request.folder / "study.toml").exists())


def _tidy(work: Path, keep: bool) -> None:
    """Remove what was fetched, or only the lock where something is worth keeping."""
    if keep and any(p.name != ".lock" for p in work.iterdir()):
        (work / ".lock").unlink(missing_ok=True)
    else:
        shutil.rmtree(work, ignore_errors=True)


def _is_there(folder: Path, dataset: Dataset, packaging: str) -> bool:
    record = read_record(folder)
    return (folder / "study.toml").exists() and (record.get("name"), record.get("packaging")) == (
        dataset.name,
        packaging,
    )


def read_record(folder: Path) -> dict[str, Any]:
    """What a study says of the data set it was made from; empty for others."""
    try:
        return tomllib.loads((folder / RECORD).read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        return {}


def _check_free(folder: Path) -> None:
    check_name(folder.resolve().name, "study")
    if (folder / "study.toml").exists():
        raise ExistsError(f"{folder}: there is a study already; give another folder")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExistsError(f"{folder}: exists and is not an empty folder; give another name")


@dataclass(frozen=True)
class _Getting:
    """One data set on its way into a study."""

    request: GetRequest
    found: Found
    name: str
    packaging: Packaging
    work: Path
    phase: Phase
    say: Say

    @property
    def dataset(self) -> Dataset:
        return self.found.dataset

    @property
    def files(self) -> Path:
        return self.work / "files"

    def run(self) -> None:
        """All steps; what is half done is removed, what was fetched stays."""
        sources = self._sources()
        building = self.work / self.request.folder.resolve().name
        try:
            self._clear(building)
            self._unpack(sources)
            study = Study.create(building, self.dataset.schema_)
            for volume in (*self.packaging.volumes, *self.packaging.phantoms):
                self._bring_in(study, volume, sources)
            (building / RECORD).write_text(tomli_w.dumps(self._record(sources)))
            (building / ".study.lock").unlink(missing_ok=True)
            if self.request.folder.exists():
                self.request.folder.rmdir()
            os.replace(building, self.request.folder)
        finally:
            self._clear(building)
        self._conclude()

    def _clear(self, building: Path) -> None:
        for left in (self.files, building):
            shutil.rmtree(left, ignore_errors=True)

    # ---- archives --------------------------------------------------------------------------------

    def _sources(self) -> dict[str, Path]:
        """Where each archive lies, whole and verified."""
        listed = self.packaging.archives
        given = self._given()
        if self.request.url is not None and len(listed) != 1:
            raise InputError(
                f"--url: packaging {self.name} of {self.dataset.name} has {len(listed)} archives, so one "
                "address is not enough; give the files with --archive, or a .toml file of your own"
            )
        return {a.file: self._local(a, given[a.file]) if a.file in given else self._fetch(a) for a in listed}

    def _given(self) -> dict[str, Path]:
        """Files of `--archive` by the archive they are: by name, or the only one there is."""
        names = [a.file for a in self.packaging.archives]
        if len(names) == len(self.request.archives) == 1:
            return {names[0]: self.request.archives[0]}
        wrong = [p for p in self.request.archives if p.name not in names]
        if wrong:
            raise InputError(
                f"--archive {wrong[0]}: packaging {self.name} of {self.dataset.name} "
                f"{'is of ' + ', '.join(names) if names else 'is made here and has none'}"
            )
        return {p.name: p for p in self.request.archives}

    def _local(self, archive: Archive, path: Path) -> Path:
        if not path.is_file():
            raise NotFoundError(f"{path}: no such file; expected the archive {archive.file}")
        with self.phase(f"Verifying {path.name}") as report:
            verify(path, Expected(archive.bytes, archive.expected), str(path), report)
        self._said(archive, path)
        return path

    def _fetch(self, archive: Archive) -> Path:
        target, expected = self.work / archive.file, Expected(archive.bytes, archive.expected)
        if target.exists() and self._still_good(target, expected):
            self.say(f"{archive.file}: here from an earlier try.")
            return target
        urls = (self.request.url,) if self.request.url else archive.urls
        if not urls:
            raise DownloadError(
                f"{archive.file}: no address is known for it; get it from "
                f"{' or '.join(self.dataset.homepage) or 'its publisher'} and give it with --archive FILE"
            )
        for url in urls[:-1]:
            try:
                return self._fetch_from(url, archive, target, expected)
            except DownloadError as error:
                self.say(f"{error}. Trying the next address ...")
        return self._fetch_from(urls[-1], archive, target, expected)

    def _fetch_from(self, url: str, archive: Archive, target: Path, expected: Expected) -> Path:
        address = self.found.address(url)
        if isinstance(address, Path):
            if not address.is_file():
                raise DownloadError(
                    f"{address}: no such file; give the archive {archive.file} with --archive FILE"
                )
            return self._local(archive, address)
        with self.phase(f"Downloading {archive.file} ({archive.size})") as report:
            download(address, target, expected, report)
        self._said(archive, target)
        return target

    def _still_good(self, target: Path, expected: Expected) -> bool:
        try:
            verify(target, expected, str(target))
        except IntegrityError:
            target.unlink()
            return False
        return True

    def _said(self, archive: Archive, path: Path) -> None:
        size = f"{path.stat().st_size} bytes"
        if archive.expected:
            self.say(f"{archive.file}: {size}, {archive.expected.algorithm} as published.")
        else:
            self.say(
                f"{archive.file}: {size}; no published checksum, so shapes and types are compared instead."
            )

    # ---- members ---------------------------------------------------------------------------------

    def _unpack(self, sources: dict[str, Path]) -> None:
        for file, path in sources.items():
            if not archives.is_archive(file):
                continue
            wanted = [
                archives.Wanted(member.member, self._place(member), self._most_bytes(volume))
                for volume, member in self._members()
                if (member.archive or next(iter(sources))) == file
            ]
            with self.phase(f"Unpacking {file}") as report:
                self._unpack_one(path, file, wanted, report)
        for _, member in self._members():
            self._check_member(member, sources)

    def _unpack_one(self, path: Path, file: str, wanted: list[archives.Wanted], report: Report) -> None:
        try:
            self._named_as(path, file, wanted, report)
        except FormatError:
            if path.parent == self.work and not self._expected(file):
                os.replace(path, path.with_name(f"{path.name}.rejected"))
            raise

    def _named_as(self, path: Path, file: str, wanted: list[archives.Wanted], report: Report) -> None:
        """A file of `--archive` may have lost the ending that says what it is."""
        if archives.is_archive(path.name):
            archives.unpack(path, wanted, report)
            return
        raise FormatError(
            f"{path}: expected a name like {file}, whose ending says how it is packed; rename it"
        )

    def _expected(self, file: str) -> Checksum | None:
        return next(a.expected for a in self.packaging.archives if a.file == file)

    def _members(self) -> list[tuple[str, Member]]:
        return [(v, m) for v, files in self.packaging.volumes.items() for m in files.members]

    def _place(self, member: Member) -> Path:
        """Where a member is put: a folder of our own, and the name that the entry gives it."""
        number = [m for _, m in self._members()].index(member)
        return self.files / f"{number:02d}" / PurePosixPath(member.member).name

    def _most_bytes(self, volume: str) -> int | None:
        shape = self.dataset.volumes[volume].shape
        return None if shape is None else BYTES_PER_VOXEL * int(np.prod(shape)) + SLACK_BYTES

    def _path(self, member: Member, sources: dict[str, Path]) -> Path:
        file = member.archive or next(iter(sources))
        return self._place(member) if archives.is_archive(file) else sources[file]

    def _check_member(self, member: Member, sources: dict[str, Path]) -> None:
        if member.checksum:
            expected = Expected(None, Checksum.parse(member.checksum))
            where = f"member {member.member} of {member.archive or next(iter(sources))}"
            verify(self._path(member, sources), expected, where)

    # ---- volumes ---------------------------------------------------------------------------------

    def _bring_in(self, study: Study, volume: str, sources: dict[str, Path]) -> None:
        if volume in self.packaging.phantoms:
            request = self._phantom_request(volume)
        else:
            request = self._request(volume, self.packaging.volumes[volume], sources)
        with self.phase(f"Importing {volume}") as report:
            for line in import_volume(study, volume, request, report):
                self.say(line)

    def _phantom_request(self, volume: str) -> ImportRequest:
        config = PhantomConfig.parse(self.packaging.phantoms[volume], f"phantom {volume}")
        with self.phase(f"Making {volume}") as report:
            made = write_phantom(config, self.files / volume, "tiff", overwrite=True, progress=report)
        facts = {**self._facts(), "phantom": config.model_dump(mode="json")}
        return ImportRequest(
            image=made.image,
            labels=made.semantic,
            instances=made.cells,
            coding=_phantom_coding(config),
            facts={k: {**facts, "source": "phantom"} for k in ("image", "labels", "instances")},
            **self._common(volume),
        )

    def _request(self, volume: str, files: Files, sources: dict[str, Path]) -> ImportRequest:
        image = self._path(files.image, sources)
        self._check_image(volume, files.image, image)
        labels = self._path(files.labels, sources) if files.labels else None
        kinds = {"image": files.image, "labels": files.labels, "instances": files.objects}
        return ImportRequest(
            image=image,
            labels=labels,
            instances=self._path(files.objects, sources) if files.objects else None,
            dataset=files.image.dataset,
            labels_dataset=files.labels.dataset if files.labels else None,
            coding=self._coding(files.labels, labels) if files.labels and labels else None,
            facts={k: self._member_facts(m, sources) for k, m in kinds.items() if m is not None},
            copy=True,
            **self._common(volume),
        )

    def _common(self, volume: str) -> dict[str, Any]:
        facts = self.dataset.volumes[volume]
        return {
            "role": facts.role,
            "voxel_size_nm": self.dataset.voxel_size(volume),
            "offset_nm": facts.offset_nm,
            "protocols": facts.protocols,
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "command": "densem datasets get",
            "dataset": self.dataset.name,
            "packaging": self.name,
        }

    def _member_facts(self, member: Member, sources: dict[str, Path]) -> dict[str, Any]:
        file = member.archive or next(iter(sources))
        return {**self._facts(), "source": f"{file}: {member.member}" if archives.is_archive(file) else file}

    def _check_image(self, volume: str, member: Member, path: Path) -> None:
        facts, stack = self.dataset.volumes[volume], open_stack(path, member.dataset)
        if facts.shape is not None and stack.shape != tuple(facts.shape):
            raise ShapeError(
                f"volume {volume}, {member.member}: expected {_by(facts.shape)} voxels (z y x) as described, "
                f"found {_by(stack.shape)}; this is another file, or its publisher has changed it: look on "
                "the data set's page"
            )
        if facts.dtype is not None and stack.dtype.name != facts.dtype:
            raise FormatError(
                f"volume {volume}, {member.member}: expected voxels of {facts.dtype} as described, found "
                f"{stack.dtype.name}; this is another file, or its publisher has changed it"
            )

    def _coding(self, labels: Labels, path: Path) -> LabelCoding:
        schema = self.dataset.schema_
        if labels.encoding == "colours":
            return LabelCoding(Palette.resolve(str(labels.palette), schema), labels.unlabelled_value)
        if labels.encoding == "mask":
            return _mask_coding(labels, schema, path)
        values = {int(v): _id(schema, name) for v, name in labels.values.items()} or None
        return LabelCoding(None, labels.unlabelled_value, values)

    # ---- what it was made from ---------------------------------------------------------------------

    def _record(self, sources: dict[str, Path]) -> dict[str, Any]:
        dataset = self.dataset
        facts = {
            "name": dataset.name,
            "packaging": self.name,
            "title": dataset.title,
            "description": dataset.description,
            "licence": dataset.licence or "not stated",
            "citation": list(dataset.citation),
            "homepage": list(dataset.homepage),
            "unknown": list(dataset.unknown),
        }
        rows = [self._archive_record(a, sources[a.file]) for a in self.packaging.archives]
        return {k: v for k, v in {**facts, "archives": rows}.items() if v}

    def _archive_record(self, archive: Archive, path: Path) -> dict[str, Any]:
        found = archive.expected or Checksum.of(path)
        return {
            "file": archive.file,
            "bytes": path.stat().st_size,
            "checksum": str(found),
            "published_checksum": archive.expected is not None,
        }

    def _conclude(self) -> None:
        dataset = self.dataset
        missing = [v for v in dataset.volumes if v not in {*self.packaging.volumes, *self.packaging.phantoms}]
        if missing:
            self.say(f"Packaging {self.name} has no volume {', '.join(missing)}.")
        for volume in (*self.packaging.volumes, *self.packaging.phantoms):
            if dataset.volumes[volume].role in ("eval", "test"):
                self.say(f"Scored by: {volume}, protocol {' and '.join(dataset.volumes[volume].protocols)}.")
        for note in dataset.unknown:
            self.say(f"Note: {note}")
        self.say(f"Licence: {dataset.licence or 'not stated'}.")
        for text in dataset.citation:
            self.say(f"Please cite: {text}")
        self.say(f"Next: densem train {self.request.folder}")


def _phantom_coding(config: PhantomConfig) -> LabelCoding:
    partial = config.labelled_cells is not None and config.unlabelled_value == UNLABELLED
    return LabelCoding() if partial else LabelCoding(Palette.resolve("platelet-em", Phantom.schema))


def _mask_coding(labels: Labels, schema: LabelSchema, path: Path) -> LabelCoding:
    """Masks come as 0 and 1, as 0 and 255, and in black and white: each is taken as what it is."""
    background, foreground = schema.background_id, _id(schema, str(labels.foreground))
    assert background is not None  # checked with the entry
    stack = open_stack(path, labels.dataset)
    if stack.samples > 1 or stack.colormap is not None:
        return LabelCoding(Palette("black and white", {0: background, 0xFFFFFF: foreground}, background))
    return LabelCoding(None, labels.unlabelled_value, {0: background, 1: foreground, 255: foreground})


def _id(schema: LabelSchema, name: str) -> int:
    return UNLABELLED if name == "unlabelled" else schema[name].id


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
