import tomllib

import numpy as np
import pytest
import torch

from densem import networks
from densem.errors import ConfigError, ExistsError, IntegrityError, NotFoundError, SchemaError, VoxelSizeError
from densem.model import Ensemble, Model, TilePlan
from densem.schema import LabelSchema

CONFIG = {
    "n_classes": 3,
    "filters": 2,
    "depth": 1,
    "volumetric_scales": [0],
    "pyramid": [1],
    "normalization": "batch",
}
SIZE = (40.0, 10.0, 5.0)


def make(seed=0, size=SIZE, names=("a", "b", "c")):
    torch.manual_seed(seed)
    network = networks.build("hybrid-2d3d-333", CONFIG).eval()
    tile = TilePlan(core=(4, 16, 24), exact=network.geometry.context)
    return Model(
        network, "hybrid-2d3d-333", LabelSchema.from_names(list(names)), size, tile, name=f"m{seed}",
        training={"recipe": "demo", "seed": seed, "restarts": []},
    )  # fmt: skip


def test_a_loaded_model_is_the_saved_one(tmp_path):
    model = make()
    model.save(tmp_path / "m")
    again = Model.load(tmp_path / "m")
    assert again.id == model.id
    assert again.voxel_size_nm == SIZE
    assert again.tile == model.tile
    assert again.schema == model.schema
    assert again.training == model.training
    x = torch.randn(1, 1, 3, 8, 12)
    with torch.inference_mode():
        assert torch.equal(model.network(x)["semantic"], again.network(x)["semantic"])
    assert not again.network.training


def test_the_folder_is_readable_and_holds_no_pickle(tmp_path):
    make().save(tmp_path / "m")
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["model.toml", "weights.safetensors"]
    assert len({p.stat().st_mode for p in (tmp_path / "m").iterdir()}) == 1  # whoever reads one reads both
    record = tomllib.loads((tmp_path / "m/model.toml").read_text())
    assert record["voxel_size_nm"] == [40.0, 10.0, 5.0]
    assert record["schema"]["classes"]["b"]["id"] == 1


def test_the_id_follows_what_changes_a_prediction():
    assert make(0).id == make(0).id
    assert make(0).id != make(1).id
    assert make(0).id != make(0, size=(40.0, 5.0, 10.0)).id
    renamed = make(0)
    renamed.name = "other"
    assert renamed.id == make(0).id


def test_an_edited_model_toml_is_refused(tmp_path):
    make().save(tmp_path / "m")
    path = tmp_path / "m/model.toml"
    path.write_text(path.read_text().replace("40.0", "41.0"))
    with pytest.raises(
        IntegrityError, match=r"expected id \w+, found \w+: model\.toml or the weights were changed"
    ):
        Model.load(tmp_path / "m")


def test_changed_weights_are_refused(tmp_path):
    make().save(tmp_path / "m")
    path = tmp_path / "m/weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="were changed after training"):
        Model.load(tmp_path / "m")


@pytest.mark.parametrize("keep", [0, 20, 0.5])
def test_cut_off_weights_are_refused(tmp_path, keep):
    make().save(tmp_path / "m")
    path = tmp_path / "m/weights.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.raises(IntegrityError, match=r"do not fit model\.toml or are damaged"):
        Model.load(tmp_path / "m")


def test_what_is_no_model_says_so(tmp_path):
    with pytest.raises(NotFoundError, match=r"no model there \(expected a folder with model\.toml"):
        Model.load(tmp_path / "none")
    make().save(tmp_path / "m")
    text = (tmp_path / "m/model.toml").read_text()
    (tmp_path / "m/model.toml").write_text("[")
    with pytest.raises(ConfigError, match="not a TOML file"):
        Model.load(tmp_path / "m")
    (tmp_path / "m/model.toml").write_text(text.replace("format = 1", "format = 9"))
    with pytest.raises(ConfigError, match="expected format = 1, found 9"):
        Model.load(tmp_path / "m")
    (tmp_path / "m/model.toml").write_text(text.replace("[tile]", "[tiles]"))
    with pytest.raises(ConfigError, match="missing or wrong entry"):
        Model.load(tmp_path / "m")


def test_saving_over_a_model_needs_overwrite_and_keeps_the_training_record(tmp_path):
    make(0).save(tmp_path / "m")
    (tmp_path / "m/training").mkdir()
    (tmp_path / "m/training/metrics.jsonl").write_text("{}\n")
    with pytest.raises(ExistsError, match="exists already"):
        make(1).save(tmp_path / "m")
    assert Model.load(tmp_path / "m").id == make(0).id
    make(1).save(tmp_path / "m", overwrite=True)
    assert Model.load(tmp_path / "m").id == make(1).id
    assert (tmp_path / "m/training/metrics.jsonl").exists()


def test_an_ensemble_has_the_widest_context_and_an_id_of_its_own():
    a, b = make(0), make(1)
    a.tile = TilePlan(core=(4, 16, 24), exact=(3, 8, 16), practical=(1, 8, 4))
    b.tile = TilePlan(core=(4, 16, 24), exact=(5, 8, 8))
    both = Ensemble([a, b])
    assert both.tile.exact == (5, 8, 16)
    assert both.tile.practical == (5, 8, 8)
    assert Ensemble([a]).id == a.id
    assert both.id not in (a.id, b.id, Ensemble([b, a]).id)
    assert both.name == "m0+m1"


def test_models_that_do_not_fit_are_no_ensemble():
    with pytest.raises(ConfigError, match="at least one model"):
        Ensemble([])
    with pytest.raises(SchemaError, match="'m0' and 'm1' have different label schemas"):
        Ensemble([make(0), make(1, names=("a", "b", "d"))])
    with pytest.raises(VoxelSizeError, match="trained at different voxel sizes"):
        Ensemble([make(0), make(1, size=(40.0, 10.0, 6.0))])


def test_weights_on_disk_are_float32(tmp_path):
    from safetensors.numpy import load_file

    make().save(tmp_path / "m")
    arrays = load_file(tmp_path / "m/weights.safetensors")
    assert {a.dtype for a in arrays.values()} <= {np.dtype("float32"), np.dtype("int64")}


def test_missing_weights_are_called_missing(tmp_path):
    make().save(tmp_path / "m")
    (tmp_path / "m/weights.safetensors").unlink()
    with pytest.raises(
        IntegrityError, match=r"weights\.safetensors: expected the model's weights, found no such"
    ):
        Model.load(tmp_path / "m")
