"""A study of phantoms with all three roles, and suites of networks that train in a second."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # made_up.py and tiny_suite.py, shared by these tests alone

from tiny_suite import SUITE, TINY

from densem.datasets.phantom import PhantomConfig, write_phantom
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.intake import ImportRequest, import_volume

SIZE = (40.0, 10.0, 10.0)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def study_folder(tmp_path_factory):
    """A study with a train, an eval and a test volume; to be copied."""
    home = tmp_path_factory.mktemp("phantoms")
    study = Study.create(home / "study", LabelSchema.resolve("platelet"))
    for seed, role in enumerate(("train", "eval", "test"), start=3):
        config = PhantomConfig(shape=(5, 72, 88), voxel_size_nm=SIZE, seed=seed, dense_granules=10.0)
        files = write_phantom(config, home / role, "tiff")
        request = ImportRequest(
            image=files.image, labels=files.semantic, palette="platelet-em", role=role, voxel_size_nm=SIZE
        )
        import_volume(study, role, request, lambda done, total: None)
    return study.folder


@pytest.fixture
def study(study_folder, tmp_path):
    import shutil

    shutil.copytree(study_folder, tmp_path / "study")
    return Study.open(tmp_path / "study")


@pytest.fixture
def suite_file(tmp_path):
    """A suite of two rows and an ensemble, with its recipes beside it."""
    mixed = TINY.format(architecture="hybrid-2d3d-333", config="volumetric_scales = [0]\npyramid = [1]")
    flat = TINY.format(architecture="hybrid-2d", config="")
    (tmp_path / "mixed.toml").write_text(mixed)
    (tmp_path / "flat.toml").write_text(flat)
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path
