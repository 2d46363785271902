import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import zarr
from tiny_models import (
    CONFIGS,
    EXACT,
    SCHEMA,
    VOXEL_SIZE,
    chunk_files,
    make_model,
    make_volume,
    whole_pass,
    with_,
)

from densem.blocks import Box, Journal
from densem.errors import (
    ConfigError,
    DensemWarning,
    ExistsError,
    IncompleteError,
    IntegrityError,
    ResourceError,
    VoxelSizeError,
)
from densem.inference import (
    block_task,
    label_volume,
    labeller,
    outputs,
    predict,
    predict_anew,
    predict_box,
    prediction,
)
from densem.inference.fusion import Fusion
from densem.inference.machine import Memory
from densem.inference.tiles import Window
from densem.model import Ensemble
from densem.volumes import ome_zarr, open_volume, pyramid

TILED = EXACT.model_copy(update={"core": (4, 16, 24)})  # shards of 4 x 32 x 48
ALL = TILED.model_copy(update={"save": ("entropy", "probabilities")})


@pytest.fixture(scope="module")
def reference(model, volume, tmp_path_factory):
    """A prediction with everything saved, in one go."""
    folder = tmp_path_factory.mktemp("reference") / "p"
    predict(model, volume, folder, ALL)
    return folder


# ---- seams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("core", [(5, 24, 32), (13, 16, 68)])
def test_any_tiles_equal_one_pass_over_the_whole_volume(config, core):
    model = make_model(config, seed=3)
    volume = make_volume((13, 49, 67), seed=1)
    assert all(n > c for n, c in zip(volume.shape, model.tile.exact, strict=True))
    found = predict_box(model, volume, options=with_(EXACT, core=core))
    np.testing.assert_allclose(found, whole_pass(model, volume), atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 17, 30), (3, 9, 50), (29, 33, 7), (2, 2, 2), (5, 40, 63)])
def test_axes_shorter_than_the_context_and_odd_sides(shape):
    model = make_model("deeper", seed=3)
    volume = make_volume(shape, seed=1)
    found = predict_box(model, volume, options=with_(EXACT, core=(4, 16, 12)))
    np.testing.assert_allclose(found, whole_pass(model, volume), atol=1e-5)


def test_a_box_is_cut_out_of_the_whole(model, volume):
    box = Box((2, 5, 33), (6, 44, 69))
    whole = predict_box(model, volume, options=TILED)
    np.testing.assert_array_equal(predict_box(model, volume, box, TILED), whole[(slice(None), *box.slices)])


def test_labels_in_memory_equal_the_written_ones(model, volume, reference):
    box = Box((1, 7, 12), (7, 50, 70))
    written = open_volume(reference / "classes.zarr").read()
    np.testing.assert_array_equal(label_volume(model, volume, options=EXACT), written)
    np.testing.assert_array_equal(label_volume(model, volume, box, EXACT), written[box.slices])


# ---- what is written -------------------------------------------------------------------------


def test_outputs_follow_from_the_probabilities(model, volume, reference):
    p = whole_pass(model, volume)
    read = {n: np.asarray(zarr.open_group(reference / f"{n}.zarr")["s0"]) for n in TILED.outputs}
    np.testing.assert_array_equal(read["classes"], SCHEMA.id_of_channel[p.argmax(axis=0)])
    assert np.abs(read["confidence"] - 255 * p.max(axis=0)).max() < 0.51
    entropy = np.asarray(zarr.open_group(reference / "entropy.zarr")["s0"])
    h = -(p * np.log(p)).sum(axis=0) / np.log(4)
    assert np.abs(entropy - 255 * h).max() < 0.51
    stored = zarr.open_group(reference / "probabilities.zarr")["s0"]
    assert stored.dtype == np.float32
    np.testing.assert_allclose(np.asarray(stored), p, atol=1e-5)


