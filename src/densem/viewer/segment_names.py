"""Segment names: what segments are called, as Neuroglancer's segment properties (`info` of precomputed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from densem.volumes.segment_tags import segment_tags


def segment_names(
    ids: Sequence[int],
    labels: Sequence[str],
    tags: Sequence[str] | None = None,
    numbers: Mapping[str, Sequence[float]] | None = None,
) -> dict[str, Any]:
    """Neuroglancer's segment properties.

    Args:
        ids: of the segments.
        labels: what each one is called.
        tags: for each, to filter by in the list of segments (`#word`).
        numbers: name -> a number for each, to sort and filter by.
    """
    properties: list[dict[str, Any]] = [{"id": "label", "type": "label", "values": list(labels)}]
    if tags is not None:
        properties.append(segment_tags("tags", tags))
    for name, values in (numbers or {}).items():
        numeric = {"id": name, "type": "number", "data_type": "float32", "values": list(values)}
        properties.append(numeric)
    inline = {"ids": [str(i) for i in ids], "properties": properties}
    return {"@type": "neuroglancer_segment_properties", "inline": inline}
