import pytest

from densem.blocks.slurm import SlurmSettings
from densem.inference.job_limits import (
    JobLimits,
    as_memory,
    as_slurm_time,
    memory_bytes,
    slurm_seconds,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),
        ("5:30", 330),
        ("4:00:00", 14400),
        ("1-6", 108000),
        ("2-12:30", 217800),
        ("2-12:00:05", 216005),
    ],
)
def test_times_as_slurm_reads_them(text, seconds):
    assert slurm_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GB", 16 * 10**9), ("1.5 GiB", 3 * 2**29), ("500MB", 5 * 10**8), ("2TiB", 2**41), ("8KB", 8000)],
)
def test_memory(text, size):
    assert memory_bytes(text) == size


def test_the_shorter_of_time_and_lifetime_counts():
    settings = SlurmSettings(memory="2GB", cores=3, time="1:00:00", jobs=5, gpus=1, lifetime="50m")
    assert JobLimits.of(settings) == JobLimits(2 * 10**9, 3000, 5, 1, 3)
    assert JobLimits.of(settings.model_copy(update={"lifetime": "2h"})).seconds == 3600


def test_what_is_suggested_is_rounded_up_and_understood():
    assert as_slurm_time(5000) == "1:30:00"
    assert slurm_seconds(as_slurm_time(100 * 3600 + 1)) == 100 * 3600 + 600
    assert memory_bytes(as_memory(16_000_000_001)) == 17 * 10**9