def test_metadata_says_what_it_is_and_how_it_was_made(model, volume, tmp_path):
    predict(model, volume, tmp_path / "p", TILED, provenance={"command": "densem predict"})
    found = open_volume(tmp_path / "p" / "classes.zarr")
    assert found.voxel_size_nm == VOXEL_SIZE
    assert found.attributes["complete"] is True
    assert found.provenance["command"] == "densem predict"
    assert found.provenance["model"] == [model.id]
    assert found.provenance["input"] == "volume-0"
    assert found.provenance["context"] == list(model.tile.exact)
    counts = np.bincount(found.read().ravel(), minlength=256)
    assert found.attributes["label_counts"] == {str(i): int(n) for i, n in enumerate(counts) if n}
    assert found.attributes["schema"] == SCHEMA.to_table()
    ome = zarr.open_group(tmp_path / "p" / "classes.zarr").attrs["ome"]
    assert {"label-value": 21, "name": "granule"} in ome["image-label"]["properties"]


def test_probabilities_have_a_channel_axis(reference):
    ome = zarr.open_group(reference / "probabilities.zarr").attrs["ome"]["multiscales"][0]
    assert [a["name"] for a in ome["axes"]] == ["c", "z", "y", "x"]
    scale = ome["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1.0, *VOXEL_SIZE]


def test_coarser_levels_are_there(tmp_path):
    model, volume = make_model("planar"), make_volume((3, 41, 300))
    predict(model, volume, tmp_path / "p", EXACT)
    levels = [open_volume(tmp_path / "p" / "classes.zarr", level) for level in (0, 1)]
    assert [v.shape for v in levels] == [(3, 41, 300), (3, 21, 150)]
    assert set(np.unique(levels[1].read())) <= set(SCHEMA.ids)


def test_progress_ends_at_all_voxels(model, volume, tmp_path):
    told = []
    predict(model, volume, tmp_path / "p", TILED, lambda *a: told.append(a))
    assert told[0] == (0, 25970)
    assert told[-1] == (25970, 25970)
    assert len(told) > 20


def test_lines_for_a_person(model, volume, tmp_path):
    result = predict(model, volume, tmp_path / "p", TILED)
    assert result.lines()[0].startswith("Labelled 0.0 million voxels in ")


# ---- the same bytes --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "workers"),
    [((4, 32, 48), 1), ((8, 64, 48), 1), ((12, 64, 96), 1), ((4, 32, 48), 2), ((8, 32, 96), 3)],
)
def test_bytes_are_the_same_for_any_block_and_workers(model, volume, reference, tmp_path, block, workers):
    predict(model, volume, tmp_path / "p", with_(ALL, block=block, workers=workers))
    assert chunk_files(tmp_path / "p") == chunk_files(reference)
    ids = [open_volume(f / "classes.zarr").id for f in (tmp_path / "p", reference)]
    assert ids[0] == ids[1]


def test_bytes_are_the_same_in_any_order(model, volume, reference, tmp_path, monkeypatch):
    original = prediction.RunOptions

    def shuffled(*args, **kwargs):
        order = list(range(8))
        random.Random(4).shuffle(order)
        return original(*args, order=order, **kwargs)

    monkeypatch.setattr(prediction, "RunOptions", shuffled)
    predict(model, volume, tmp_path / "p", ALL)
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_a_block_of_broken_shards_is_refused(model, volume, tmp_path):
    with pytest.raises(ConfigError) as caught:
        predict(model, volume, tmp_path / "p", with_(TILED, block=(4, 40, 48)))
    assert str(caught.value) == (
        "--block 4 40 48: expected whole multiples of the shard 4 32 48 (z y x), so that no two blocks "
        "write one file; give 4 64 48"
    )


def test_a_block_is_on_disk_before_it_is_noted(model, volume, tmp_path, monkeypatch):
    """A machine that goes down after a line was noted has lost no shard of its block."""
    synced, original = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino) or original(handle)
    )
    predict(model, volume, tmp_path / "p", ALL)
    (notes,) = (tmp_path / "p/journal").glob("*.jsonl")
    lines = [i for i, inode in enumerate(synced) if inode == notes.stat().st_ino]
    assert len(lines) == 8
    for block, line in enumerate(lines):
        place = "/".join(map(str, np.unravel_index(block, (2, 2, 2))))
        files = [tmp_path / f"p/{n}.zarr/s0/c" / place for n in ("classes", "confidence", "entropy")]
        files += (tmp_path / f"p/probabilities.zarr/s0/c/{c}" / place for c in range(4))
        assert {p.stat().st_ino for p in files} <= set(synced[:line])


# ---- stopped and taken up again --------------------------------------------------------------


def stopped(monkeypatch, tiles, *arguments):
    """A prediction that is interrupted after so many tiles."""
    original, left = Fusion.pieces, [tiles]

    def limited(self, *given):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(Fusion, "pieces", limited)
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments)


