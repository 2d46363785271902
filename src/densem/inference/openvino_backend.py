"""OpenVINO as a runtime for processors: a network as a graph, compiled for each shape it is given.

A graph has no memory between slabs. A window is cut along z into parts that overlap by the network's context:

    window       |=========================|
    part 1       |------>ccc|                 >: kept    c: context, computed and left away
    part 2           |ccc------>ccc|
    part 3                  |ccc------|       the window's own ends are left or kept as in PyTorch

1. The parts are a function of the window's shape and ends alone, all of one length where that is possible.
2. In y and x the context is cut down on the way, as in PyTorch: how much lies around the core is an input of
   the graph, which is made a constant before it is compiled for a shape.
3. The graphs compiled last are kept, each with its copy of the weights; the memory of activations is that of
   the last one.
4. Passes follow one another: a pass has all threads that PyTorch would have.
"""

from __future__ import annotations

import copy
import threading
import time
import warnings
from collections.abc import Iterator
from importlib import util
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densem import networks
from densem.errors import ConfigError
from densem.inference.int8_form import Int8Form
from densem.inference.shown import Shown
from densem.networks import Geometry
from densem.networks.streaming import Crop, Ends, streams

ROOM = 4_000_000
"""Voxels of a part, if its context leaves any; their activations decide the memory."""
KEPT = 4
"""Compiled graphs that are kept."""
_HINTS = {"fp32": "f32", "bf16": "bf16"}
Margins = tuple[int, int, int, int]
_NONE: Margins = (0, 0, 0, 0)
_Place = tuple[int, ...]
_CONVERTING = threading.Lock()


def installed() -> bool:
    """Whether OpenVINO is there, without loading it."""
    return util.find_spec("openvino") is not None


