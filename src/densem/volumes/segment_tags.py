"""Segment tags: words that Neuroglancer filters segments by, as a property of its precomputed format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def segment_tags(identity: str, names: Sequence[str]) -> dict[str, Any]:
    """A property with a tag for each segment: its name as one word, since a space ends a tag in a query."""
    joined = [name.replace(" ", "_") for name in names]
    words = sorted(set(joined))
    place = {word: [n] for n, word in enumerate(words)}
    return {"id": identity, "type": "tags", "tags": words, "values": [place[word] for word in joined]}
