"""Ranges of voxels as a person writes them."""

import pytest

from densem.errors import ConfigError
from densem.volumes.cut import parse_box


def test_ranges_of_a_box_literally():
    assert parse_box("0:24, 100:612,:") == ((0, 24), (100, 612), (None, None))
    with pytest.raises(ConfigError) as caught:
        parse_box("0:24,100")
    assert str(caught.value) == (
        "--box 0:24,100: expected three ranges of voxels START:STOP in z, y and x with commas, such as "
        "0:24,100:612,: (an end left away is the volume's)"
    )
