"""Film: pictures one after the other as MP4 (H.264, which slides and browsers play) or GIF."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FORMATS = (".mp4", ".gif")

Progress = Callable[[int, int], None]


def write_film(
    path: Path, frames: Iterator[np.ndarray], count: int, per_second: int, progress: Progress | None = None
) -> None:
    """Write pictures uint8 (height, width, 3) of one size; nothing stays behind if that fails.

    Args:
        path: `.mp4` or `.gif`; replaced if it is there.
        frames: the pictures; a size that is not even loses its last row or column in MP4.
        count: how many.
        per_second: how many are shown in a second.
        progress: told pictures done and pictures in all.
    """
    part = path.with_name(f".{path.stem}.part{path.suffix.lower()}")
    try:
        write = _write_mp4 if part.suffix == ".mp4" else _write_gif
        write(part, _told(frames, count, progress), per_second)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _told(frames: Iterator[np.ndarray], count: int, progress: Progress | None) -> Iterator[np.ndarray]:
    for done, frame in enumerate(frames, start=1):
        yield frame
        if progress is not None:
            progress(done, count)


def _write_mp4(path: Path, frames: Iterator[np.ndarray], per_second: int) -> None:
    import imageio_ffmpeg

    first = _even(next(frames))
    writer = imageio_ffmpeg.write_frames(
        str(path), (first.shape[1], first.shape[0]), fps=per_second, quality=8, macro_block_size=2,
        output_params=["-movflags", "+faststart"],
    )  # fmt: skip
    with contextlib.closing(writer):
        writer.send(None)
        writer.send(first)
        for frame in frames:
            writer.send(_even(frame))


def _even(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.ascontiguousarray(frame[: height // 2 * 2, : width // 2 * 2])


def _write_gif(path: Path, frames: Iterator[np.ndarray], per_second: int) -> None:
    how = Image.Quantize.MAXCOVERAGE  # the colours of small organelles survive many greys of the raw image
    pictures = (Image.fromarray(f).quantize(256, how, dither=Image.Dither.NONE) for f in frames)
    next(pictures).save(
        path, save_all=True, append_images=pictures, duration=round(1000 / per_second), loop=0, optimize=False
    )
