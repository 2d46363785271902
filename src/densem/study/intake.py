"""Bringing files into a study: image, labels and instances together, all of them or nothing.

Everything is written to a hidden folder inside the study first, and moved into place when it is
whole. What is replaced stays until then.

    .import-<name>/journal/  the lock, and the jobs of Slurm    .import-<name>/<run>/  what is written

Each run has a folder of its own: a worker of a killed one that is still at work writes where nobody looks.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from densem.blocks import Crew, EngineChoice, Journal, RunOptions
from densem.blocks.slurm import JOBS, clear_left_jobs
from densem.errors import ConfigError, ExistsError, InputError, NotFoundError
from densem.study.lineage import label_shares
from densem.study.manifest import MAIN, VolumeEntry, check_name, locked
from densem.study.study import Study
from densem.volumes import Volume, open_volume
from densem.volumes.intake import Writing, import_image
from densem.volumes.label_intake import LabelCoding, import_labels, import_objects
from densem.volumes.palettes import Palette
from densem.volumes.stacks import Stack, open_stack

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported, as the command line gives it; the last four are for data sets of the registry.

    Attributes:
        coding: what label values mean, instead of `palette` and `unlabelled_value`.
        offset_nm: where the first voxel lies, if the file cannot say it.
        protocols: how predictions of the volume are scored.
        facts: what its provenance tells beside the usual.
    """

    image: Path | None = None
    labels: Path | None = None
    instances: Path | None = None
    role: Any = None
    voxel_size_nm: tuple[float, float, float] | None = None
    slices: slice | None = None
    palette: str | None = None
    unlabelled_value: int | None = None
    dataset: str | None = None
    labels_dataset: str | None = None
    copy: bool = False
    overwrite: bool = False
    annotator: str | None = None
    coding: LabelCoding | None = None
    offset_nm: tuple[float, float, float] | None = None
    protocols: tuple[str, ...] | None = None
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: EngineChoice = field(default_factory=EngineChoice)


def parse_slices(text: str | None) -> slice | None:
    """`0:13` as a slice.

    Raises:
        InputError: if it is anything else.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d*):(\d*)", text)
    span = slice(*(int(part) if part else None for part in match.groups())) if match else slice(0, 0)
    if span.stop is not None and span.stop <= (span.start or 0):
        raise InputError(
            f"--slices {text}: expected FIRST:END with END above FIRST, such as 0:13 for slices 0 to 12"
        )
    return span


def import_volume(study: Study, name: str, request: ImportRequest, progress: Progress) -> list[str]:
    """Import what was asked for under a name; nothing is left behind if any of it fails.

    Returns:
        Lines for the user: what came in.

    Raises:
        ExistsError: something of that name is there and `overwrite` is not set.
        InputError and its kin: whatever is wrong with the files.
        IntegrityError: another process is importing a volume of that name.
    """
    check_name(name, "volume")
    known = study.manifest.volumes.get(name)
    if request.image is None and request.labels is None and request.instances is None:
        raise InputError("densem import: give --image FILE, and --labels or --instances with it or later")
    _check_annotator(request)
    _check_replacing(study, name, request, known)
    home = study.folder.resolve() / f".import-{name}"
    journal = Journal(home / "journal")
    with journal.lock():
        try:
            clear_left_jobs(journal)
            _remove_left(home)
            staging = home / uuid.uuid4().hex[:8]
            image = _import(_Parts.open(study, name, request, staging, progress), journal)
            entry = _entry(study, name, request, known, image)
            with locked(study.path) as manifest:
                replaced = _move_in(staging, study)
                manifest.volumes[name] = entry
            for path in replaced:
                shutil.rmtree(path, ignore_errors=True)
        finally:
            if not (home / "journal" / JOBS).exists():  # jobs that stay are cancelled by the next import
                shutil.rmtree(home, ignore_errors=True)
    return [_said(study, name, image), *_shares_said(study, name, request.annotator)]


def _import(parts: _Parts, journal: Journal) -> Volume:
    """Write what was asked for to the staging folder; gives the image."""
    request = parts.request
    parts.check_engine()
    options = RunOptions(fatal=(InputError,), kept=False)
    with request.engine.crew(journal, options) as crew:
        if request.engine.remote or request.engine.workers > 1:
            parts = replace(parts, crew=crew)
        image = parts.image() if request.image else parts.study.image(parts.name)
        if request.labels:
            parts.labels(image)
        if request.instances:
            parts.instances(image)
    return image


def _remove_left(home: Path) -> None:
    """Remove what a killed import wrote; the journal is in use."""
    for left in home.iterdir():
        if left.name != "journal":
            shutil.rmtree(left, ignore_errors=True)


def _check_replacing(study: Study, name: str, request: ImportRequest, known: VolumeEntry | None) -> None:
    if request.image is None and known is None:
        raise NotFoundError(
            f"study {study.name}: there is no volume {name!r} to add labels to; give its --image as well"
        )
    if known is None:
        return
    if request.overwrite:
        _check_labels_stay(study, name, request, known)
        return
    taken = {"image": request.image, _labels_word(request): request.labels and _same_labels(known, request),
             "objects": request.instances and known.objects}  # fmt: skip
    there = [what for what, value in taken.items() if value]
    if there:
        raise ExistsError(
            f"study {study.name}: volume {name!r} has {' and '.join(there)} already; "
            "give another name, or --overwrite to replace"
        )


def _check_annotator(request: ImportRequest) -> None:
    """An annotator's name stands for labels alone, and becomes part of a file name."""
    if request.annotator is None:
        return
    check_name(request.annotator, "annotator")
    if request.annotator == MAIN:
        raise InputError(
            f"--annotator {MAIN}: that is what the labels without an annotator are called; "
            "give another name, or leave --annotator out"
        )
    if request.labels is None or request.instances is not None:
        raise InputError(
            f"--annotator {request.annotator}: expected it with --labels FILE, and without --instances"
        )


