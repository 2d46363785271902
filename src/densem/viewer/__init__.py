"""Neuroglancer on volumes that lie on disk: what it shows, and the server it reads from.

A `Scene` says what is shown, `state_of` says it in Neuroglancer's words, a `Site` says which files may be
read for it, and a `ViewServer` gives them out. The client is that of the `neuroglancer` wheel; its Python
server is not used.
"""

from densem.viewer.addresses import is_loopback
from densem.viewer.client import find_client
from densem.viewer.scene import Focus, ImageLayer, Scene, SegmentLayer
from densem.viewer.segment_names import segment_names
from densem.viewer.server import ViewServer, open_server
from densem.viewer.share import Share
from densem.viewer.site import Site
from densem.viewer.source import Source
from densem.viewer.state import state_of

__all__ = [
    "Focus",
    "ImageLayer",
    "Scene",
    "SegmentLayer",
    "Share",
    "Site",
    "Source",
    "ViewServer",
    "find_client",
    "is_loopback",
    "open_server",
    "segment_names",
    "state_of",
]
