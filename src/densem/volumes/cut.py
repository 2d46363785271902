"""Cut: a part of a volume as a person writes it, `0:24,100:612,:`."""

from __future__ import annotations

from densem.blocks import Box, triple
from densem.errors import ConfigError
from densem.volumes.volume import Volume

Spans = tuple[tuple[int | None, int | None], ...]
"""Start and stop in z, y and x; None where the volume begins or ends."""


def parse_box(text: str) -> Spans:
    """Ranges of voxels in z, y and x, such as `0:24,100:612,:`; an end that is left away is the volume's.

    Raises:
        ConfigError: if it is anything else.
    """
    parts = [p.strip().split(":") for p in text.split(",")]
    if len(parts) == 3 and all(len(p) == 2 and all(v == "" or v.isdigit() for v in p) for p in parts):
        return tuple((int(a) if a else None, int(b) if b else None) for a, b in parts)
    raise ConfigError(
        f"--box {text}: expected three ranges of voxels START:STOP in z, y and x with commas, such as "
        "0:24,100:612,: (an end left away is the volume's)"
    )


def box_of(spans: Spans, volume: Volume) -> Box:
    """The box of a volume that ranges name.

    Raises:
        ConfigError: for a box that is empty or reaches outside the volume.
    """
    starts = [a or 0 for a, _ in spans]
    stops = [n if b is None else b for (_, b), n in zip(spans, volume.shape, strict=True)]
    box = Box(triple(starts), triple(stops))
    if box.size == 0 or not volume.box.contains(box):
        given = ",".join(f"{a}:{b}" for a, b in zip(starts, stops, strict=True))
        whole = ",".join(f"0:{n}" for n in volume.shape)
        raise ConfigError(
            f"--box {given}: expected ranges with at least one voxel inside {whole}, the shape of "
            f"{volume.name} in z, y and x"
        )
    return box