def _labels_word(request: ImportRequest) -> str:
    return f"labels by {request.annotator}" if request.annotator else "labels"


def _same_labels(known: VolumeEntry, request: ImportRequest) -> str | None:
    """The labels that are there already in the place of those to come."""
    return (known.annotators or {}).get(request.annotator) if request.annotator else known.semantic


def _check_labels_stay(study: Study, name: str, request: ImportRequest, known: VolumeEntry) -> None:
    """A new image makes old labels wrong: they are never dropped in passing."""
    main = None if request.annotator else request.labels
    kinds = (("labels", known.semantic, main), ("instances", known.objects, request.instances))
    lost = [what for what, old, new in kinds if old and not new]
    others = [who for who in known.annotators or {} if who != request.annotator]
    if request.image is not None and others:
        raise InputError(
            f"study {study.name}: replacing the image of {name!r} would drop its labels by "
            f"{', '.join(others)}; first  densem remove {study.folder} {name} --labels-only"
        )
    if request.image is not None and lost:
        raise InputError(
            f"study {study.name}: replacing the image of {name!r} would drop its {' and '.join(lost)}; "
            f"give --{' and --'.join(lost)} as well, or first  "
            f"densem remove {study.folder} {name} --labels-only"
        )


@dataclass(frozen=True)
class _Parts:
    """The three things an import can bring, written to the staging folder.

    Attributes:
        sources: by `image`, `labels`, `instances`; labels and instances as their files hold them.
        crew: who writes images and labels; without one, this thread.
    """

    study: Study
    name: str
    request: ImportRequest
    staging: Path
    progress: Progress
    sources: dict[str, Stack]
    crew: Crew | None = None

    @classmethod
    def open(
        cls, study: Study, name: str, request: ImportRequest, staging: Path, progress: Progress
    ) -> _Parts:
        """Open all files that are asked for."""
        sources = {}
        if request.image is not None:
            sources["image"] = open_stack(request.image, request.dataset, slices=request.slices)
        for what, path in (("labels", request.labels), ("instances", request.instances)):
            if path is not None:
                sources[what] = open_stack(path, request.labels_dataset)
        return cls(study, name, request, staging, progress, sources)

    def check_engine(self) -> None:
        """Refuse what other machines cannot read slab by slab.

        Raises:
            ConfigError: saying how to bring it in instead.
        """
        engine, place = self.request.engine, f"{self.study.folder} {self.name}"
        reasons = {what: source.whole for what, source in self.sources.items()}
        if "instances" in reasons:
            reasons["instances"] = "object ids are collected over the whole file first"
        for what, reason in reasons.items():
            if engine.remote and reason:
                path = self.sources[what].path
                raise ConfigError(
                    f"--engine {engine.engine}: {path}: {reason}, which one process does; bring it in "
                    f"by itself with  densem import {place} --{what} {path}"
                )

    def image(self) -> Volume:
        if self._refers():
            size = self.request.voxel_size_nm
            return open_volume(self._referred(), voxel_size_nm=size)
        source = self.sources["image"]
        if self.request.offset_nm is not None:
            source = replace(source, offset_nm=self.request.offset_nm)
        target = self.staging / f"volumes/{self.name}.zarr"
        size = self.request.voxel_size_nm
        return import_image(source, target, size, self._writing("image"))

    def labels(self, image: Volume) -> None:
        request, schema = self.request, self.study.schema
        source = self._labels_stack("labels", image)
        palette = Palette.resolve(request.palette, schema) if request.palette else None
        target = self.staging / _labels_path(self.name, request.annotator)
        coding = request.coding or LabelCoding(palette, request.unlabelled_value)
        import_labels(source, target, schema, image, coding, self._writing("labels"))

    def instances(self, image: Volume) -> None:
        source = self._labels_stack("instances", image)
        target = self.staging / f"annotations/{self.name}/objects.zarr"
        import_objects(source, target, image, self._writing("instances"))

    def _labels_stack(self, what: str, image: Volume) -> Stack:
        """Labels of the whole stack are cut like the image; labels of the part alone are taken whole."""
        whole = self.sources[what]
        fits = whole.shape[0] == image.shape[0]
        return whole if fits or self.request.slices is None else whole.part(self.request.slices)

    def _refers(self) -> bool:
        """A Zarr volume is referred to where it lies, unless a part or a copy is wanted."""
        return not self.request.copy and self.request.slices is None and is_zarr(self._referred())

    def _referred(self) -> Path:
        assert self.request.image is not None
        path = self.request.image.resolve()
        return path / self.request.dataset if self.request.dataset else path

    def _writing(self, what: str) -> Writing:
        facts = self.study.provenance("densem import", volume=self.name, what=what)
        facts = {**facts, **self.request.facts.get(what, {})}
        return Writing(facts, progress=self.progress, crew=self.crew)


