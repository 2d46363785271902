"""Affinities of predictions: any tiles give those of one pass, flips, ensembles, journals, what is left out."""

import numpy as np
import pytest
import torch
import zarr
from tiny_models import EXACT, chunk_files, make_model, make_volume, with_, write_volume

from densem.blocks import Box
from densem.errors import ConfigError, DensemWarning
from densem.inference import Labeller, PredictOptions, label_volume, predict, predict_box, preflight
from densem.inference.labeller import place
from densem.inference.quantization import Calibration, quantize
from densem.model import AffinityHead, Ensemble, Model
from densem.networks.widening import last_layer, widen
from densem.volumes.affinities import Affinities

OFFSETS = ((0, 0, 1), (0, 3, 0), (2, 0, 0), (1, -1, 0))
HEAD = AffinityHead(offsets=OFFSETS, classes=("cell",))


def with_head(config="no-pyramid", seed=0, head=HEAD, **more):
    """A model whose affinities are well mixed; its classes are those of the model without."""
    model = make_model(config, seed=seed, **more)
    torch.manual_seed(seed + 50)
    widen(model.network, len(head.offsets))
    with torch.no_grad():
        layer = last_layer(model.network)
        layer.weight[len(model.schema) :] *= 3
    model.affinities = head
    return model


@pytest.fixture(scope="module")
def model():
    return with_head()


def one_pass(model, volume):
    """Sigmoids of one pass over the whole volume, float32 (K, Z, Y, X): the oracle."""
    raw = volume.read().astype(np.float32)
    image = (raw - np.float32(volume.intensity.mean)) / np.float32(volume.intensity.std)
    pad = [(0, -n % m) for n, m in zip(raw.shape, model.geometry.multiple, strict=True)]
    x = torch.from_numpy(np.pad(image, pad, mode="reflect"))[None, None]
    with torch.no_grad():
        logits = model.network.eval()(x)["semantic"][0, len(model.schema) :]
    z, y, x_side = raw.shape
    return torch.sigmoid(logits[:, :z, :y, :x_side].float()).numpy()


def in_memory(model, volume, options):
    labeller = Labeller.of(model, volume, options, affinities=True)
    found = np.zeros((len(model.schema) + len(OFFSETS), *volume.shape), np.float32)
    for box, p in labeller.pieces(labeller.tiling.cores(volume.box)):
        place(found, volume.box, box, p.cpu().numpy())
    return found


@pytest.mark.parametrize("config", ["whole-family", "deeper", "no-pyramid", "planar"])
def test_any_tiles_equal_one_pass_over_the_whole_volume(config):
    model, volume = with_head(config, seed=3), make_volume((11, 49, 67), seed=1)
    found = in_memory(model, volume, with_(EXACT, core=(4, 16, 24)))[len(model.schema) :]
    expected = one_pass(model, volume)
    assert expected.std(axis=(1, 2, 3)).min() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_written_as_255ths_for_any_blocks_and_classes_as_without(model, volume, tmp_path):
    options = with_(EXACT, core=(4, 16, 24), save=("entropy", "probabilities"))
    result = predict(model, volume, tmp_path / "a", options)
    again = predict(model, volume, tmp_path / "b", with_(options, block=(8, 64, 96), workers=2))
    assert chunk_files(result.folder) == chunk_files(again.folder)
    told = Affinities.beside(result.classes.path)
    assert (told.offsets, told.classes, told.shape) == (OFFSETS, ("cell",), volume.shape)
    assert told.id == Affinities.beside(again.classes.path).id
    written = told.read(volume.box)
    assert written.dtype == np.uint8
    assert np.abs(written - 255 * one_pass(model, volume)).max() < 0.51
    box = Box((1, 5, 9), (4, 30, 60))
    np.testing.assert_array_equal(told.read(box), written[(slice(None), *box.slices)])
    plain = predict(model, volume, tmp_path / "c", with_(options, affinities=False))
    assert Affinities.beside(plain.classes.path) is None
    ours = {k: v for k, v in chunk_files(result.folder).items() if not k.startswith("affinities")}
    assert chunk_files(plain.folder) == ours
    np.testing.assert_array_equal(label_volume(model, volume, options=EXACT), plain.classes.read())
    assert len(predict_box(model, volume, options=EXACT)) == len(model.schema)


