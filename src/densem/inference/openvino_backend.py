"""OpenVINO as a runtime for processors: a network as a graph, compiled for each shape it is given.

A graph has no memory between slabs. A window is cut along z into parts that overlap by the network's context:

    window       |=========================|
    part 1       |------>ccc|                 >: kept    c: context, computed and left away
    part 2           |ccc------>ccc|
    part 3                  |ccc------|       the window's own ends are left or kept as in PyTorch

1. The parts are a function of the window's shape and ends alone, all of one length where that is possible.
2. Compiled shapes are kept; the memory of activations is that of the last shape.
3. Passes follow one another: a pass has all threads that PyTorch would have.
"""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator
from importlib import util
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densem import networks
from densem.errors import ConfigError
from densem.inference.shown import Shown
from densem.networks import Geometry
from densem.networks.streaming import Ends, streams

ROOM = 4_000_000
"""Voxels of a part, if its context leaves any; their activations decide the memory."""
_HINTS = {"fp32": "f32", "bf16": "bf16"}
_CONVERTING = threading.Lock()


def installed() -> bool:
    """Whether OpenVINO is there, without loading it."""
    return util.find_spec("openvino") is not None


def version() -> str:
    """Of the installed OpenVINO.

    Raises:
        ConfigError: if there is none, with the command that installs it.
    """
    if not installed():
        raise ConfigError(
            "--runtime openvino: expected OpenVINO, which is not installed; "
            "pip install 'densem[openvino]', or give --runtime torch"
        )
    import openvino

    return str(openvino.__version__).split("-")[0]


class OpenVinoNetwork:
    """A network made ready.

    Attributes:
        geometry: what a runner must know of it.
        streams: whether its windows may be cut along z.
    """

    def __init__(self, network: nn.Module, precision: str) -> None:
        geometry = network.geometry
        assert isinstance(geometry, Geometry)
        self.geometry = geometry
        self.streams = streams(network)
        self._network = network
        self._hint = _HINTS[precision]
        self._graph: Any = None
        self._compiled: dict[tuple[int, ...], Any] = {}
        self._last: tuple[int, ...] | None = None
        self._lock = threading.Lock()

    def whole(self, x: Tensor) -> Tensor:
        """Logits (C, Z, Y, X) of a window (1, 1, Z, Y, X)."""
        with self._lock:
            return torch.from_numpy(self._pass(x))

    def slabs(self, shown: Shown, ends: Ends) -> Iterator[Tensor]:
        """Logits (C, n, Y', X') of a window (Z, Y, X), for the core in y and x.

        In all Z slices, less the context at either end in z that is not an end of the volume.
        """
        y0, y1, x0, x1 = ends.margins
        depth, height, width = shown.shape
        inside = (slice(y0, height - y1), slice(x0, width - x1))
        for part, kept in self.parts(depth, height * width, ends.zeros):
            yield self.whole(shown.slices(part.start, part.stop))[:, kept, *inside]

    def parts(self, depth: int, side: int, zeros: tuple[bool, bool]) -> list[tuple[slice, slice]]:
        """Parts of a window along z, each with the slices that are kept of it.

        Args:
            depth: of the window, in slices.
            side: voxels of a slice.
            zeros: whether the (upper, lower) end is one of the volume.
        """
        assert self.geometry.context is not None
        context = self.geometry.context[0]
        first, last = (0 if zeros[0] else context), depth - (0 if zeros[1] else context)
        if last <= first:
            return []
        count = -(-(last - first) // max(1, context, ROOM // side - 2 * context))
        length = -(-(last - first) // count)
        starts = [min(a, last - length) for a in range(first, last, length)]
        done, found = first, []
        for a in starts:
            low, high = max(0, a - context), min(depth, a + length + context)
            found.append((slice(low, high), slice(done - low, a + length - low)))
            done = a + length
        return found

    def run_on(self, depth: int, side: int, zeros: tuple[bool, bool]) -> int:
        """Slices it is run on for a window of so many slices: the context of every part as well."""
        return sum(part.stop - part.start for part, _ in self.parts(depth, side, zeros))

    def _pass(self, x: Tensor) -> np.ndarray:
        """One pass over a window; float32 (C, Z, Y, X)."""
        request = self._at(tuple(x.shape)).create_infer_request()
        found: np.ndarray = request.infer([x.contiguous().numpy()])[0][0]
        if not bool(torch.isfinite(x.sum())):  # its ReLU answers NaN with 0, so that nobody would notice
            found.fill(np.nan)
        return found

    def _at(self, shape: tuple[int, ...]) -> Any:
        """The graph compiled for a shape; the activations of another are given back."""
        if self._last not in (None, shape):
            self._compiled[self._last].release_memory()
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(shape)
        self._last = shape
        return self._compiled[shape]

    def _compile(self, shape: tuple[int, ...]) -> Any:
        import openvino

        if self._graph is None:
            self._graph = graph_of(self._network, self.geometry)
        graph = self._graph.clone()
        graph.reshape(list(shape))
        settings = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # processes that share a machine would meet on the same cores
        }
        return openvino.Core().compile_model(graph, "CPU", settings)


class _Semantic(nn.Module):
    """A network with the one output that prediction uses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, Z, Y, X)."""
        logits: Tensor = self.network(x)["semantic"]
        return logits


def graph_of(network: nn.Module, geometry: Geometry) -> Any:
    """A network as an OpenVINO graph for any shape, normalisation folded.

    Goes by way of OpenVINO's reader of traced modules: its `convert_model` would report to its maker over the
    internet that it was used.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    folded = networks.fold_normalization(copy.deepcopy(network).cpu()).eval().float().requires_grad_(False)
    example = torch.zeros(1, 1, 3, *(2 * m for m in geometry.multiple[1:]))
    with _CONVERTING, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are compared, and about its age
        traced = torch.jit.trace(_Semantic(folded), example, check_trace=False)  # type: ignore[no-untyped-call]
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # to be held until the graph is made
        return reader.convert(reader.load(decoder))
