"""The 3D view of a page: surfaces inside the file, and the script that shows them with WebGL 2."""

from densem.report.view3d.scene import Scene, SceneClass, SceneObject, decode

__all__ = ["Scene", "SceneClass", "SceneObject", "decode"]
