"""Quantities: sizes and times as people read them."""

from __future__ import annotations

SIZES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
TIMES = ((86400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def size_text(size: float) -> str:
    """Bytes in powers of 1000: `1.34 TB`."""
    return next((f"{size / u:.3g} {n}" for u, n in SIZES if size >= 0.9995 * u), f"{size:.0f} bytes")


def time_text(seconds: float) -> str:
    """The largest unit of which there are two or more: `3.5 h`."""
    found = next((f"{_short(seconds / u)} {n}" for u, n in TIMES if seconds >= 2 * u), None)
    return found or f"{seconds:.2g} s"


def count_text(number: float) -> str:
    """With a word for what is large: `1.02 million`, `231,525`."""
    for unit, name in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= unit:
            return f"{number / unit:.4g} {name}"
    return f"{number:,.0f}"


def sides_text(sides: tuple[float, ...]) -> str:
    """Three sides: `96 x 208 x 224`."""
    return " x ".join(f"{s:g}" for s in sides)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
