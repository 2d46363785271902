"""Labels brought back from the model's grid: where they come from, and stopped at any moment."""

import shutil

import numpy as np
import pytest
import zarr
from tiny_models import EXACT, chunk_files, make_model, make_volume

from densem.blocks import Box, Journal
from densem.blocks.status import Status
from densem.errors import ExistsError, IntegrityError
from densem.inference import predict, resample
from densem.inference.outputs import Outputs
from densem.inference.way_back import BlockBack, WayBack, nearest
from densem.study.progress import statuses

OPTIONS = EXACT.model_copy(update={"resample": True, "core": (4, 16, 24)})
SIZE = (40.0, 20.0, 4.0)


def test_labels_come_back_from_the_voxel_in_which_the_centre_lies():
    labels = np.array([[[1, 2, 3]]], np.uint8)
    box = Box((0, 0, 0), (1, 1, 6))
    assert nearest(labels, (1, 1, 2), box).ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert nearest(labels, (1, 1, 0.5), Box((0, 0, 0), (1, 1, 2))).ravel().tolist() == [2, 3]
    assert nearest(labels, (1, 1, 1.5), Box((0, 0, 2), (1, 1, 4))).ravel().tolist() == [2, 3]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model, a volume of other voxels than its, and the prediction of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("way-back") / "p"
    model, volume = make_model("planar"), make_volume((9, 20, 130), voxel_size_nm=SIZE)
    predict(model, volume, folder, OPTIONS)
    return model, volume, folder


def stop_at(monkeypatch, number):
    """Ctrl-C in the block of this number (counted as they come) on the way back."""
    came, task = [], BlockBack.__call__

    def interrupted(self, index, box):
        came.append(index)
        if len(came) == number:
            raise KeyboardInterrupt
        return task(self, index, box)

    monkeypatch.setattr(BlockBack, "__call__", interrupted)
    return came


def stopped(place, folder, monkeypatch, number=4):
    with monkeypatch.context() as patch:
        stop_at(patch, number)
        with pytest.raises(KeyboardInterrupt):
            predict(place[0], place[1], folder, OPTIONS)


def test_stopped_it_goes_on_with_the_blocks_that_are_left(place, tmp_path, monkeypatch):
    model, volume, whole = place
    stopped(place, tmp_path / "p", monkeypatch)
    assert not (tmp_path / "p/classes.zarr").exists()
    (found,) = statuses(tmp_path / "p")
    assert (found.folder, found.done, found.planned) == (str(tmp_path / "p"), 3, 9)
    came = stop_at(monkeypatch, 0)
    result = predict(model, volume, tmp_path / "p", OPTIONS)
    assert len(came) == 6
    assert result.report is None
    assert chunk_files(tmp_path / "p") == chunk_files(whole)
    assert result.classes.id == predict_id(whole)
    assert Status.of(Journal(tmp_path / "p/journal")).state == "finished"
    assert not (tmp_path / "p" / resample.STAGE).exists()
    with pytest.raises(ExistsError, match="a prediction lies there already"):
        predict(model, volume, tmp_path / "p", OPTIONS)


def predict_id(folder):
    return zarr.open_group(folder / "classes.zarr", mode="r").attrs["densem"]["id"]


def test_a_block_that_the_disk_has_lost_is_done_again(place, tmp_path, monkeypatch):
    model, volume, whole = place
    stopped(place, tmp_path / "p", monkeypatch)
    part = next((tmp_path / "p").glob(".classes*"))
    lost = next(p for p in part.rglob("*") if p.is_file() and p.parent.name.isdigit())
    lost.write_bytes(b"nonsense")
    came = stop_at(monkeypatch, 0)
    predict(model, volume, tmp_path / "p", OPTIONS)
    assert len(came) == 7
    assert chunk_files(tmp_path / "p") == chunk_files(whole)


def test_stopped_in_the_pyramids_no_block_is_done_again(place, tmp_path, monkeypatch):
    model, volume, whole = place

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(WayBack, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict(model, volume, tmp_path / "p", OPTIONS)
    came = stop_at(monkeypatch, 0)
    predict(model, volume, tmp_path / "p", OPTIONS)
    assert came == []
    assert chunk_files(tmp_path / "p") == chunk_files(whole)


def test_what_was_predicted_anew_is_brought_back_anew(place, tmp_path, monkeypatch):
    model, volume, whole = place
    stopped(place, tmp_path / "p", monkeypatch)
    shutil.rmtree(tmp_path / "p" / resample.STAGE)
    came = stop_at(monkeypatch, 0)
    predict(model, volume, tmp_path / "p", OPTIONS)
    assert len(came) == 9
    assert chunk_files(tmp_path / "p") == chunk_files(whole)


def test_another_unfinished_run_is_not_touched(place, tmp_path, monkeypatch):
    """Neither one of other outputs nor one at the volume's own voxel size."""
    model, volume, _ = place
    stopped(place, tmp_path / "p", monkeypatch)
    more = OPTIONS.model_copy(update={"save": ("entropy",)})
    with pytest.raises(IntegrityError, match="an unfinished run lies there that was begun with another outp"):
        predict(model, volume, tmp_path / "p", more)
    Journal(tmp_path / "q/journal").begin({"model": [model.id], "core": [4, 16, 24]})
    before = sorted((tmp_path / "q").rglob("*"))
    with pytest.raises(IntegrityError, match="begun with another core"):
        predict(model, volume, tmp_path / "q", OPTIONS)
    assert sorted((tmp_path / "q").rglob("*")) == before
    came = stop_at(monkeypatch, 0)
    overwrite = more.model_copy(update={"overwrite": True})
    result = predict(model, volume, tmp_path / "p", overwrite)
    assert len(came) == 9
    assert result.open("entropy").shape == volume.shape


def test_a_worker_on_the_way_back_that_fails_is_told_of(place, tmp_path, monkeypatch):
    """A full disk: what is finished is kept."""
    model, volume, whole = place
    write = Outputs.write
    with monkeypatch.context() as patch:
        patch.setattr(Outputs, "write", lambda o, box, a: full(o, box, a, write))
        with pytest.raises(Exception, match="the disk is full"):
            predict(model, volume, tmp_path / "p", OPTIONS)
    predict(model, volume, tmp_path / "p", OPTIONS)
    assert chunk_files(tmp_path / "p") == chunk_files(whole)


def full(outputs, box, arrays, write):
    if outputs.folder.name == "p" and box.start[0] >= 4:
        raise OSError(28, "No space left on device")
    return write(outputs, box, arrays)