def test_classes_are_those_of_the_model_without(volume, tmp_path):
    """The same bytes where a matrix product does not depend on how many channels come out; else nearly so."""
    found, plain = (predict_box(m, volume, options=EXACT) for m in (with_head(), make_model()))
    np.testing.assert_allclose(found, plain, atol=1e-5)


def test_an_unfinished_prediction_goes_on(model, volume, tmp_path, monkeypatch):
    from densem.inference.block_task import BlockTask

    options = with_(EXACT, core=(4, 16, 24))
    whole = predict(model, volume, tmp_path / "a", options)
    real = BlockTask.__call__

    def dies(self, index, box):
        if index == 2:
            raise KeyboardInterrupt
        return real(self, index, box)

    monkeypatch.setattr(BlockTask, "__call__", dies)
    with pytest.raises(KeyboardInterrupt):
        predict(model, volume, tmp_path / "b", options)
    monkeypatch.undo()
    assert Affinities.beside(tmp_path / "b/classes.zarr") is None
    again = predict(model, volume, tmp_path / "b", options)
    assert again.report.resumed == 2
    assert chunk_files(again.folder) == chunk_files(whole.folder)


def test_flips_average_what_they_can_say(model):
    """An input mirrored along y says nothing of offsets along y, and as much as any other of the rest."""
    volume = make_volume((6, 40, 44), seed=4)
    found = in_memory(model, volume, with_(EXACT, flips="yx"))[len(model.schema) :]
    passes = {}
    for axes in ((), (1,), (2,), (1, 2)):
        mirrored = make_volume((6, 40, 44))
        object.__setattr__(mirrored, "array", np.flip(volume.array, axes).copy())
        object.__setattr__(mirrored, "attributes", volume.attributes)
        passes[axes] = np.flip(one_pass(model, mirrored), tuple(a + 1 for a in axes))
    for k, offset in enumerate(OFFSETS):
        kept = [p[k] for axes, p in passes.items() if not any(offset[a] for a in axes)]
        assert len(kept) == {(0, 0, 1): 2, (0, 3, 0): 2, (2, 0, 0): 4, (1, -1, 0): 2}[offset]
        np.testing.assert_allclose(found[k], np.mean(kept, axis=0), atol=1e-5)


def test_ensembles_average_the_same_affinities_and_refuse_different_ones(model, volume, tmp_path):
    other = with_head(seed=9, name="other")
    small = make_volume((5, 32, 48))
    both = in_memory(Ensemble([model, other]), small, EXACT)[len(model.schema) :]
    np.testing.assert_allclose(both, (one_pass(model, small) + one_pass(other, small)) / 2, atol=1e-5)
    mixed = Ensemble([model, make_model(name="plain")])
    with pytest.raises(ConfigError) as caught:
        predict(mixed, small, tmp_path / "p", EXACT)
    assert str(caught.value) == (
        "ensemble: models 'tiny' and 'plain' have different affinities (4 offsets, of cell and none), which "
        "cannot be averaged; give --no-affinities"
    )
    assert not (tmp_path / "p").exists()
    result = predict(mixed, small, tmp_path / "p", with_(EXACT, affinities=False))
    assert not (result.folder / "affinities.zarr").exists()


def test_a_model_is_saved_with_its_affinities(model, tmp_path):
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    assert loaded.affinities == HEAD
    assert loaded.id == model.id
    x = torch.randn(1, 1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.network(x)["semantic"], model.network(x)["semantic"])
    assert "affinities" not in make_model().describe()  # so that its id is that of earlier versions
    assert model.id != with_head(head=AffinityHead(offsets=OFFSETS, classes=("granule",))).id


