import subprocess
import sys

import numpy as np
import pytest
from tiny_models import EXACT, make_model, make_volume

from densem.inference import measurement
from densem.inference.labeller import Labeller
from densem.inference.measurement import Probe, measure_here, peak_bytes
from densem.inference.place import Place
from densem.inference.torch_backend import TorchNetwork
from densem.model import Ensemble

OPTIONS = EXACT.model_copy(update={"core": (12, 16, 24), "save": ("entropy", "probabilities"), "threads": 1})


def probe(model, options=OPTIONS, seconds=0.1):
    made = Labeller.of(model, make_volume((30, 53, 70)), options)
    place = Place.find(made)
    ensemble = model if isinstance(model, Ensemble) else Ensemble([model])
    return Probe(
        ensemble,
        place.crop(made.volume),
        made.intensity,
        made.tiling,
        place.core,
        options,
        1,
        (12, 8, 24),
        seconds,
    )


@pytest.mark.parametrize(
    ("config", "voxels"),
    [("planar", 12 * 28 * 36), ("whole-family", 20 * 32 * 44)],  # mirrored up to an even end in y
)
def test_a_whole_window_is_what_it_took(config, voxels):
    found = measure_here(probe(make_model(config)))
    (timing,) = found.timed
    assert timing.slices == timing.of == 12
    assert found.window_seconds == pytest.approx(timing.seconds)
    assert found.window_voxels == voxels
    assert (found.precision, found.threads, found.passes) == ("fp32", 1, 1)
    assert set(found.write_seconds) == set(OPTIONS.outputs)
    assert found.pyramid_seconds["probabilities"] == 0 < found.pyramid_seconds["classes"]


def test_a_window_that_takes_too_long_is_timed_in_part(monkeypatch):
    monkeypatch.setattr(TorchNetwork, "depth", lambda self, shown: 1)
    found = measure_here(probe(make_model("whole-family"), seconds=0.0))
    (timing,) = found.timed
    assert 1 + measurement.PIECES == timing.slices < timing.of
    assert found.window_seconds == pytest.approx(timing.first + (12 - timing.first_slices) * timing.steady)


def test_the_labels_compressed_are_those_of_the_model(monkeypatch):
    """The sample is what a worker would write there."""
    from densem.inference import label_volume

    seen = {}
    cost = measurement._cost
    monkeypatch.setattr(measurement, "_cost", lambda n, a, p: seen.update({n: a}) or cost(n, a, p))
    model = make_model("planar")
    asked = probe(model)
    measure_here(asked)
    expected = label_volume(model, make_volume((30, 53, 70)), asked.core, EXACT)
    np.testing.assert_array_equal(seen["classes"], expected)
    assert seen["probabilities"].shape == (1, *asked.core.shape)


def test_ratios_are_those_of_compression():
    asked = probe(make_model("planar"))
    flat, noise = (
        np.zeros((12, 16, 24), np.uint8),
        np.random.default_rng(0).integers(0, 256, (12, 16, 24), np.uint8),
    )
    assert measurement._cost("classes", flat, asked)[0] < 0.05
    assert 0.9 < measurement._cost("classes", noise, asked)[0] < 1.2


def test_models_of_one_design_are_counted():
    models = Ensemble([make_model("planar", 1), make_model(seed=2), make_model("planar", 3)])
    found = measurement._designs(models)
    assert [(m is models.members[i], n) for (m, n), i in zip(found, (0, 1), strict=True)] == [
        (True, 2),
        (True, 1),
    ]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others know a process's own peak anyway")
def test_the_peak_is_the_process_own():
    """Not that of the one which started it, as the resource usage says."""
    ballast = np.ones(300_000_000, np.uint8)
    code = "import sys; sys.modules['torch'] = None\nfrom pathlib import Path\n"
    code += "print([l for l in Path('/proc/self/status').read_text().splitlines() if l.startswith('VmHWM:')][0].split()[1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout) < ballast.nbytes < peak_bytes()
