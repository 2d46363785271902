"""Scene: what is shown, in densem's words: layers, their colours, and where one looks first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from densem.viewer.source import Source
from densem.volumes.volume import Nanometres

GREY = """#uicontrol invlerp normalized
void main() {
  emitGrayscale(normalized());
}
"""
DOUBT = """#uicontrol invlerp normalized
void main() {
  emitRGBA(vec4(1.0, 0.35, 0.0, 1.0 - normalized()));
}
"""
"""Opaque orange where the value is low."""
HEAT = """#uicontrol invlerp normalized
void main() {
  emitRGBA(vec4(1.0, 0.35, 0.0, normalized()));
}
"""
"""Opaque orange where the value is high."""


def tint(rgb: tuple[int, int, int]) -> str:
    """A shader that draws a value in a colour, opaque where it is high."""
    red, green, blue = (v / 255 for v in rgb)
    return HEAT.replace("1.0, 0.35, 0.0", f"{red:.3f}, {green:.3f}, {blue:.3f}")


@dataclass(frozen=True)
class ImageLayer:
    """Grey values, or a map over them.

    Attributes:
        name: of the layer, once in a scene.
        source: where it is read from.
        shader: how a value becomes a colour.
        window: values that become 0 and 1; None for the whole range of the type.
        channel: which one of a source with channels.
        opacity: over the layers below.
        visible: whether it is switched on at first.
    """

    name: str
    source: Source
    shader: str = GREY
    window: tuple[float, float] | None = None
    channel: int | None = None
    opacity: float = 1.0
    visible: bool = True


@dataclass(frozen=True)
class SegmentLayer:
    """Class ids or object ids.

    Attributes:
        name: of the layer, once in a scene.
        source: where it is read from.
        names: key of what its segments are called (`Site.names`), if they have names.
        meshes: key of the share with their meshes, if there are any.
        shown: segments that are switched on at first.
        all_if_none: whether cross-sections draw all segments as long as none is switched on.
        colors: segment -> #rrggbb.
        default_color: of all others; None leaves them to Neuroglancer.
        hide_zero: whether 0 is nothing.
        alpha: of segments that are on, in cross-sections.
        dimmed: of the others there.
        mesh_alpha: of meshes.
        visible: whether it is switched on at first.
    """

    name: str
    source: Source
    names: str | None = None
    meshes: str | None = None
    shown: tuple[int, ...] = ()
    all_if_none: bool = True
    colors: Mapping[int, str] = field(default_factory=dict)
    default_color: str | None = None
    hide_zero: bool = True
    alpha: float = 0.4
    dimmed: float = 0.0
    mesh_alpha: float = 1.0
    visible: bool = True


@dataclass(frozen=True)
class Focus:
    """Where one looks first.

    Attributes:
        centre_nm: the point in the middle, (z, y, x).
        size_nm: what fits into the window, (z, y, x).
        layer: that is opened at the side.
        segment: of that layer, selected.
    """

    centre_nm: Nanometres
    size_nm: Nanometres
    layer: str | None = None
    segment: int | None = None


@dataclass(frozen=True)
class Scene:
    """Layers from the lowest to the topmost; positions are counted in voxels of `voxel_size_nm`."""

    title: str
    voxel_size_nm: Nanometres
    focus: Focus
    layers: tuple[ImageLayer | SegmentLayer, ...]
