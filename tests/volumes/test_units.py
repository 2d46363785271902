import pytest

from densem.volumes.units import unit_in_nm


@pytest.mark.parametrize(
    ("words", "nm"),
    [
        (("nm", "nanometer", " NM "), 1),
        (("um", "µm", "μm", "micron", "\\u00B5m", "micrometer"), 1e3),
        (("mm", "millimeter"), 1e6),
        (("cm",), 1e7),
        (("inch", '"'), 2.54e7),
        (("m",), 1e9),
        (("Å", "\u212b", "angstrom", "A"), 0.1),
        (("pixel", "", None, "slices", "reference frame"), None),
    ],
)
def test_units(words, nm):
    assert [unit_in_nm(w) for w in words] == [nm] * len(words)
