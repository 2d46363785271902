"""Rendering inside a study: pictures and turntables of objects, predictions and labels, alone or compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from densem import __version__
from densem.blocks import Triple
from densem.errors import ConfigError, ExistsError, NotFoundError
from densem.report import render
from densem.report.render import Paper, Picture, Subject, View
from densem.study.file_names import with_ids
from densem.study.render_scenes import Choice, Wanted, planes_of, region_of, scenes_of
from densem.study.render_sources import Source, open_other, open_source
from densem.study.study import Study

STILL, FILM = (1600, 1200), (960, 720)
"""Default sizes of pictures and of turntables."""
FRAMES_PER_SECOND = 24
SMALLEST, LARGEST = 160, 8192

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RenderRequest:
    """What is drawn and how, as the command line gives it.

    Attributes:
        objects, prediction, labels: one of them: objects, or classes of a prediction or of a volume's labels.
        wanted: cells, drawn with all they hold, or objects of any kind, drawn alone; and classes.
        compare: `[TITLE=][KIND:]NAME`, drawn beside it.
        title: over the picture, or over the first of several.
        out: the PNG; by default in the study's reports, none with a turntable.
        turntable: the film.
        size: width and height in pixels.
        view: from where.
        planes: whether the raw image stands behind the objects.
        planes_at: a voxel (z, y, x) through which the raw image is cut instead.
        background: 0 to 255.
        frames: of the turntable.
        overwrite: whether files that are there are replaced.
    """

    objects: str | None = None
    prediction: str | None = None
    labels: str | None = None
    wanted: Wanted = field(default_factory=Wanted)
    compare: tuple[str, ...] = ()
    title: str | None = None
    out: Path | None = None
    turntable: Path | None = None
    size: tuple[int, int] | None = None
    view: View = field(default_factory=View)
    planes: bool = False
    planes_at: Triple | None = None
    background: tuple[int, int, int] = (255, 255, 255)
    frames: int = 120
    overwrite: bool = False


@dataclass(frozen=True)
class Rendered:
    """What was drawn.

    Attributes:
        files: what was written.
        nm_per_pixel: of the last of them.
        bar_nm: length of its scale bar.
        voxel_size_nm: of the pyramid level that surfaces were made from, (z, y, x).
        level: of the pyramid; 0 is full resolution.
    """

    files: tuple[Path, ...]
    nm_per_pixel: float
    bar_nm: float
    voxel_size_nm: tuple[float, float, float]
    level: int


def render_study(folder: Path, request: RenderRequest, progress: Progress | None = None) -> Rendered:
    """Draw objects or classes of a study.

    Args:
        folder: of the study.
        request: what and how.
        progress: told the pictures of a turntable that are done, and how many there are.

    Raises:
        ConfigError: options that do not go together, or a package that is not installed.
        NotFoundError: no such objects, prediction, volume, cell or id, with the nearest; no folder to
            write to.
        SchemaError: no such class, with the nearest.
        ExistsError: the picture is there already.
        InputError: nothing to draw, or something of another volume is to be compared.
        ResourceError: no OpenGL on this machine.
    """
    _check(request)
    study = Study.open(folder)
    for name in request.wanted.classes:
        study.schema[name]  # refuses one that is not there
    first = _first(study, request)
    others = [open_other(study, words, first) for words in request.compare]
    still, film = _outputs(study, request)
    render.check_installed("pyvista", "vtkmodules", *(["imageio_ffmpeg"] if _is_mp4(film) else []))
    choice = Choice.of(first, study.schema, request.wanted)
    region = region_of(first, others, choice)
    render.check_opengl()
    scenes = scenes_of(first, others, choice, region, first.title if others else request.title or "")
    if request.planes or request.planes_at is not None:
        planes = planes_of(study.image(first.volume), scenes, request.planes_at)
        scenes = [replace(scene, planes=planes) for scene in scenes]
    entries = render.legend([body for scene in scenes for body in scene.bodies], study.schema)
    subject = Subject(scenes, entries, request.view)
    shown = None
    if still is not None:
        shown = render.draw(subject, _paper(request, STILL))
        still.parent.mkdir(exist_ok=True)  # the study's reports
        _write_png(still, shown, _described(study, request))
    if film is not None:
        shown = _write_turntable(film, subject, request, progress)
    assert shown is not None
    files = tuple(path for path in (still, film) if path is not None)
    scale, bar = shown.frame.nm_per_pixel, shown.bar.length_nm
    return Rendered(files, scale, bar, region.voxel_size_nm, region.level)


# ---- what is asked for -----------------------------------------------------------------------


def _check(request: RenderRequest) -> None:
    """Refuse options that do not go together."""
    wanted = request.wanted
    if len(_named(request)) != 1:
        raise ConfigError("densem render: give one of --objects NAME, --prediction NAME and --labels VOLUME")
    if request.objects is None and (wanted.cells or wanted.ids):
        raise ConfigError(
            "--cell and --ids: expected them with --objects NAME; labels have no cells before  "
            "densem objects  has found them"
        )
    if wanted.cells and wanted.ids:
        raise ConfigError("densem render: give either --cell (with all it holds) or --ids (these alone)")
    if request.compare and wanted.ids:
        raise ConfigError("--compare: expected it with --cell, whose counterparts are found; found --ids")
    if request.size is not None and not SMALLEST <= min(request.size) <= max(request.size) <= LARGEST:
        raise ConfigError(
            f"--size {request.size[0]} {request.size[1]}: expected {SMALLEST} to {LARGEST} pixels each way"
        )
    if request.planes and request.planes_at is not None:
        raise ConfigError("densem render: give either --planes (behind the objects) or --planes-at Z Y X")
    if request.frames < 2:
        raise ConfigError(f"--frames {request.frames}: expected at least 2")


def _named(request: RenderRequest) -> dict[str, str]:
    """What the picture is of: kind and name."""
    kinds = {"objects": request.objects, "prediction": request.prediction, "labels": request.labels}
    return {kind: name for kind, name in kinds.items() if name is not None}


def _first(study: Study, request: RenderRequest) -> Source:
    kind, name = next(iter(_named(request).items()))
    return open_source(study, kind, name, request.title)


def _paper(request: RenderRequest, size: tuple[int, int]) -> Paper:
    return Paper(*(request.size or size), request.background)


def _is_mp4(film: Path | None) -> bool:
    return film is not None and film.suffix.lower() == ".mp4"


def _chosen(request: RenderRequest) -> list[tuple[str, tuple[int, ...]]]:
    """The ids that were chosen, and what they are."""
    both = [("cell", request.wanted.cells), ("ids", request.wanted.ids)]
    return [(word, ids) for word, ids in both if ids]


# ---- files -----------------------------------------------------------------------------------


def _outputs(study: Study, request: RenderRequest) -> tuple[Path | None, Path | None]:
    """Where the picture and the film go; refuses what cannot be written before anything is drawn."""
    still, film = request.out, request.turntable
    if still is not None and still.suffix.lower() != ".png":
        raise ConfigError(f"--out {still}: expected a name that ends with .png")
    if film is not None and film.suffix.lower() not in render.FORMATS:
        raise ConfigError(f"--turntable {film}: expected a name that ends with {' or '.join(render.FORMATS)}")
    for flag, path in (("--out", still), ("--turntable", film)):
        if path is not None and not path.parent.is_dir():
            raise NotFoundError(f"{flag} {path}: there is no folder {path.parent}; make it first")
    if still is None and film is None:
        still = study.folder / "reports" / f"{_stem(request)}.png"
    for flag, path in (("--out", still), ("--turntable", film)):
        if path is not None and path.is_dir():
            raise ExistsError(f"{flag} {path}: a folder of that name is there; give another name")
        if path is not None and path.exists() and not request.overwrite:
            raise ExistsError(f"{flag} {path}: is there already; give another name or --overwrite")
    return still, film


def _stem(request: RenderRequest) -> str:
    """A file name that says what is drawn."""
    kind, name = next(iter(_named(request).items()))
    stem = f"{name}-labels" if kind == "labels" else name
    for word, ids in _chosen(request):
        stem = with_ids(stem, word, ids)
    return f"{stem}-compared" if request.compare else stem


def _write_turntable(
    path: Path, subject: Subject, request: RenderRequest, progress: Progress | None
) -> Picture:
    """Write it; gives its last picture."""
    shown: list[Picture] = []

    def frames() -> Iterator[np.ndarray]:
        for picture in render.turn(subject, _paper(request, FILM), request.frames):
            shown[:] = [picture]
            yield picture.pixels

    render.write_film(path, frames(), request.frames, FRAMES_PER_SECOND, progress)
    return shown[0]


def _write_png(path: Path, picture: Picture, facts: str) -> None:
    """Write it whole or not at all, with what it shows among its metadata."""
    notes = PngInfo()
    notes.add_text("Software", f"densem {__version__}")
    notes.add_text("Description", f"{facts}; {picture.frame.nm_per_pixel:.4g} nm per pixel")
    part = path.with_name(f".{path.name}.part")
    try:
        Image.fromarray(picture.pixels).save(part, format="PNG", pnginfo=notes, dpi=(300, 300), optimize=True)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _described(study: Study, request: RenderRequest) -> str:
    kind, name = next(iter(_named(request).items()))
    ids = "".join(f", {word} {' '.join(map(str, ids))}" for word, ids in _chosen(request))
    beside = f", beside {', '.join(request.compare)}" if request.compare else ""
    view = f"azimuth {request.view.azimuth:g}, elevation {request.view.elevation:g}"
    return f"densem render: study {study.name}, {kind} {name}{ids}{beside}; {view}"
