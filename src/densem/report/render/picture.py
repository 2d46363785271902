"""Picture: one scene, or several side by side, seen alike, with scale bar, axes and legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image

from densem.errors import ConfigError
from densem.report.render.camera import Frame, View
from densem.report.render.ornaments import Bar, Entry, Paper, Strip, draw_note, draw_title
from densem.report.render.scene import Scene
from densem.report.render.stage import Stage

_GAP = 0.5  # between panels, in units


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture.

    Attributes:
        pixels: uint8 (height, width, 3).
        frame: its scale and middle.
        bar: the scale bar in it.
    """

    pixels: np.ndarray
    frame: Frame
    bar: Bar


@dataclass(frozen=True)
class Panel:
    """Where a scene is, with its title above: pixels from the upper left corner."""

    left: int
    top: int
    width: int
    height: int
    title_height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the scene."""
        return self.left, self.top, self.left + self.width, self.top + self.height

    @property
    def title_box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the title."""
        return self.left, self.top - self.title_height, self.left + self.width, self.top


@dataclass(frozen=True, eq=False)
class Subject:
    """What is drawn.

    Attributes:
        scenes: side by side; at least one with something in it, an empty one stays an empty panel.
        entries: the legend.
        view: from where all are seen.
    """

    scenes: Sequence[Scene]
    entries: Sequence[Entry]
    view: View

    @property
    def points(self) -> np.ndarray:
        """Every point that a picture must hold, float64 (N, 3) in nm."""
        return np.concatenate([scene.points for scene in self.scenes])


def draw(subject: Subject, paper: Paper) -> Picture:
    """Draw scenes side by side in one picture.

    Raises:
        ConfigError: if the paper is too small.
    """
    composer = _Composer.of(subject, paper)
    frame = Frame.fitting(subject.points, subject.view, *composer.size)
    with composer.stages() as stages:
        return composer.compose(stages, subject.view, frame)


def draw_apart(subject: Subject, width: int, height: int) -> tuple[list[np.ndarray], Frame]:
    """Each scene as a picture of its own, uint8 (height, width, 3), all from one direction at one scale.

    Without title, legend and scale bar; an empty scene says that nothing is there.
    """
    frame = Frame.fitting(subject.points, subject.view, width, height)
    paper = Paper(width, height)
    pictures = []
    for scene in subject.scenes:
        if len(scene.points):
            with Stage(scene, width, height, paper.background) as stage:
                pictures.append(stage.draw(subject.view, frame))
        else:
            canvas = Image.new("RGB", (width, height), paper.background)
            draw_note(canvas, paper, "nothing here", (0, 0, width, height))
            pictures.append(np.asarray(canvas))
    return pictures, frame


def turn(subject: Subject, paper: Paper, count: int) -> Iterator[Picture]:
    """As `draw`, `count` times during one turn around the z axis."""
    composer = _Composer.of(subject, paper)
    views = [subject.view.turned(360.0 * k / count) for k in range(count)]
    frame = Frame.fitting_round(subject.points, views, *composer.size)
    with composer.stages() as stages:
        for view in views:
            yield composer.compose(stages, view, frame)


def arrange(count: int, paper: Paper, strip: int, titled: bool) -> list[Panel]:
    """Panels of one size in rows, as square as can be, above a strip of that height.

    Raises:
        ConfigError: if they would be too small.
    """
    unit = paper.unit
    title, gap = round(2.2 * unit) if titled else 0, round(_GAP * unit)

    def size(columns: int) -> tuple[int, int]:
        rows = -(-count // columns)
        wide = (paper.width - gap * (columns + 1)) // columns
        return wide, (paper.height - strip - rows * (title + gap)) // rows

    columns = max(range(1, count + 1), key=lambda n: min(size(n)))
    width, height = size(columns)
    if min(width, height) < 4 * unit:
        raise ConfigError(
            f"--size {paper.width} {paper.height}: too small for {count} panels; "
            f"give a larger one, such as {600 * columns} 800"
        )
    panels = []
    for k in range(count):
        row, column = divmod(k, columns)
        here = min(columns, count - row * columns)  # the last row stands in the middle
        indent = (paper.width - here * width - (here + 1) * gap) // 2
        left = indent + gap + column * (width + gap)
        panels.append(Panel(left, gap + row * (height + title + gap) + title, width, height, title))
    return panels


@dataclass(frozen=True, eq=False)
class _Composer:
    """Puts what the stages draw on paper, with all that belongs around it."""

    scenes: Sequence[Scene]
    panels: Sequence[Panel]
    strip: Strip

    @classmethod
    def of(cls, subject: Subject, paper: Paper) -> _Composer:
        strip = Strip.on(paper, subject.entries)
        titled = any(scene.title for scene in subject.scenes)
        return cls(subject.scenes, arrange(len(subject.scenes), paper, strip.height, titled), strip)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of a panel."""
        return self.panels[0].width, self.panels[0].height

    @contextmanager
    def stages(self) -> Iterator[list[Stage | None]]:
        """A stage for each scene, None for an empty one."""
        background = self.strip.paper.background
        with ExitStack() as open_now:
            yield [
                open_now.enter_context(Stage(scene, *self.size, background)) if len(scene.points) else None
                for scene in self.scenes
            ]

    def compose(self, stages: Sequence[Stage | None], view: View, frame: Frame) -> Picture:
        """The picture from one direction."""
        paper = self.strip.paper
        canvas = Image.new("RGB", (paper.width, paper.height), paper.background)
        for scene, panel, stage in zip(self.scenes, self.panels, stages, strict=True):
            if stage is None:
                draw_note(canvas, paper, "nothing here", panel.box)
            else:
                canvas.paste(Image.fromarray(stage.draw(view, frame)), (panel.left, panel.top))
            if scene.title:
                draw_title(canvas, paper, scene.title, panel.title_box)
        bar = Bar.of(frame.nm_per_pixel, paper.width)
        self.strip.draw(canvas, bar, view)
        return Picture(np.asarray(canvas), frame, bar)
