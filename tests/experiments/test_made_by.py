import re
import subprocess
import sys

import pytest
import torch

from densem.experiments.made_by import made_by


def test_what_is_said():
    found = made_by()
    assert re.fullmatch(r".+, \d+ cores", found.machine)
    assert found.torch == torch.__version__
    assert found.date.endswith("+00:00")
    assert found.commit is None or re.fullmatch(r"[0-9a-f]{12}\+?", found.commit)


MEASURED = """
import numpy as np
from densem.experiments.made_by import PeakMemory
with PeakMemory() as large:
    np.ones(20_000_000).sum()  # 160 MB
with PeakMemory() as small:
    pass
print(large.mb, small.mb)
"""


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or torch.cuda.is_available(), reason="measures processes on Linux"
)
def test_memory_is_that_of_the_part_alone():
    """In a process of its own: others keep what they freed."""
    said = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True).stdout
    if "None" in said:
        pytest.skip("this system does not let a process forget its peak")
    large, small = map(float, said.split())
    assert large - small > 140