def test_an_interrupted_prediction_is_visibly_unfinished_and_goes_on(
    model, volume, reference, tmp_path, monkeypatch
):
    stopped(monkeypatch, 15, model, volume, tmp_path / "p", ALL)
    assert not list((tmp_path / "p").glob("*.zarr"))
    part = zarr.open_group(tmp_path / "p" / ".classes.zarr.part")
    assert part.attrs["densem"]["complete"] is False
    done = Journal(tmp_path / "p" / "journal").done()
    assert 0 < len(done) < 8
    result = predict(model, volume, tmp_path / "p", ALL)
    assert result.report.resumed == len(done)
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_a_damaged_block_is_found_and_done_again(model, volume, reference, tmp_path, monkeypatch):
    stopped(monkeypatch, 20, model, volume, tmp_path / "p", ALL)
    done = len(Journal(tmp_path / "p" / "journal").done())
    next((tmp_path / "p" / ".classes.zarr.part" / "s0" / "c").rglob("0/0/0")).unlink()
    result = predict(model, volume, tmp_path / "p", ALL)
    assert result.report.resumed == done - 1
    said = f"; the last {result.report.done} of {result.report.planned} blocks in "
    assert said in result.lines()[0]
    assert "a second" not in result.lines()[0]
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_what_a_kill_left_half_written_is_swept_up(model, volume, tmp_path, monkeypatch):
    stopped(monkeypatch, 20, model, volume, tmp_path / "p", TILED)
    torn = f"1.{'0f' * 16}.partial"
    s0 = tmp_path / "p/.confidence.zarr.part/s0"
    for place in ("c/0/0", "c/1/1"):
        (s0 / place).mkdir(parents=True, exist_ok=True)
        (s0 / place / torn).write_bytes(b"torn")
    predict(model, volume, tmp_path / "p", TILED)
    s0 = tmp_path / "p/confidence.zarr/s0"
    assert list(s0.rglob("*.partial")) == []  # nor where the block was done


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("name", ["classes", "probabilities"])
def test_a_shard_that_cannot_be_decoded_is_done_again(
    model, volume, reference, tmp_path, monkeypatch, name, noted
):
    stopped(monkeypatch, 20, model, volume, tmp_path / "p", ALL)
    done = len(Journal(tmp_path / "p/journal").done())
    part = tmp_path / "p" / f".{name}.zarr.part/s0/c"
    path = part / ("0/0/1" if name == "classes" else "2/0/0/1")
    if not noted:
        (tmp_path / "p/journal/worker-0.jsonl").write_text("")
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes(len(data) - 40) + data[-20:])
    assert predict(model, volume, tmp_path / "p", ALL).report.resumed == (done - 1 if noted else 0)
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


@pytest.mark.parametrize("stage", ["describe", "rename"])
def test_a_stop_while_finishing_goes_on(model, volume, reference, tmp_path, monkeypatch, stage):
    calls = []

    def fail_second(original):
        def wrapped(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        return wrapped

    place, name = {"describe": (outputs.pyramid, "build"), "rename": (outputs.Outputs, "_describe")}[stage]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail_second(getattr(place, name)))
        with pytest.raises(KeyboardInterrupt):
            predict(model, volume, tmp_path / "p", ALL)
    result = predict(model, volume, tmp_path / "p", ALL)
    assert result.report.done == 0
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


CHANGES = {
    "model": (lambda: make_model(seed=9), lambda: make_volume(), TILED),
    "input": (lambda: make_model(), lambda: make_volume(seed=2), TILED),
    "precision": (lambda: make_model(), lambda: make_volume(), with_(TILED, precision="bf16")),
    "flips": (lambda: make_model(), lambda: make_volume(), with_(TILED, flips="yx")),
    "context": (lambda: make_model(), lambda: make_volume(), with_(TILED, context=(1, 2, 2))),
    "core": (lambda: make_model(), lambda: make_volume(), with_(TILED, core=(4, 8, 24))),
    "outputs": (lambda: make_model(), lambda: make_volume(), with_(TILED, save=("entropy",))),
    "block": (lambda: make_model(), lambda: make_volume(), with_(TILED, block=(8, 64, 96))),
}


