import pytest

from densem.inference.quantities import count_text, sides_text, size_text, time_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (12, "12 bytes"),
        (1500, "1.5 kB"),
        (999_900, "1 MB"),
        (37.25e9, "37.2 GB"),
        (1.345e12, "1.34 TB"),
        (2.5e15, "2.5e+03 TB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0312, "0.031 s"), (1.5, "1.5 s"), (119, "119 s"), (121, "2.02 min"), (7200, "2 h"), (10 * 86400, "10 days"),
     (1234 * 86400, "1,234 days")],
)  # fmt: skip
def test_times(seconds, text):
    assert time_text(seconds) == text


def test_counts_and_sides():
    assert count_text(231525) == "231,525"
    assert count_text(3.1441e12) == "3.144 trillion"
    assert sides_text((50.0, 4.6, 4.6)) == "50 x 4.6 x 4.6"
