import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import numpy as np, torch
torch.set_num_threads(1)
from tiny_models import EXACT, VOXEL_SIZE, make_model, make_volume
from densem.blocks import Box
from densem.inference import predict
from densem.volumes import Volume

class Waves:
    shape, dtype = {shape!r}, np.dtype(np.uint8)
    def __getitem__(self, key):
        z, y, x = np.ogrid[key]
        return (128 + 60 * np.sin(z + 0.3 * y) + 60 * np.cos(0.2 * x + z)).astype(np.uint8)

known = make_volume().attributes["intensity"]
volume = Volume(Waves(), VOXEL_SIZE, attributes={{"intensity": known, "id": "waves"}})
options = EXACT.model_copy(update=dict(core=(8, 64, 64), save=("entropy", "probabilities")))
predict(make_model("planar"), volume, Path({folder!r}), options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_megabytes(shape, folder):
    code = CODE.format(tests=str(Path(__file__).parent), shape=shape, folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.slow
def test_peak_memory_does_not_grow_with_the_volume(tmp_path):
    small = peak_megabytes((16, 128, 128), tmp_path / "small")
    large = peak_megabytes(
        (32, 512, 256), tmp_path / "large"
    )  # 16 times as many voxels, 67 MB of results more
    assert large < small + 30
