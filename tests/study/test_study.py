import numpy as np
import pytest

from densem.errors import ExistsError, InputError, NotFoundError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.manifest import ModelEntry, PredictionEntry, VolumeEntry, locked
from densem.volumes import ome_zarr

SIZE = (40.0, 10.0, 5.0)


def write(path, array):
    target = ome_zarr.create(path, array.shape, array.dtype)
    target[:] = array
    ome_zarr.describe(ome_zarr.temporary(path), [("s0", SIZE)], (0.0, 0.0, 0.0), {"id": "abc"})
    return ome_zarr.finish(path)


@pytest.fixture
def study(tmp_path):
    made = Study.create(tmp_path / "s", LabelSchema.from_names(["inside", "membrane"]))
    write(made.folder / "volumes/first.zarr", np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5))
    write(made.folder / "annotations/first/semantic.zarr", np.ones((2, 3, 5), np.uint8))
    outside = tmp_path / "outside.zarr"
    write(outside, np.zeros((2, 3, 5), np.uint8))
    with locked(made.path) as manifest:
        manifest.volumes["first"] = VolumeEntry(
            role="train", image="volumes/first.zarr", semantic="annotations/first/semantic.zarr"
        )
        manifest.volumes["far"] = VolumeEntry(role="unlabelled", image=str(outside))
    return made


def test_creating_over_something_is_refused(tmp_path, study):
    with pytest.raises(ExistsError, match="there is a study already"):
        Study.create(study.folder, study.schema)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    with pytest.raises(ExistsError, match="not an empty folder"):
        Study.create(tmp_path / "full", study.schema)


def test_volumes_are_found_by_name_and_role(study):
    assert study.names("train") == ["first"]
    assert study.image("first").voxel_size_nm == SIZE
    assert study.labels("first").read().min() == 1
    assert study.labels("far") is None
    with pytest.raises(NotFoundError, match=r"no volume 'frist'\. Did you mean 'first'\?"):
        study.image("frist")


def test_a_moved_study_still_opens(study, tmp_path):
    study.folder.rename(tmp_path / "elsewhere")
    assert Study.open(tmp_path / "elsewhere").image("first").shape == (2, 3, 5)


def test_renaming_moves_files_and_lineage(study):
    with locked(study.path) as manifest:
        manifest.models["m"] = ModelEntry(id="1", recipe="default", trained_on={"first": "abc abc"})
        manifest.predictions["m-first"] = PredictionEntry(
            models=["m"], model_id="1", volume="first", volume_id="abc"
        )
    study.rename_volume("first", "renamed")
    assert study.image("renamed").read()[1, 2, 4] == 29
    assert study.labels("renamed").path == study.folder / "annotations/renamed/semantic.zarr"
    assert not (study.folder / "annotations/first").exists()
    assert study.manifest.models["m"].trained_on == {"renamed": "abc abc"}
    assert study.manifest.predictions["m-first"].volume == "renamed"
    with pytest.raises(ExistsError, match="there is a volume 'far' already"):
        study.rename_volume("renamed", "far")
    with pytest.raises(InputError, match="expected letters"):
        study.rename_volume("renamed", "../out")


def test_removing_what_was_used_needs_force(study):
    with locked(study.path) as manifest:
        manifest.models["m"] = ModelEntry(id="1", recipe="default", trained_on={"first": "abc abc"})
    with pytest.raises(InputError, match=r"volume 'first' was used by model m; --force removes it"):
        study.remove_volume("first")
    assert (study.folder / "volumes/first.zarr").exists()
    study.remove_volume("first", force=True)
    assert not (study.folder / "volumes/first.zarr").exists()
    assert "first" not in study.manifest.volumes


def test_removing_a_reference_leaves_the_file(study, tmp_path):
    assert study.remove_volume("far") == []
    assert (tmp_path / "outside.zarr").exists()


def test_removing_only_labels_keeps_the_image(study):
    study.remove_annotation("first")
    assert study.labels("first") is None
    assert study.image("first").shape == (2, 3, 5)
    with pytest.raises(NotFoundError, match="has no annotation"):
        study.remove_annotation("first")


def test_an_image_that_is_gone_is_named(study, tmp_path):
    (tmp_path / "outside.zarr").rename(tmp_path / "moved.zarr")
    with pytest.raises(NotFoundError, match=r"volume 'far': its image .*outside\.zarr is gone"):
        study.image("far")
