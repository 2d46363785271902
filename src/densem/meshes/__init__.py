"""Meshes: closed surfaces of objects in nm, and the formats they are looked at in."""

from densem.meshes.mesh import Mesh

__all__ = ["Mesh"]
