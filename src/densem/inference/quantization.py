"""Quantisation: a model's network in 8-bit integers, by NNCF's post-training quantisation of its graph.

1. Patches are drawn at random from the volumes that the model learned from, normalised as in prediction.
2. The OpenVINO graph of prediction is run on them; ranges of what goes into each convolution are kept.
3. Weights get a scale per output channel, activations one per tensor; biases make up for the mean error.

What it costs in accuracy is not known here: whoever calls this measures it.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from densem.blocks import Box, Triple, triple
from densem.errors import ConfigError, InputError
from densem.inference import openvino_backend
from densem.inference.int8_form import Int8Form
from densem.inference.tiles import mirror, round_up
from densem.model import Model
from densem.volumes import Volume
from densem.volumes.intensity import measure_intensity

PATCH: Triple = (16, 128, 128)
"""Voxels of a patch, at most."""
ATTEMPTS = 20
"""Places that are looked at for each patch before it is given up: those of one grey value are left out."""


@dataclass(frozen=True)
class Calibration:
    """What ranges are measured on.

    Attributes:
        volumes: images that the model learned from.
        patches: how many are drawn of all of them together.
        seed: where they are.
    """

    volumes: Sequence[Volume]
    patches: int = 24
    seed: int = 0

    def inputs(self, multiple: Triple) -> Iterator[np.ndarray]:
        """Patches as the network is shown them, float32 (1, 1, Z, Y, X).

        Args:
            multiple: sizes that the network accepts.

        Raises:
            InputError: if every place that was looked at has one grey value.
        """
        rng = np.random.default_rng(self.seed)
        sizes = np.array([v.box.size for v in self.volumes], float)
        found = 0
        for _ in range(ATTEMPTS * self.patches):
            if found == self.patches:
                return
            volume = self.volumes[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
            raw = volume.read(_place(volume.shape, rng))
            if raw.min() < raw.max():
                found += 1
                yield _shown(raw, volume, multiple)
        if not found:
            names = ", ".join(v.name for v in self.volumes)
            raise InputError(
                f"{names}: expected grey values to calibrate on, found places of one value alone"
            )


def check_installed() -> None:
    """Refuse to begin without what is needed.

    Raises:
        ConfigError: with the command that installs it.
    """
    if not openvino_backend.installed() or util.find_spec("nncf") is None:
        raise ConfigError(
            "densem quantize: expected OpenVINO and NNCF, of which at least one is not installed; "
            "pip install 'densem[quantize]'"
        )


def quantize(model: Model, calibration: Calibration, folder: Path) -> Int8Form:
    """Write a model's form in 8-bit integers into an empty folder.

    Raises:
        ConfigError: if OpenVINO or NNCF is missing.
        InputError: if the volumes hold nothing to calibrate on.
    """
    check_installed()
    nncf = _nncf()
    import openvino

    graph = openvino_backend.graph_of(model.network, model.geometry)
    inputs = list(calibration.inputs(model.geometry.multiple))
    no_margins = np.zeros(4, np.int64)
    items = [[x, no_margins] if len(graph.inputs) == 2 else [x] for x in inputs]
    with _silent():
        quantized = nncf.quantize(
            graph,
            nncf.Dataset(items),
            subset_size=len(items),
        )
    openvino.save_model(quantized, folder / "graph.xml", compress_to_fp16=False)
    facts: dict[str, Any] = {
        "calibration": {
            "volumes": {v.name: v.id for v in calibration.volumes},
            "patches": len(items),
            "shapes": sorted({tuple(x.shape[2:]) for x in inputs}),
            "seed": calibration.seed,
        },
        "versions": {"openvino": openvino_backend.version(), "nncf": metadata.version("nncf")},
    }
    return Int8Form.write(folder, model, facts)


def _place(shape: Triple, rng: np.random.Generator) -> Box:
    sides = [min(p, n) for p, n in zip(PATCH, shape, strict=True)]
    start = triple(int(rng.integers(n - s + 1)) for n, s in zip(shape, sides, strict=True))
    return Box(start, triple(a + s for a, s in zip(start, sides, strict=True)))


def _shown(raw: np.ndarray, volume: Volume, multiple: Triple) -> np.ndarray:
    """Normalised by the volume's statistics, mirrored up to the sizes that the network accepts."""
    intensity = volume.intensity or measure_intensity(volume)
    whole = round_up(triple(raw.shape), multiple)
    raw = raw[np.ix_(*(mirror(np.arange(w), n) for w, n in zip(whole, raw.shape, strict=True)))]
    values = (raw.astype(np.float32) - np.float32(intensity.mean)) / np.float32(max(intensity.std, 1e-12))
    return np.ascontiguousarray(values)[None, None]


def _nncf() -> Any:
    """NNCF, which on loading would begin to report its use to its maker over the internet."""
    if "nncf" not in sys.modules:
        before = os.environ.get("NNCF_CI")
        os.environ["NNCF_CI"] = "1"
        try:
            import nncf
        finally:
            if before is None:
                del os.environ["NNCF_CI"]
            else:
                os.environ["NNCF_CI"] = before
    import nncf

    # not nncf.set_log_level: it also sets every handler on its logger, which may be somebody else's
    logging.getLogger("nncf").setLevel(logging.ERROR)
    return nncf


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the progress bars that NNCF draws on the standard output."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