@pytest.mark.parametrize("what", ["model", "precision", "context"])
def test_predicting_anew_replaces_what_was_begun_otherwise(model, volume, tmp_path, monkeypatch, what):
    other_model, other_volume, options = CHANGES[what]
    stopped(monkeypatch, 10, model, volume, tmp_path / "p", TILED)
    given = other_model(), other_volume()
    result = predict_anew(*given, tmp_path / "p", options)
    assert (result.report.resumed, result.report.done) == (0, 8)
    predict(*given, tmp_path / "alone", options)
    assert chunk_files(tmp_path / "p") == chunk_files(tmp_path / "alone")


def test_predicting_anew_goes_on_with_the_same_and_replaces_the_finished(
    model, volume, reference, tmp_path, monkeypatch
):
    stopped(monkeypatch, 15, model, volume, tmp_path / "p", ALL)
    done = Journal(tmp_path / "p" / "journal").done()
    assert predict_anew(model, volume, tmp_path / "p", ALL).report.resumed == len(done) > 0
    assert chunk_files(tmp_path / "p") == chunk_files(reference)
    assert predict_anew(model, volume, tmp_path / "p", ALL).report.resumed == 0
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


@pytest.mark.parametrize("workers", [1, 2])
def test_pyramids_are_gone_on_with_where_they_were_stopped(model, volume, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(pyramid, "SMALLEST", 8)
    monkeypatch.setattr(ome_zarr, "SHARD", (4, 16, 16))
    monkeypatch.setattr(ome_zarr, "CHUNK", (2, 8, 8))
    options, original, made = with_(ALL, workers=workers), pyramid.LevelTask.__call__, []
    predict(model, volume, tmp_path / "whole", options)

    def counted(self, index, box):
        if len(made) >= 11:
            raise RuntimeError("stopped here")
        record = original(self, index, box)
        made.append((self.folder.name, self.target, index))
        return record

    monkeypatch.setattr(pyramid.LevelTask, "__call__", counted)
    with pytest.raises(IncompleteError, match="stopped here"):
        predict(model, volume, tmp_path / "p", with_(options, retries=0))
    assert Journal(tmp_path / "p/journal").done() == set(range(8))
    first = list(made)
    monkeypatch.setattr(pyramid.LevelTask, "__call__", original)
    assert predict(model, volume, tmp_path / "p", options).report.done == 0
    assert first
    assert chunk_files(tmp_path / "p") == chunk_files(tmp_path / "whole")
    assert any("s3" in name for name in chunk_files(tmp_path / "p"))
    assert not list((tmp_path / "p").glob(".*"))


@pytest.mark.parametrize("what", CHANGES)
def test_going_on_with_something_else_is_refused(model, volume, tmp_path, monkeypatch, what):
    stopped(monkeypatch, 10, model, volume, tmp_path / "p", with_(TILED, block=(4, 32, 48)))
    other_model, other_volume, options = CHANGES[what]
    with pytest.raises(IntegrityError) as caught:
        predict(other_model(), other_volume(), tmp_path / "p", options)
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'p'}: an unfinished run lies there that was begun with another ")
    assert f"{what} (then " in text
    assert text.endswith("run it with the same again to finish it, or give --overwrite to start anew")


def test_overwriting_an_unfinished_prediction_starts_anew(model, volume, reference, tmp_path, monkeypatch):
    stopped(monkeypatch, 10, make_model(seed=9), volume, tmp_path / "p", TILED)
    assert predict(model, volume, tmp_path / "p", with_(ALL, overwrite=True)).report.resumed == 0
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_the_block_of_an_unfinished_run_is_taken_over(model, volume, reference, tmp_path, monkeypatch):
    stopped(monkeypatch, 13, model, volume, tmp_path / "p", with_(ALL, block=(8, 32, 48)))
    assert predict(model, volume, tmp_path / "p", ALL).report.planned == 1 * 2 * 2
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_a_finished_prediction_is_not_replaced_unasked(model, volume, tmp_path):
    predict(model, volume, tmp_path / "p", TILED)
    (tmp_path / "p" / "notes.txt").write_text("mine")
    with pytest.raises(ExistsError) as caught:
        predict(model, volume, tmp_path / "p", TILED)
    assert str(caught.value) == (
        f"{tmp_path / 'p'}: a prediction lies there already; give another name or --overwrite to replace it"
    )
    other = make_volume(seed=2)
    result = predict(model, other, tmp_path / "p", with_(TILED, overwrite=True))
    np.testing.assert_array_equal(result.classes.read(), label_volume(model, other, options=TILED))
    assert (tmp_path / "p" / "notes.txt").exists()


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
import torch; torch.set_num_threads({threads})
from tiny_models import make_model, make_volume, EXACT
from densem.inference import predict
from densem.inference.fusion import Fusion
original = Fusion.pieces
def slow(self, *given):
    time.sleep(0.03)
    return original(self, *given)