def test_another_voxel_size_leaves_them_out_and_says_so(model, tmp_path):
    volume = make_volume((5, 40, 44), voxel_size_nm=(40.0, 20.0, 16.0))
    with pytest.warns(DensemWarning, match="no affinities are written, since their offsets count voxels"):
        result = predict(model, volume, tmp_path / "p", with_(EXACT, resample=True))
    assert not (result.folder / "affinities.zarr").exists()


def test_preflight_counts_them(model, tmp_path):
    volume = make_volume((6, 48, 64))
    told = preflight(model, volume, tmp_path / "p", with_(EXACT, affinities=True)).to_dict()
    assert set(told["disk"]["outputs"]) == {"classes", "confidence", "affinities"}


def test_openvino_gives_the_same(model):
    pytest.importorskip("openvino")
    volume = make_volume((5, 32, 48), seed=2)
    found = in_memory(model, volume, with_(EXACT, runtime="openvino"))
    np.testing.assert_allclose(found[len(model.schema) :], one_pass(model, volume), atol=1e-3)


def test_8_bit_integers_keep_them_nearly(model, tmp_path):
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    volume = make_volume((5, 32, 48), seed=2)
    model.save(tmp_path / "m")
    (tmp_path / "m/int8").mkdir()
    quantize(Model.load(tmp_path / "m"), Calibration([volume], patches=4), tmp_path / "m/int8")
    options = with_(EXACT, runtime="openvino-int8")
    found, expected = in_memory(Model.load(tmp_path / "m"), volume, options), one_pass(model, volume)
    off = np.abs(found[len(model.schema) :] - expected)
    assert expected.std(axis=(1, 2, 3)).min() > 0.03
    assert 0 < off.mean() < 0.01
    assert off.max() < 0.1


def test_workers_of_dask_write_the_same(model, volume, tmp_path, dask_scheduler):
    options = with_(EXACT, core=(4, 16, 24), threads=1)
    here, there = tmp_path / "here", tmp_path / "there"
    volume = write_volume(volume, tmp_path / "v.zarr")
    predict(model, volume, here, options)
    predict(model, volume, there, with_(options, engine="dask", scheduler=dask_scheduler))
    assert any(name.startswith("affinities") for name in chunk_files(here))
    assert chunk_files(there) == chunk_files(here)


def test_slurm_jobs_write_the_same(model, volume, tmp_path, slurm):
    (tmp_path / "slurm.toml").write_text(slurm)
    options = with_(EXACT, core=(4, 16, 24), threads=1)
    volume = write_volume(volume, tmp_path / "v.zarr")
    predict(model, volume, tmp_path / "here", options)
    predict(model, volume, tmp_path / "there", with_(options, engine="slurm", settings=tmp_path))
    assert chunk_files(tmp_path / "there") == chunk_files(tmp_path / "here")


def test_fixed_windows_blend_them():
    from densem.model import TilePlan

    model = with_head()
    model.tile = TilePlan(core=(4, 16, 24), window=(4, 24, 32))
    volume = make_volume((6, 40, 52), seed=2)
    options = PredictOptions(precision="fp32", device="cpu")
    found = in_memory(model, volume, options)[len(model.schema) :]
    inner = found[:, 2:4, 8:16, 8:24]
    assert inner.min() >= 0
    assert inner.max() <= 1
    np.testing.assert_array_equal(in_memory(model, volume, with_(options, core=(4, 16, 24)))[-4:], found)


def test_unfinished_or_foreign_affinities_are_refused(tmp_path):
    from densem.errors import IntegrityError

    group = zarr.open_group(tmp_path / "affinities.zarr", mode="w", zarr_format=3)
    group.create_array("s0", shape=(1, 2, 3, 4), dtype="uint8")
    with pytest.raises(IntegrityError, match="expected finished affinities with their offsets"):
        Affinities.beside(tmp_path / "classes.zarr")
