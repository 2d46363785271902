"""Settings chosen on an eval volume have the score that objects made with them get."""

import numpy as np
import pytest
import tifffile

from densem.cli.app import run
from densem.schema import LabelSchema
from densem.study import Study, object_tuning
from densem.study.intake import ImportRequest, import_volume
from densem.study.manifest import PredictionEntry, locked
from densem.study.object_scoring import ObjectRequest, evaluate_objects
from densem.study.object_tuning import tune_objects
from densem.volumes import open_stack
from densem.volumes.label_intake import import_labels

SHAPE, SIZE = (6, 40, 58), (40.0, 10.0, 5.0)
VOXEL_NM3 = 40.0 * 10.0 * 5.0
SCHEMA = """[classes]
outside = { id = 0, color = "#000000", background = true }
cell = { id = 1, color = "#0101e0", thing = true }
mitochondrion = { id = 2, color = "#01abfe", parent = "cell", thing = true }
granule = { id = 3, color = "#ffe000", parent = "cell", thing = true }
vessel = { id = 4, color = "#e0ff00", parent = "cell" }
"""
SPECKS = [(0, 30, 4), (3, 30, 14), (0, 35, 24), (3, 30, 34), (0, 35, 44)]


@pytest.fixture
def truth():
    """Classes and organelles: two mitochondria of 144 voxels, twelve granules of 4, a vessel with an id."""
    classes, organelles = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint16)
    classes[:, 1:39, 1:57] = 1
    for number, x in enumerate((3, 30), start=1):
        classes[1:5, 3:9, x : x + 6], organelles[1:5, 3:9, x : x + 6] = 2, number
    for number in range(12):
        here = (slice(2, 4), slice(14, 15), slice(3 + 4 * number, 5 + 4 * number))
        classes[here], organelles[here] = 3, 10 + number
    classes[1:4, 18:24, 5:25], organelles[1:4, 18:24, 5:25] = 4, 40
    return classes, organelles


@pytest.fixture
def study(tmp_path, truth):
    """A prediction that has false mitochondria of 24 voxels in true cytoplasm."""
    classes, organelles = truth
    (tmp_path / "schema.toml").write_text(SCHEMA)
    made = Study.create(tmp_path / "s", LabelSchema.resolve(str(tmp_path / "schema.toml")))
    predicted = classes.copy()
    for z, y, x in SPECKS:
        predicted[z : z + 3, y : y + 2, x : x + 4] = 2
    for name, array in (("classes", classes), ("organelles", organelles), ("predicted", predicted)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    tifffile.imwrite(tmp_path / "image.tif", np.arange(np.prod(SHAPE), dtype=np.uint16).reshape(SHAPE))
    request = ImportRequest(image=tmp_path / "image.tif", labels=tmp_path / "classes.tif",
                            instances=tmp_path / "organelles.tif", voxel_size_nm=SIZE, role="eval")  # fmt: skip
    import_volume(made, "v", request, lambda done, total: None)
    image, folder = made.image("v"), made.prediction_folder("p")
    import_labels(open_stack(tmp_path / "predicted.tif"), folder / "classes.zarr", made.schema, image)
    with locked(made.path) as manifest:
        manifest.predictions["p"] = PredictionEntry(models=[], model_id="m", volume="v", volume_id=image.id)
    return Study.open(made.folder)


@pytest.mark.parametrize("metric", ["pq", "are"])
def test_the_score_of_a_choice_is_that_of_the_objects_made_with_it(study, metric, monkeypatch):
    monkeypatch.setattr(object_tuning, "H_STEPS", ())
    tuned = tune_objects(study.folder, "p", metric)
    assert set(tuned.settings) == {"mitochondrion", "granule"}
    for name, settings in tuned.settings.items():
        words = [w for key, value in settings.items() for w in ("--set", f"{name}.{key}={value}")]
        asked = ["objects", str(study.folder), "--prediction", "p", "--name", name, "--untuned"]
        assert run([*asked, "--set", f"{name}.method=components", *words]) == 0
        request = ObjectRequest(name=name, level=1)
        scores = evaluate_objects(study.folder, request, lambda done, total: None).scores
        found = (
            scores["classes"][name]["pq"] if metric == "pq" else scores["partitions"]["adapted_rand_error"]
        )
        assert tuned.scores[name] == pytest.approx(found)


def test_false_objects_on_true_cytoplasm_count_and_are_left_away(study, monkeypatch):
    """Their size lies between those of true mitochondria and those of true granules."""
    monkeypatch.setattr(object_tuning, "H_STEPS", ())
    tuned = tune_objects(study.folder, "p")
    assert tuned.scores == {"mitochondrion": 1, "granule": 1}
    smallest = tuned.settings["mitochondrion"]["min_volume_nm3"] / VOXEL_NM3
    assert 24 < smallest <= 144
    assert tuned.settings["granule"]["min_volume_nm3"] == 0