Fusion.pieces = slow
save = ("entropy", "probabilities")
options = EXACT.model_copy(update=dict(core=(4, 16, 24), save=save, workers={workers}))
print("ready", flush=True)
predict(make_model(), make_volume(), __import__("pathlib").Path({folder!r}), options)
"""


def killed(folder, workers, delay):
    """A prediction in another process, killed so many seconds after it began its blocks."""
    code = KILLED.format(
        tests=str(Path(__file__).parent), folder=str(folder), workers=workers, threads=torch.get_num_threads()
    )
    before = len(list(folder.glob("journal/*.jsonl")))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    while before == 0 and not list(folder.glob("journal/*.jsonl")):
        time.sleep(0.005)
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(("workers", "delay"), [(1, 0.2), (2, 0.12)])
def test_killed_and_taken_up_again_it_is_identical(reference, tmp_path, workers, delay):
    folder = tmp_path / "p"
    killed(folder, workers, delay)
    assert not (folder / "classes.zarr").exists()
    predict(make_model(), make_volume(), folder, ALL)
    assert chunk_files(folder) == chunk_files(reference)


@pytest.mark.slow
def test_ten_random_kills(reference, tmp_path):
    folder, rng, kills = tmp_path / "p", random.Random(11), 0
    while kills < 10:
        killed(folder, 1 + kills % 2, rng.uniform(0, 0.25))
        kills += 1
        if (folder / "classes.zarr").exists():
            shutil.rmtree(folder)
    if not (folder / "classes.zarr").exists():
        predict(make_model(), make_volume(), folder, ALL)
    assert chunk_files(folder) == chunk_files(reference)


# ---- refused and failed ----------------------------------------------------------------------


def test_another_voxel_size_is_refused(model, tmp_path):
    volume = make_volume(voxel_size_nm=(40.0, 10.0, 9.0))
    with pytest.raises(VoxelSizeError) as caught:
        predict(model, volume, tmp_path / "p")
    assert str(caught.value) == (
        "volume: expected voxels of about 40 x 10 x 8 nm (z y x), with which model 'tiny' was trained, "
        "found 40 x 10 x 9 nm; give --resample to predict at the model's voxel size"
    )
    assert not (tmp_path / "p").exists()


def test_a_voxel_size_within_a_tenth_is_taken(model, tmp_path):
    volume = make_volume((5, 20, 30), voxel_size_nm=(43.0, 10.0, 7.3))
    assert predict(model, volume, tmp_path / "p", TILED).classes.voxel_size_nm == (43.0, 10.0, 7.3)


def test_too_little_disk_is_refused_before_starting(model, volume, tmp_path, monkeypatch):
    usage = psutil.disk_usage("/")
    monkeypatch.setattr(psutil, "disk_usage", lambda path: usage._replace(free=50_000))
    with pytest.raises(ResourceError) as caught:
        predict(model, volume, tmp_path / "p", TILED)
    assert str(caught.value) == (
        f"{tmp_path / 'p'}: the prediction may need up to 69.6 kB (classes, confidence), 50 kB are free "
        "there; free some space or write elsewhere"
    )
    assert not list((tmp_path / "p").glob("*.zarr"))


def test_a_block_larger_than_the_memory_is_refused(model, volume, tmp_path, monkeypatch):
    memory = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=10_000))
    with pytest.raises(ResourceError, match=r"--block 4 32 48: such a block needs .* give a smaller --block"):
        predict(model, volume, tmp_path / "p", TILED)


def test_a_limit_of_memory_counts_as_all_there_is(model, volume, tmp_path, monkeypatch):
    """A container or a job of Slurm gives less than the machine has."""
    compared = []
    monkeypatch.setattr(Memory, "look", lambda: Memory(50_000, 40_000, limited=True))
    with pytest.raises(ResourceError, match=r"--block 4 32 48: .* 40 kB are free; give a smaller --block"):
        predict(model, volume, tmp_path / "p", TILED)
    monkeypatch.setattr(Memory, "look", lambda: Memory(500_000, 400_000, limited=True))
    monkeypatch.setattr(block_task, "keep_memory", lambda times, free: compared.append((times, free)))
    predict(model, volume, tmp_path / "p", TILED)
    assert compared == [(1, 400_000)]


def test_memory_kept_for_windows_of_another_shape_is_returned(model, volume, monkeypatch):
    shapes, returned = [], []
    monkeypatch.setattr(labeller, "return_memory", lambda: returned.append(len(shapes)))
    take = Window.take

    def taken(window, block, at):
        shapes.append(window.shape)
        return take(window, block, at)

    monkeypatch.setattr(Window, "take", taken)
    predict_box(model, volume, options=TILED.model_copy(update={"core": (4, 16, 8)}))
    changes = [i for i, shape in enumerate(shapes) if i == 0 or shape != shapes[i - 1]]
    assert 1 < len(changes) < len(shapes)
    assert returned == changes


def test_a_failing_block_is_named_and_the_rest_is_kept(model, volume, reference, tmp_path, monkeypatch):
    original = outputs.Outputs.write

    def bad_corner(self, box, arrays):
        if box.start == (4, 32, 0):
            raise OSError(5, "Input/output error")
        return original(self, box, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(outputs.Outputs, "write", bad_corner)
        with pytest.raises(IncompleteError) as caught:
            predict(model, volume, tmp_path / "p", ALL)
    assert str(caught.value).startswith(
        "1 of 8 blocks are missing after 3 attempts each: block 6 (z 4:7, y 32:53, x 0:48)"
    )
    assert predict(model, volume, tmp_path / "p", ALL).report.resumed == 7
    assert chunk_files(tmp_path / "p") == chunk_files(reference)


def test_a_disk_that_gives_back_something_else_is_noticed(model, volume, tmp_path, monkeypatch):
    original, calls = outputs.Outputs._digest, []

    def flipped(self, block, box):
        calls.append(1)
        return original(self, block + (len(calls) == 2), box)

    monkeypatch.setattr(outputs.Outputs, "_digest", flipped)
    with pytest.raises(IncompleteError, match="read back differs from what was written; check the disk"):
        predict(model, volume, tmp_path / "p", with_(TILED, retries=0))


def test_a_context_below_zero_is_refused(model, volume, tmp_path):
    with pytest.raises(ConfigError, match=r"--context \(0, -2, 4\): expected voxels, none below zero"):
        predict(model, volume, tmp_path / "p", with_(TILED, context=(0, -2, 4)))


def test_the_practical_context_is_the_default(volume, tmp_path):
    model = make_model(practical=(1, 4, 4))
    found = predict(model, volume, tmp_path / "p", with_(TILED, context="practical"))
    assert found.classes.provenance["context"] == [3, 4, 4]  # in z always the exact one


def test_an_unlike_volume_is_warned_about_and_noted(model, volume, tmp_path):
    fingerprint = volume.attributes["intensity"] | {"sharpness": 9.0, "histogram": (0.5, 0.5)}
    known = make_model()
    known.fingerprint = (type(volume.intensity).from_dict(fingerprint),)
    other = make_volume()
    other.attributes["intensity"]["histogram"] = (0.5, 0.5)
    with pytest.warns(DensemWarning, match="more blurred than the training data"):
        result = predict(known, other, tmp_path / "p", TILED)
    assert result.warnings[0] in result.classes.provenance["warnings"]


def test_an_ensemble_names_all_its_models(volume, tmp_path):
    members = [make_model(seed=s, name=f"m{s}") for s in (1, 2)]
    found = predict(Ensemble(members), volume, tmp_path / "p", TILED).classes
    assert found.provenance["model"] == [m.id for m in members]
    assert json.loads((tmp_path / "p" / "journal" / "plan.json").read_text())["model"] == [
        m.id for m in members
    ]


def test_bf16_differs_little(model, volume, tmp_path):
    found = predict(model, volume, tmp_path / "p", with_(TILED, precision="bf16")).classes.read()
    exact = label_volume(model, volume, options=EXACT)
    assert (found == exact).mean() > 0.97
