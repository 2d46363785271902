"""The methods paragraph: whole sentences from what is known, nothing from what is not."""

from __future__ import annotations

import numpy as np

from densem.evaluation import ContingencyTable, Protocol, scores
from densem.report import methods_paragraph
from densem.schema import LabelSchema

MODEL = {
    "id": "3f9a12cc",
    "architecture": "hybrid-2d3d-333",
    "parameters": 11399438,
    "voxel_size_nm": (40.0, 10.0, 9.5),
    "recipe": "hybrid",
    "training": {
        "volumes": {"train": {"image": "a1"}, "more": {"image": "b2"}},
        "recipe": {
            "patches": {"batch": 2, "shapes": [[6, 128, 96], [8, 160, 160]]},
            "optimizer": {"name": "adamw", "lr": 0.002},
        },
        "steps": 4000,
        "seed": 0,
        "seconds": 588.1,
        "precision": "bfloat16",
        "best_step": 3750,
        "eval_miou": 0.5512,
        "restarts": [{"seed": 0, "step": 900, "reason": "one class"}],
    },
}
PREDICTION = {
    "volume": "eval",
    "shape": (24, 800, 1200),
    "voxel_size_nm": (40.0, 10.0, 9.5),
    "core": (16, 128, 128),
    "context": (4, 40, 48),
    "flips": "yx",
    "precision": "float32",
    "device": "cpu",
}


def some_scores(protocol: Protocol = Protocol.LABELLED) -> dict[str, object]:
    schema = LabelSchema.resolve("platelet")
    counts = np.eye(7, 8, dtype=np.int64) * 300 + 5
    counts[0] *= protocol is Protocol.LABELLED
    return scores(ContingencyTable(counts, schema, protocol)).to_dict()


def test_all_that_is_known_is_told() -> None:
    text = methods_paragraph(MODEL, PREDICTION, some_scores(), {"densem": "0.1.0", "PyTorch": "2.13"})
    assert text == (
        "Images were segmented with densem 0.1.0 (PyTorch 2.13). "
        "The network hybrid-2d3d-333 (11,399,438 parameters, model 3f9a12cc) labels every voxel at a voxel "
        "size of 40 × 10 × 9.5 nm; the grey values of each volume were normalised by the mean and standard "
        "deviation of that volume. "
        "It was trained on train and more by the recipe hybrid for 4,000 steps of 2 patches of "
        "6 × 128 × 96 or 8 × 160 × 160 voxels (adamw, learning rate up to 0.002, bfloat16, seed 0, "
        "9.8 minutes). "
        "The weights of step 3,750, the best on the eval volume (MIoU 0.551), were kept; 1 earlier attempt "
        "had collapsed. "
        "The volume eval (24 × 800 × 1,200 voxels, 40 × 10 × 9.5 nm each; z × y × x) was labelled in tiles "
        "of 16 × 128 × 128 voxels, each seen with 4 × 40 × 48 voxels around it, averaged over mirrored "
        "inputs (y, x), in float32 on cpu. "
        "Agreement with the annotation was measured over the 2,380 voxels that are labelled: mean "
        "intersection over union 0.824 over 7 classes, 0.824 over 5 organelle classes, accuracy 0.897 and "
        "adjusted Rand index 0.787. "
        "The intersection over union of a class is TP / (TP + FP + FN); a mean leaves out classes absent "
        "from both annotation and prediction; the adjusted Rand index compares the class labels."
    )


def test_nothing_is_told_of_what_is_not_known() -> None:
    text = methods_paragraph({}, {}, {}, {"densem": "0.1.0"})
    assert text == (
        "Images were segmented with densem 0.1.0. The network labels every voxel; the grey values of each "
        "volume were normalised by the mean and standard deviation of that volume."
    )


def test_the_cells_protocol_is_named() -> None:
    text = methods_paragraph({}, {}, some_scores(Protocol.CELLS), {})
    assert "voxels inside labelled cells: mean intersection over union 0." in text
    assert "over 5 organelle classes, accuracy" in text


def test_resampling_is_told() -> None:
    text = methods_paragraph({}, {"core": (8, 64, 64), "predicted_at_nm": (40, 10, 9.5)}, {}, {})
    assert "labelled in tiles of 8 × 64 × 64 voxels, resampled to 40 × 10 × 9.5 nm and back." in text


def test_an_ensemble_is_told_as_one() -> None:
    model = {"members": ["a", "b"], "id": "77", "training": {"steps": 900}}
    text = methods_paragraph(model, {}, {}, {})
    assert "Of these, a was trained for 900 steps." in text
    assert (
        "An ensemble of 2 networks (a, b, model 77) was used as one: the mean of their class probabilities."
    ) in text
