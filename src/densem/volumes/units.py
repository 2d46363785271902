"""Units of length as microscopes, Fiji, OME and Gatan spell them, in nanometres."""

from __future__ import annotations

_NAMES: dict[float, tuple[str, ...]] = {
    1e-3: ("pm", "picometer", "picometre"),
    0.1: ("å", "ångström", "ångstrom", "a", "angstrom", "angstroms"),
    1.0: ("nm", "nanometer", "nanometre", "nanometers"),
    1e3: ("um", "µm", "micron", "microns", "micrometer", "micrometre", "micrometers"),
    1e6: ("mm", "millimeter", "millimetre"),
    1e7: ("cm", "centimeter", "centimetre"),
    2.54e7: ("inch", "in", '"'),
    1e9: ("m", "meter", "metre"),
}
_NM_OF = {name: nm for nm, names in _NAMES.items() for name in names}


def unit_in_nm(name: object) -> float | None:
    r"""How many nanometres one unit is; None for no unit, `pixel` or an unknown word.

    Fiji's escaped `\u00B5m` and both micro signs are understood.
    """
    text = str(name or "").strip().replace("\\u00b5", "µ").replace("\\u00B5", "µ")
    text = text.replace("\u03bc", "µ").replace("\u212b", "Å").lower()
    return _NM_OF.get(text)
