"""Stage: draws a scene with VTK, without a display, as pixels.

A translucent body is clear where it faces the viewer and closes towards its rim, as a membrane does: its
opacity, one for each vertex, follows the angle between surface and viewer. Depth peeling then blends any
number of translucent surfaces in the right order. Everything is drawn at twice the size and averaged.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from densem.report.render.camera import Frame, View
from densem.report.render.scene import Body, Color, CutPlane, Scene

CLEAR, RIM, FALL = 0.11, 0.6, 2.0
"""Opacity of a translucent surface that faces the viewer, at its rim, and how fast one becomes the other."""

_FINER = 2
_PEELS = 24
_APART = (
    1e-3  # translucent bodies are so much larger, in sizes of the scene: what they touch lies within them
)
_EDGE = 70.0  # degrees between triangles above which a surface is shaded as having an edge
_DEPTH = 4.0  # distance of the camera in sizes of the scene


class Stage:
    """One scene set up for drawing; a context manager, since it holds graphics memory."""

    def __init__(self, scene: Scene, width: int, height: int, background: Color = (255, 255, 255)) -> None:
        import pyvista

        _quiet()
        self._width, self._height = width, height
        points = scene.points
        self._origin = (points.min(axis=0) + points.max(axis=0)) / 2  # VTK's floats are short: stay near 0
        self._size = float(np.linalg.norm(np.ptp(points, axis=0))) or 1.0
        self._plotter = pyvista.Plotter(
            off_screen=True, window_size=[width * _FINER, height * _FINER], lighting=None
        )
        self._plotter.render_window.SetMultiSamples(0)  # with them peeling fails
        self._plotter.set_background([v / 255 for v in background])
        self._light()
        self._clear = self._add([b for b in scene.bodies if b.translucent], translucent=True)
        self._add([b for b in scene.bodies if not b.translucent], translucent=False)
        for plane in scene.planes:
            self._add_plane(plane)
        if self._clear is not None:
            self._plotter.renderer.SetPass(_peeling())

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._plotter.close()

    def draw(self, view: View, frame: Frame) -> np.ndarray:
        """The picture uint8 (height, width, 3)."""
        _, up, towards = view.axes
        centre = np.array(frame.centre_nm) - self._origin
        camera = self._plotter.camera
        camera.parallel_projection = True
        camera.focal_point, camera.up = tuple(centre), tuple(up)
        camera.position = tuple(centre + towards * _DEPTH * self._size)
        camera.parallel_scale = self._height * frame.nm_per_pixel / 2
        reach = self._size + float(np.linalg.norm(centre))
        camera.clipping_range = (_DEPTH * self._size - reach, _DEPTH * self._size + reach)
        if self._clear is not None:
            self._clear["rgba"][:, 3] = np.round(255 * opacity(self._clear["Normals"], towards))
            self._clear.Modified()
        blocks = (
            _drawn(self._plotter.render_window)
            .reshape(self._height, _FINER, self._width, _FINER, 3)
            .astype(np.uint16)
        )
        return ((blocks.sum(axis=(1, 3)) + _FINER**2 // 2) // _FINER**2).astype(np.uint8)

    def _light(self) -> None:
        """A lamp over the viewer's left shoulder and a weak one from the other side."""
        import pyvista

        for place, strength in (((-0.6, 0.8, 1.0), 0.72), ((0.8, -0.3, 1.0), 0.33)):
            self._plotter.add_light(
                pyvista.Light(position=place, intensity=strength, light_type="camera light")
            )

    def _add(self, bodies: list[Body], translucent: bool) -> Any:
        """All bodies as one surface with a colour for each vertex."""
        import pyvista

        if not any(len(body.mesh.faces) for body in bodies):
            return None
        points = np.concatenate([b.mesh.vertices.astype(np.float64) - self._origin for b in bodies])
        starts = np.cumsum([0, *(len(b.mesh.vertices) for b in bodies)])
        faces = np.concatenate(
            [b.mesh.faces.astype(np.int64) + s for b, s in zip(bodies, starts, strict=False)]
        )
        corners = np.column_stack([np.full(len(faces), 3), faces]).ravel()
        if translucent:
            points += vertex_normals(points, faces) * (_APART * self._size)
        surface = pyvista.PolyData(points.astype(np.float32), corners)
        colors = np.concatenate([np.tile((*b.color, 255), (len(b.mesh.vertices), 1)) for b in bodies])
        surface["rgba"] = colors.astype(np.uint8)
        surface = surface.compute_normals(  # edges, such as those of a cut at the border, stay sharp
            cell_normals=False, split_vertices=True, feature_angle=_EDGE, consistent_normals=False
        )
        actor = self._plotter.add_mesh(
            surface, scalars="rgba", rgb=True, smooth_shading=False, show_scalar_bar=False,
            reset_camera=False, copy_mesh=False, ambient=0.24, diffuse=0.78,
            specular=0.0 if translucent else 0.18, specular_power=24,
        )  # fmt: skip
        actor.prop.interpolation = "Phong"
        if translucent:
            actor.ForceTranslucentOn()
        return surface

    def _add_plane(self, plane: CutPlane) -> None:
        import pyvista

        corners = (plane.corners - self._origin).astype(np.float32)
        sheet = pyvista.PolyData(corners, [4, 3, 2, 1, 0])
        (left, right), (top, bottom) = plane.shares
        ends = [[left, 1 - top], [right, 1 - top], [right, 1 - bottom], [left, 1 - bottom]]
        sheet.active_texture_coordinates = np.array(ends, np.float32)
        texture = pyvista.Texture(np.repeat(plane.pixels[..., None], 3, axis=2))
        texture.interpolate = True
        texture.repeat = False
        texture.EdgeClampOn()
        self._plotter.add_mesh(
            sheet, texture=texture, lighting=False, reset_camera=False,
            culling="back" if plane.one_sided else None,
        )  # fmt: skip


