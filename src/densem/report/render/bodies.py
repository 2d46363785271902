"""Bodies: surfaces of objects and classes, in the schema's colours, from the voxels of a region.

Things are drawn object by object, so that touching ones stay apart; stuff, such as vessels, is drawn as what
a cell holds of its class. The surface of a class encloses its descendants, as its objects do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from densem.meshes.mesh import Mesh
from densem.meshes.surface import surface
from densem.report.render.found import Found
from densem.report.render.ornaments import Entry
from densem.report.render.region import Region
from densem.report.render.scene import Body
from densem.schema import LabelSchema
from densem.volumes import Volume


def object_bodies(found: Found, ids: Collection[int], schema: LabelSchema, region: Region) -> Iterator[Body]:
    """The surfaces of these objects; those outside the region, or too small for its level, are left out."""
    for level, volume in enumerate(found.volumes):
        items = [found.items[i] for i in ids if found.items[i].level == level]
        if not items:
            continue
        voxels = region.read(volume)
        for item in items:
            box = region.local(item.box_nm)
            part = voxels[box.slices]
            if box.size and (part == item.id).any():
                mesh = surface(part, item.id, region.voxel_size_nm, region.corner_of(box))
                yield _body(mesh, schema, item.name)


def class_bodies(
    classes: Volume,
    names: Iterable[str],
    schema: LabelSchema,
    region: Region,
    inside: Sequence[tuple[Volume, int, np.ndarray]] = (),
) -> Iterator[Body]:
    """The surfaces of classes, each with its descendants.

    Args:
        classes: ids (Z, Y, X).
        names: of the classes.
        schema: that they belong to.
        region: what is read.
        inside: object ids, one of them and its box in nm: only what lies in such an object is drawn, object
            by object. Everything in the region without one.
    """
    names = tuple(names)
    if not names:
        return
    voxels = region.read(classes)
    if not inside:
        for name in names:
            yield from _class_body(np.isin(voxels, schema.descendant_ids(name)), schema, name, region)
        return
    opened: dict[int, np.ndarray] = {}
    for volume, wanted, box_nm in inside:
        if id(volume) not in opened:
            opened = {id(volume): region.read(volume)}
        box = region.local(box_nm)
        mask = opened[id(volume)][box.slices] == wanted
        for name in names:
            part = mask & np.isin(voxels[box.slices], schema.descendant_ids(name))
            moved = replace(region, box=box.shift(region.box.start))
            yield from _class_body(part, schema, name, moved)


def with_translucency(bodies: Iterable[Body], schema: LabelSchema) -> list[Body]:
    """The bodies, translucent where others among them lie in theirs by the class tree."""
    listed = list(bodies)
    shown = {body.name for body in listed}
    holding = {
        name
        for name in shown
        if shown & {c.name for c in schema.classes if c.id in schema.descendant_ids(name)} - {name}
    }
    return [replace(body, translucent=body.name in holding) for body in listed]


def legend(bodies: Iterable[Body], schema: LabelSchema) -> list[Entry]:
    """An entry for each class that is drawn, in the order of the schema."""
    seen: dict[str, bool] = {}
    for body in bodies:
        seen[body.name] = seen.get(body.name, False) or body.translucent
    return [Entry(c.name, c.rgb, seen[c.name]) for c in schema.classes if c.name in seen]


def _class_body(mask: np.ndarray, schema: LabelSchema, name: str, region: Region) -> Iterator[Body]:
    if mask.any():
        yield _body(surface(mask, 1, region.voxel_size_nm, region.corner_nm), schema, name)


def _body(mesh: Mesh, schema: LabelSchema, name: str) -> Body:
    return Body(mesh, name, schema[name].rgb)