def _labels_path(name: str, annotator: str | None) -> str:
    return f"annotations/{name}/semantic{f'.{annotator}' if annotator else ''}.zarr"


def is_zarr(path: Path) -> bool:
    """Whether a folder is a Zarr group or array."""
    return path.is_dir() and any((path / n).exists() for n in ("zarr.json", ".zgroup", ".zarray"))


def _entry(
    study: Study, name: str, request: ImportRequest, known: VolumeEntry | None, image: Volume
) -> VolumeEntry:
    old = known or VolumeEntry(role="unlabelled", image="")
    replaced = request.image is not None
    inside = image.path is not None and study.folder.resolve() in image.path.resolve().parents
    comes = request.labels is not None and request.annotator is None
    has_labels = comes or (not replaced and old.semantic is not None)
    others = {} if replaced else dict(old.annotators or {})
    if request.annotator:
        others[request.annotator] = _labels_path(name, request.annotator)
    return VolumeEntry(
        role=request.role or (known.role if known else "train" if has_labels else "unlabelled"),
        image=(f"volumes/{name}.zarr" if inside else str(image.path)) if replaced else old.image,
        semantic=_labels_path(name, None) if has_labels else None,
        annotators=others or None,
        objects=f"annotations/{name}/objects.zarr"
        if request.instances or (not replaced and old.objects)
        else None,
        voxel_size_nm=request.voxel_size_nm if replaced and not inside else old.voxel_size_nm,
        protocols=old.protocols if request.protocols is None else list(request.protocols),
    )


def _move_in(staging: Path, study: Study) -> list[Path]:
    """Put what was imported in place of what was there.

    Returns:
        What was replaced, renamed; to be deleted once the manifest is written.
    """
    replaced = []
    for source in sorted(staging.glob("*/*.zarr")) + sorted(staging.glob("*/*/*.zarr")):
        target = study.folder / source.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            aside = target.with_name(f".{target.name}.old")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(target, aside)
            replaced.append(aside)
        os.replace(source, target)
    return replaced


def _said(study: Study, name: str, image: Volume) -> str:
    entry = study.manifest.volumes[name]
    size = " x ".join(f"{v:g}" for v in image.voxel_size_nm)
    where = " (referred to, not copied)" if entry.referred else ""
    return (
        f"Volume {name} ({entry.role}): {' x '.join(map(str, image.shape))} voxels of {size} nm (z y x), "
        f"{image.dtype}{where}."
    )


def _shares_said(study: Study, name: str, annotator: str | None) -> list[str]:
    labels = study.annotation(name, annotator) if annotator else study.labels(name)
    shares = label_shares(study, labels) if labels is not None else None
    by = f" by {annotator}" if annotator else ""
    return [f"Labels{by}, % of the voxels: {shares}."] if shares else []