def opacity(normals: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """Opacity (N,) of translucent vertices with these unit normals (N, 3), seen from `towards` (3,)."""
    facing = np.minimum(np.abs(normals @ towards), 1.0)
    return CLEAR + (RIM - CLEAR) * (1.0 - facing) ** FALL


def vertex_normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals of vertices, (N, 3): the sum of the faces around, by area. Zero for a vertex of none."""
    a, b, c = (points[faces[:, k]] for k in range(3))
    by_face = np.cross(b - a, c - a)
    count = len(points)
    sums = np.stack(
        [
            sum(np.bincount(faces[:, k], by_face[:, axis], count) for k in range(3))
            for axis in range(3)
        ],
        axis=1,
    )  # fmt: skip
    return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)


def _drawn(window: Any) -> np.ndarray:
    """What a window shows now, uint8 (Y, X, 3); PyVista's screenshot would show the first view for ever."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkWindowToImageFilter

    window.Render()
    reader = vtkWindowToImageFilter()
    reader.SetInput(window)
    reader.ReadFrontBufferOff()
    reader.ShouldRerenderOff()
    reader.Update()
    width, height, _ = reader.GetOutput().GetDimensions()
    colors = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars())
    return np.asarray(colors.reshape(height, width, 3)[::-1])


def _peeling() -> Any:
    """Opaque surfaces, then translucent ones peel by peel from the front.

    VTK would choose dual peeling, which with Mesa's software renderer keeps a single translucent layer
    wherever something opaque is behind it (VTK 9.7).
    """
    from vtkmodules.vtkRenderingOpenGL2 import (
        vtkCameraPass,
        vtkDepthPeelingPass,
        vtkLightsPass,
        vtkOpaquePass,
        vtkRenderPassCollection,
        vtkSequencePass,
        vtkTranslucentPass,
    )

    peeling = vtkDepthPeelingPass()
    peeling.SetMaximumNumberOfPeels(_PEELS)
    peeling.SetOcclusionRatio(0.0)  # all of them
    peeling.SetTranslucentPass(vtkTranslucentPass())
    steps = vtkRenderPassCollection()
    for step in (vtkLightsPass(), vtkOpaquePass(), peeling):
        steps.AddItem(step)
    sequence, camera = vtkSequencePass(), vtkCameraPass()
    sequence.SetPasses(steps)
    camera.SetDelegatePass(sequence)
    return camera


def _quiet() -> None:
    """VTK warns of every kind of window it tries before the one that works."""
    from vtkmodules.vtkCommonCore import vtkLogger

    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
