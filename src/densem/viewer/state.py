"""State: a scene as the JSON that Neuroglancer restores.

Dimensions are x, y, z, a voxel each; positions count voxels from the origin of the world, so that position
times voxel size is nm. Zoom is in canonical voxels, the shortest side of a voxel: per pixel in
cross-sections, over the height of the panel in 3D.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from densem.viewer.scene import Focus, ImageLayer, Scene, SegmentLayer
from densem.viewer.source import Source, dimensions_of

PANEL_PIXELS = (360, 520)
"""Height and width of a cross-section in a window of usual size: what is focused on has to fit in."""
ROOM = 1.15
"""How much larger the view is than what it shows."""
FILL = 0.8
"""Height of the 3D view over the diagonal of what it shows."""
TILT = [-0.6, 0.2, 0.05, 0.77]
"""Orientation of the 3D view as a quaternion: seen from the side and above, slices lying."""


def state_of(scene: Scene, base: str, token: str) -> dict[str, Any]:
    """Neuroglancer's state.

    Args:
        scene: what is shown.
        base: scheme, host and port that the browser reads from, such as `http://127.0.0.1:8000`.
        token: that opens the site.
    """
    links = _Links(base, token)
    size, focus = scene.voxel_size_nm, scene.focus
    canonical = min(size)
    _, tall, wide = (n / p for n, p in zip(focus.size_nm, (1, *PANEL_PIXELS), strict=True))
    has_meshes = any(isinstance(one, SegmentLayer) and one.meshes and one.visible for one in scene.layers)
    state: dict[str, Any] = {
        "title": scene.title,
        "dimensions": dimensions_of(size, ("x", "y", "z")),
        "position": [round(c / s, 3) for c, s in zip(focus.centre_nm[::-1], size[::-1], strict=True)],
        "crossSectionScale": _short(ROOM * max(tall, wide) / canonical),
        "projectionScale": _short(_diagonal(focus) / canonical * FILL),
        "projectionOrientation": TILT,
        "layers": [_layer(layer, links) for layer in scene.layers],
        "projectionBackgroundColor": "#ffffff",  # dark colours seen through show on white alone
        "layout": "4panel",
        "showSlices": not has_meshes,
    }
    if focus.layer is not None:
        state["selectedLayer"] = {"layer": focus.layer, "visible": True}
    if focus.layer is not None and focus.segment is not None:
        state["selection"] = {"layers": {focus.layer: {"value": str(focus.segment)}}}
    return state


class _Links:
    """Addresses of what a site serves."""

    def __init__(self, base: str, token: str) -> None:
        self._base, self._token = base, token

    def volume(self, source: Source) -> str:
        return f"{self._base}/data/{self._token}/{quote(source.key)}/|zarr{source.zarr}:"

    def precomputed(self, word: str, key: str) -> str:
        return f"{self._base}/{word}/{self._token}/{quote(key)}/|neuroglancer-precomputed:"


def _layer(layer: ImageLayer | SegmentLayer, links: _Links) -> dict[str, Any]:
    return _image(layer, links) if isinstance(layer, ImageLayer) else _segments(layer, links)


def _volume(source: Source, links: _Links) -> dict[str, Any]:
    return {
        **_chosen(links.volume(source)),
        "transform": source.transform(),
    }  # without the box around the data


def _chosen(url: str) -> dict[str, Any]:
    """A source of which nothing but what it is for is taken."""
    return {"url": url, "enableDefaultSubsources": False, "subsources": {"default": True}}


def _image(layer: ImageLayer, links: _Links) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "image",
        "name": layer.name,
        "source": _volume(layer.source, links),
        "shader": layer.shader,
        "opacity": layer.opacity,
        "visible": layer.visible,
    }
    if layer.window is not None:
        made["shaderControls"] = {"normalized": {"range": list(layer.window)}}
    if layer.channel is not None:
        made["localPosition"] = [layer.channel + 0.5] + [0.5] * (len(layer.source.leading) - 1)
    return made


def _segments(layer: SegmentLayer, links: _Links) -> dict[str, Any]:
    sources: list[Any] = [_volume(layer.source, links)]
    if layer.names is not None:
        sources.append(links.precomputed("names", layer.names))
    if layer.meshes is not None:
        sources.append(_chosen(links.precomputed("data", layer.meshes)))  # without names of its own
    made: dict[str, Any] = {
        "type": "segmentation",
        "name": layer.name,
        "source": sources,
        "tab": "segments",
        "segments": [str(i) for i in layer.shown],
        "ignoreNullVisibleSet": layer.all_if_none,
        "segmentColors": {str(i): color for i, color in layer.colors.items()},
        "hideSegmentZero": layer.hide_zero,
        "selectedAlpha": layer.alpha,
        "notSelectedAlpha": layer.dimmed,
        "objectAlpha": layer.mesh_alpha,
        "visible": layer.visible,
    }
    if layer.default_color is not None:
        made["segmentDefaultColor"] = layer.default_color
    return made


def _diagonal(focus: Focus) -> float:
    return float(sum(v * v for v in focus.size_nm) ** 0.5)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
