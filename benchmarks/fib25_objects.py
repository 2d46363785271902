"""Neuron bodies of fib25, with affinities and without: ARE and VI on slices that nothing was chosen on.

    python benchmarks/fib25_objects.py DATA WORK --output benchmarks/results/fib25_objects.json

DATA holds train-images.tif and train-instances.tif (170 slices of 250 x 250 voxels of 10 nm). Slices 0-99 are
learnt from, settings are chosen on 100-119 by ARE and, apart from that, by PQ, scores are taken on 120-169. The
annotation divides all voxels among bodies; membrane here is every voxel next to another body, which is no part of
any. Each network is trained with several seeds. What is there already in WORK is taken up. An hour of one core.
"""

import argparse
import json
import tomllib
from pathlib import Path

import numpy as np
import tifffile

from densem import __version__
from densem.networks.hardware import processor
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.intake import ImportRequest, import_volume
from densem.study.object_scoring import ObjectRequest, evaluate_objects
from densem.study.object_tuning import Metric, tune_objects
from densem.study.objects import ObjectsRequest, find_in_study
from densem.study.prediction import PredictRequest, predict_volume
from densem.study.training import TrainRequest, train_model

SLICES = {"train": (0, 100), "eval": (100, 120), "test": (120, 170)}
SCHEMA = {
    "membrane": {"id": 0, "color": "#202020", "background": True},
    "neuron": {"id": 1, "color": "#4080ff", "thing": True},
}
RECIPE = Path(__file__).with_name("fib25_recipe.toml")
MODELS = {"head": ("affinities.share=1",), "plain": ()}
METRICS: tuple[Metric, ...] = ("are", "pq")


def borders(ids):
    """Voxels that share a face with another body."""
    found = ids == 0
    for axis in range(3):
        planes, edge = np.moveaxis(ids, axis, 0), np.moveaxis(found, axis, 0)
        differ = planes[1:] != planes[:-1]
        edge[1:] |= differ
        edge[:-1] |= differ
    return found


def imported(data, work):
    """The study; the dense annotation of each part lies beside it."""
    folder = work / "study"
    if (folder / "study.toml").exists():
        return Study.open(folder)
    work.mkdir(parents=True, exist_ok=True)
    study = Study.create(folder, LabelSchema.from_table(SCHEMA, "fib25"))
    image, ids = (tifffile.imread(data / f"train-{what}.tif") for what in ("images", "instances"))
    membrane = borders(ids)
    parts = {
        "image": image, "labels": np.where(membrane, 0, 1).astype(np.uint8),
        "inner": np.where(membrane, 0, ids), "dense": ids,
    }  # fmt: skip
    for name, (first, last) in SLICES.items():
        for what, array in parts.items():
            tifffile.imwrite(work / f"{name}-{what}.tif", array[first:last])
        request = ImportRequest(
            image=work / f"{name}-image.tif", labels=work / f"{name}-labels.tif",
            instances=work / f"{name}-inner.tif", voxel_size_nm=(10.0, 10.0, 10.0), role=name,
        )  # fmt: skip
        import_volume(study, name, request, lambda *_: None)
    return Study.open(folder)


def predicted(study, kind, seed):
    """Predictions of the eval and the test slices by a model, which is trained if it is not there; its name."""
    model = f"{kind}-{seed}"
    if model not in study.manifest.models:
        for line in train_model(study, TrainRequest(str(RECIPE), model, overrides=MODELS[kind], seed=seed)):
            print(line)
    known = Study.open(study.folder).manifest.predictions
    for volume in ("eval", "test"):
        if f"{model}-{volume}" not in known:
            predict_volume(study.folder, volume, None, PredictRequest((model,)), lambda *_: None)
    return model


def best_of_each_method(study, model, metric):
    """Of all settings tried on the eval slices, the best by a metric, by method."""
    tuned = tune_objects(study.folder, f"{model}-eval", metric)
    rows = tomllib.loads(tuned.file.read_text())["neuron"]["tried"]
    better, best = (1 if metric == "pq" else -1), {}
    for row in rows:
        if row["method"] not in best or better * row[metric] > better * best[row["method"]][metric]:
            best[row["method"]] = row
    return best, rows


def tested(study, work, model, metric, row):
    """Scores on the test slices of the settings of a row."""
    name = f"{model}-{metric}-{row['method']}"
    entries = {k: v for k, v in row.items() if k != metric}
    overrides = tuple(f"neuron.{k}={json.dumps(v)}" for k, v in entries.items())
    request = ObjectsRequest(f"{model}-test", name=name, overrides=overrides, overwrite=True, tuned=False)
    count = find_in_study(study.folder, request).counts()["neuron"]
    scores = {}
    for what, truth in (("inside", None), ("dense", work / "test-dense.tif")):
        output = work / f"{name}-{what}.json"
        asked = ObjectRequest(name, truth=truth, output=output)
        found = evaluate_objects(study.folder, asked, lambda *_: None).scores
        scores[what] = {**found["partitions"], "pq": found["all"]["pq"]}
    return {"settings": entries, f"eval_{metric}": row[metric], "objects": count, **scores}


def of_model(study, work, kind, seed):
    """All that is found out about a training."""
    model = predicted(study, kind, seed)
    summary = Study.open(study.folder).model(model).training
    record = {"steps": summary["steps"], "eval_miou": summary["eval_miou"], "test": {}, "tried_on_eval": {}}
    for metric in METRICS:
        best, record["tried_on_eval"][metric] = best_of_each_method(study, model, metric)
        record["test"][metric] = {m: tested(study, work, model, metric, row) for m, row in best.items()}
    return record


def told(kind, trainings):
    """A line for each metric and method: mean and standard deviation over the trainings."""
    for metric in METRICS:
        for method in trainings[0]["test"][metric]:
            found = [t["test"][metric][method] for t in trainings]
            columns = {"objects": [f["objects"] for f in found]}
            columns |= {f"eval {metric}": [f[f"eval_{metric}"] for f in found]}
            for key in ("adapted_rand_error", "vi_split", "vi_merge", "pq"):
                columns |= {key: [f["inside"][key] for f in found]}
            columns |= {"dense ARE": [f["dense"]["adapted_rand_error"] for f in found]}
            shown = (f"{k} {np.mean(v):.3f} ± {np.std(v, ddof=len(v) > 1):.3f}" for k, v in columns.items())
            print(kind, f"chosen by {metric}", method, *shown, sep=", ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    study = imported(options.data, options.work)
    record = {"densem": __version__, "machine": processor(), "slices": SLICES, "models": {}}
    for kind in options.models:
        trainings = record["models"][kind] = {}
        for seed in options.seeds:
            done = options.work / f"{kind}-{seed}.json"
            if not done.exists():
                done.write_text(json.dumps(of_model(study, options.work, kind, seed)))
            trainings[seed] = json.loads(done.read_text())
        told(kind, list(trainings.values()))
    options.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