def version(runtime: str = "openvino") -> str:
    """Of the installed OpenVINO.

    Args:
        runtime: that needs it, for the message.

    Raises:
        ConfigError: if there is none, with the command that installs it.
    """
    if not installed():
        raise ConfigError(
            f"--runtime {runtime}: expected OpenVINO, which is not installed; "
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

    def __init__(self, network: nn.Module, precision: str, int8: Int8Form | None = None) -> None:
        geometry = network.geometry
        assert isinstance(geometry, Geometry)
        if not getattr(network, "traceable", True):
            raise ConfigError(
                f"--runtime openvino: {type(network).__name__} does what depends on the size of a window, "
                "which no graph holds; give --runtime torch"
            )
        self.geometry = geometry
        self.streams = streams(network)
        self._network = network
        self._int8 = int8
        self._hint = _HINTS[precision]
        self._graph: Any = None
        self._compiled: dict[_Place, Any] = {}
        self._spent: dict[str, list[float]] = {"graph": [], "shape": []}
        self._lock = threading.Lock()

    @property
    def start_up(self) -> tuple[float, float]:
        """Seconds that the graph took, and compiling it for a shape on average; 0 before it was done."""
        graph, shape = (self._spent[k] for k in ("graph", "shape"))
        return sum(graph), sum(shape) / max(1, len(shape))

    def whole(self, x: Tensor) -> Tensor:
        """Logits (C, Z, Y, X) of a window (1, 1, Z, Y, X)."""
        return self._pass(x, _NONE)

    def slabs(self, shown: Shown, ends: Ends) -> Iterator[Tensor]:
        """Logits (C, n, Y', X') of a window (Z, Y, X), for the core in y and x.

        In all Z slices, less the context at either end in z that is not an end of the volume.
        """
        depth, height, width = shown.shape
        for part, kept in self.parts(depth, height * width, ends.zeros):
            yield self._pass(shown.slices(part.start, part.stop), ends.margins)[:, kept]

    def parts(self, depth: int, side: int, zeros: tuple[bool, bool]) -> list[tuple[slice, slice]]:
        """Parts of a window along z, each with the slices that are kept of it."""
        assert self.geometry.context is not None
        return parts(self.geometry.context[0], depth, side, zeros)

    def run_on(self, depth: int, side: int, zeros: tuple[bool, bool]) -> int:
        """Slices it is run on for a window of so many slices: the context of every part as well."""
        return sum(part.stop - part.start for part, _ in self.parts(depth, side, zeros))

    def _pass(self, x: Tensor, margins: Margins) -> Tensor:
        """One pass over a window; float32 (C, Z, Y', X'), in y and x without the margins."""
        with self._lock:
            request = self._at((*x.shape[2:], *margins)).create_infer_request()
            found: np.ndarray = request.infer([x.contiguous().numpy()])[0][0]
        if not bool(torch.isfinite(x.sum())):  # its ReLU answers NaN with 0, so that nobody would notice
            found.fill(np.nan)
        return torch.from_numpy(found)

    def _at(self, place: _Place) -> Any:
        """The graph compiled for a shape and margins; the activations of the one before are given back."""
        last = next(reversed(self._compiled), None)
        if last not in (None, place):
            self._compiled[last].release_memory()
        compiled = self._compiled.pop(place, None)
        if compiled is None:
            while len(self._compiled) >= KEPT:
                del self._compiled[next(iter(self._compiled))]
            compiled = self._compile(place)
        self._compiled[place] = compiled
        return compiled

    def _compile(self, place: _Place) -> Any:
        import openvino

        if self._graph is None:
            start = time.monotonic()
            self._graph = self._read()
            self._spent["graph"].append(time.monotonic() - start)
        start = time.monotonic()
        graph = self._graph.clone()
        if self.streams:
            set_margins(graph, place[3:])
        graph.reshape([1, 1, *place[:3]])
        settings = {
            "INFERENCE_PRECISION_HINT": self._hint,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # processes that share a machine would meet on the same cores
        }
        compiled = openvino.Core().compile_model(graph, "CPU", settings)
        self._spent["shape"].append(time.monotonic() - start)
        return compiled

    def _read(self) -> Any:
        """The graph for any shape."""
        if self._int8 is None:
            return graph_of(self._network, self.geometry)
        import openvino

        return openvino.Core().read_model(*self._int8.files())


def parts(context: int, depth: int, side: int, zeros: tuple[bool, bool]) -> list[tuple[slice, slice]]:
    """Parts of a window along z, each with the slices that are kept of it.

    Args:
        context: of the network, in slices.
        depth: of the window, in slices.
        side: voxels of a slice.
        zeros: whether the (upper, lower) end is one of the volume.
    """
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


def lengths(network: nn.Module, depth: int, side: int, zeros: tuple[bool, bool]) -> frozenset[int]:
    """Slices that a network would be run on at a time, for a window such as those of `parts`."""
    geometry = network.geometry
    assert isinstance(geometry, Geometry)
    if geometry.context is None or not streams(network):
        return frozenset({depth})
    found = parts(geometry.context[0], depth, side, zeros)
    return frozenset(part.stop - part.start for part, _ in found)


class _Semantic(nn.Module):
    """A network with the one output that prediction uses."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C, Z, Y, X)."""
        logits: Tensor = self.network(x)["semantic"]
        return logits


class _Cropped(_Semantic):
    """The same of a network that streams: the core alone."""

    def forward(self, x: Tensor, margins: Tensor) -> Tensor:  # type: ignore[override]
        """Logits (N, C, Z, Y', X') of the window x (N, 1, Z, Y, X) without its margins, int64 (4,)."""
        return Crop(margins).output(self.network, x)["semantic"]


def graph_of(network: nn.Module, geometry: Geometry) -> Any:
    """A network as an OpenVINO graph for any shape, normalisation folded.

    Its inputs: a window, float32 (1, 1, Z, Y, X), and for a network that streams the margins, int64 (4,).
    Goes by way of OpenVINO's reader of traced modules: its `convert_model` would report to its maker over the
    internet that it was used.
    """
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
    from openvino.passes import ConstantFolding, Manager

    folded = networks.fold_normalization(copy.deepcopy(network).cpu()).eval().float().requires_grad_(False)
    crops = streams(network)
    z, y, x = geometry.multiple
    shown = torch.zeros(1, 1, 2 * z if z > 1 else 3, 4 * y, 4 * x)
    example = (shown, *([torch.tensor([y, y, x, x])] if crops else []))
    with _CONVERTING, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer, about sizes that are compared, and about its age
        module = (_Cropped if crops else _Semantic)(folded)
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        reader = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced)  # to be held until the graph is made
        graph = reader.convert(reader.load(decoder))
    passes = Manager()
    passes.register_pass(ConstantFolding())  # weights that were given a further axis are constants again
    passes.run_passes(graph)
    return graph


def set_margins(graph: Any, margins: tuple[int, ...]) -> None:
    """Make the graph's second input a constant: with it all shapes are known when it is compiled."""
    from openvino import opset13

    parameter = graph.get_parameters()[1]
    parameter.output(0).replace(opset13.constant(np.array(margins, np.int64)).output(0))
    graph.remove_parameter(parameter)
