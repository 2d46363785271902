"""Renders: pictures of cells and what is in them, drawn with VTK without a display."""

from densem.report.render.bodies import class_bodies, legend, object_bodies, with_translucency
from densem.report.render.camera import VIEWS, Frame, View
from densem.report.render.cut_planes import cuts, walls
from densem.report.render.film import FORMATS, write_film
from densem.report.render.found import Found, Item
from densem.report.render.opengl import check_installed, check_opengl, has_opengl
from densem.report.render.ornaments import Bar, Entry, Paper
from densem.report.render.picture import Picture, Subject, draw, draw_apart, turn
from densem.report.render.region import Region, grown
from densem.report.render.scene import Body, CutPlane, Scene

__all__ = [
    "FORMATS",
    "VIEWS",
    "Bar",
    "Body",
    "CutPlane",
    "Entry",
    "Found",
    "Frame",
    "Item",
    "Paper",
    "Picture",
    "Region",
    "Scene",
    "Subject",
    "View",
    "check_installed",
    "check_opengl",
    "class_bodies",
    "cuts",
    "draw",
    "draw_apart",
    "grown",
    "has_opengl",
    "legend",
    "object_bodies",
    "turn",
    "walls",
    "with_translucency",
    "write_film",
]
