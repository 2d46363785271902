import numpy as np
import pytest

from densem.blocks import Box
from densem.datasets.phantom.noise import Rays, SmoothNoise, key_of, white


def rays_of(box: Box, size: tuple[float, float, float]) -> Rays:
    z, y, x = ((np.arange(a, b) + 0.5) * s for a, b, s in zip(box.start, box.stop, size, strict=True))
    return Rays(z, np.tile(y, (len(z), 1)), np.tile(x, (len(z), 1)))


def test_white_noise_of_a_part_is_the_crop():
    whole = white(7, Box((-3, 5, 0), (4, 25, 31)))
    part = white(7, Box((-1, 9, 4), (3, 20, 30)))
    np.testing.assert_array_equal(part, whole[2:6, 4:15, 4:30])


def test_white_noise_is_normal_and_uncorrelated():
    n = white(1, Box((0, 0, 0), (12, 110, 130)))
    assert abs(n.mean()) < 0.01
    assert n.std() == pytest.approx(1, abs=0.01)
    assert np.mean(np.abs(n) < 1) == pytest.approx(0.683, abs=0.02)
    for axis in range(3):
        a, b = np.delete(n, 0, axis), np.delete(n, -1, axis)
        assert abs((a * b).mean()) < 0.01


def test_smooth_noise_equals_the_sum_of_b_splines():
    noise, size = SmoothNoise(key_of(2, "x"), (50.0, 30.0, 20.0)), (40.0, 9.0, 7.0)
    box = Box((-2, 3, 10), (2, 7, 15))
    made = noise(rays_of(box, size))
    lattice = white(noise.key, Box((-20, -20, -20), (30, 30, 30)))

    def spline(t):
        t = abs(t)
        return 2 / 3 - t**2 + t**3 / 2 if t < 1 else (2 - t) ** 3 / 6 if t < 2 else 0.0

    weights = [
        [[spline((i + 0.5) * s / g - k) for k in range(-20, 30)] for i in range(a, b)]
        for a, b, s, g in zip(box.start, box.stop, size, noise.spacing_nm, strict=True)
    ]
    expected = np.einsum("zi,yj,xk,ijk->zyx", *map(np.array, weights), lattice) / (151 / 315) ** 1.5
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_smooth_noise_has_unit_variance_and_its_scale():
    field = SmoothNoise(3, (30.0, 60.0, 120.0))(rays_of(Box((0, 0, 0), (40, 130, 150)), (40.0, 20.0, 25.0)))
    assert field.std() == pytest.approx(1, abs=0.08)
    reach = [np.mean(np.diff(field, axis=axis) ** 2) for axis in range(3)]
    assert reach[0] > reach[1] > reach[2]


def test_keys_differ_by_seed_and_name():
    assert len({key_of(s, w) for s in range(50) for w in "abcdef"}) == 300
    assert key_of(0, "warp", "z", 700.0) == key_of(0, "warp", "z", 700.0)
