"""Films: as many pictures as were given, and nothing left of one that failed."""

import numpy as np
import pytest
from PIL import Image

from densem.report.render import write_film


def pictures(count, shape=(60, 81, 3)):
    for k in range(count):
        yield np.full(shape, 20 * k, np.uint8)


def test_mp4_has_all_pictures_in_an_even_size(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path, told = tmp_path / "film.mp4", []
    write_film(path, pictures(7), 7, 24, lambda done, total: told.append((done, total)))
    frames, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert (frames, round(seconds * 24)) == (7, 7)
    reader = ffmpeg.read_frames(str(path))
    facts = next(reader)
    assert (facts["size"], facts["codec"]) == ((80, 60), "h264")
    shades = [np.frombuffer(frame, np.uint8).mean() for frame in reader]
    assert shades == pytest.approx([20 * k for k in range(7)], abs=6)
    assert told[-1] == (7, 7)
    assert [p.name for p in tmp_path.iterdir()] == ["film.mp4"]


def test_gif(tmp_path):
    path = tmp_path / "film.gif"
    write_film(path, pictures(5), 5, 24)
    with Image.open(path) as film:
        assert (film.n_frames, film.size) == (5, (81, 60))


def test_gif_keeps_the_colour_of_something_small_before_many_greys(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (200, 300, 1), np.uint8)
    picture = np.repeat(grey, 3, axis=2)
    picture[10:20, 10:20], picture[30:40, 10:20] = (1, 171, 254), (245, 0, 203)
    write_film(tmp_path / "film.gif", iter([picture]), 1, 24)
    with Image.open(tmp_path / "film.gif") as film:
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - picture).max() < 25


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_nothing_is_left_of_a_film_that_failed(tmp_path, name):
    pytest.importorskip("imageio_ffmpeg")

    def broken():
        yield from pictures(2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(tmp_path / name, broken(), 3, 24)
    assert list(tmp_path.iterdir()) == []
