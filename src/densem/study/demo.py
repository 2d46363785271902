"""The demo: from nothing to a page of figures, through the same steps as a user's own files.

1. Synthetic platelets are written as TIFF stacks with published colours, three volumes that share no cell.
2. They are imported; a small 2D-3D network is trained on the first, with the second deciding when it is best.
3. The third, which training never met, is labelled and scored.

What is done already is not done again: an interrupted demo goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from densem.datasets.phantom import PhantomConfig, PhantomFiles, write_phantom
from densem.errors import ExistsError
from densem.schema import LabelSchema
from densem.study.intake import ImportRequest, import_volume
from densem.study.prediction import PredictRequest, predict_volume
from densem.study.scoring import EvaluationResult, evaluate_prediction
from densem.study.study import Study
from densem.study.training import TrainRequest, train_model

Say = Callable[[str], None]

VOLUMES = {"train": ((24, 400, 400), 3), "eval": ((10, 256, 256), 9), "test": ((16, 288, 288), 5)}
"""Role, which is also the name: shape (z, y, x) and seed; all classes occur in each."""
VOXEL_SIZE_NM = (40.0, 10.0, 10.0)
MARK = "made-by-densem-demo.txt"
MODEL = "demo"
PREDICTION = "demo-test"


def run_demo(folder: Path, seconds: float, seed: int, overwrite: bool, say: Say) -> EvaluationResult:
    """Make, import, train, predict and evaluate in a study folder.

    Args:
        folder: where the study is made.
        seconds: time for training.
        seed: of the volumes and of the training.
        overwrite: begin anew where a study is there.
        say: told in a sentence what is done next.

    Raises:
        ExistsError: if the folder holds something that is no demo.
    """
    study = _study(folder, overwrite)
    for role, (shape, number) in VOLUMES.items():
        if role not in study.manifest.volumes:
            say(f"Making a synthetic platelet volume for {role}: {' x '.join(map(str, shape))} voxels ...")
            _bring_in(study, role, shape, 10 * seed + number)
    if MODEL not in study.manifest.models:
        request = TrainRequest("demo", MODEL, seconds, seed=seed)
        for line in train_model(study, request):
            say(line if not line.startswith("Next:") else "")
    if not (study.prediction_folder(PREDICTION) / "classes.zarr").exists():
        say("Labelling the test volume, which training has not seen ...")
        predict_volume(study.folder, "test", PREDICTION, PredictRequest(models=(MODEL,)), _silent)
    say("Scoring it ...")
    return evaluate_prediction(study.folder, PREDICTION, "labelled", _silent)


def _study(folder: Path, overwrite: bool) -> Study:
    if not (folder / "study.toml").exists():
        return _begin(folder)
    if not (folder / MARK).exists():
        raise ExistsError(
            f"{folder}: expected no study or a demo, found a study of your own; give another folder"
        )
    if not overwrite:
        return Study.open(folder)
    shutil.rmtree(folder)
    return _begin(folder)


def _begin(folder: Path) -> Study:
    study = Study.create(folder, LabelSchema.resolve("platelet"))
    (folder / MARK).write_text("Made by densem demo, which may replace this folder with --overwrite.\n")
    return study


def _bring_in(study: Study, role: str, shape: tuple[int, int, int], seed: int) -> None:
    """Write a phantom as TIFF stacks and import them as a user would."""
    config = PhantomConfig(
        shape=shape, voxel_size_nm=VOXEL_SIZE_NM, seed=seed, packing=1.1, dense_granules=12.0
    )
    files: PhantomFiles = write_phantom(config, study.folder / "files" / role, "tiff", overwrite=True)
    request = ImportRequest(
        image=files.image,
        labels=files.semantic,
        instances=files.cells,
        palette="platelet-em",
        role=role,
        voxel_size_nm=VOXEL_SIZE_NM,
    )
    import_volume(study, role, request, _silent)


def _silent(done: int, total: int) -> None:
    """Report nothing: each step of the demo takes seconds."""
