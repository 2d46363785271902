"""Ensembles: the best replicates of a row used as one, chosen by the eval volumes alone.

    top       the k runs with the best MIoU on the eval volumes
    forward   beginning with the best run, one by one the run whose probabilities, averaged with those already
              chosen, give the best MIoU on the eval volumes; of the sets passed through the best counts.
              Source: Caruana et al., Ensemble selection from libraries of models, ICML 2004.

Runs that collapsed or failed are no candidates. No test volume is opened before its members are chosen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densem.errors import IncompleteError
from densem.evaluation import ContingencyTable, scores
from densem.experiments.judging import judge
from densem.experiments.made_by import made_by
from densem.experiments.record import RunRecord
from densem.experiments.replicate import facts_of, network_facts
from densem.experiments.setting import Run, Setting
from densem.experiments.suite import Row
from densem.inference import PredictOptions, predict_box
from densem.model import Ensemble, Model
from densem.schema import UNLABELLED, LabelSchema
from densem.study.training import gather, probe_boxes

VOXELS = 3_000_000
"""Of the eval volumes at most, for which forward selection holds all members' probabilities in memory."""


def run_ensemble(setting: Setting, run: Run) -> RunRecord:
    """Choose the members, predict, score and record.

    Raises:
        IncompleteError: if too few members finished.
    """
    started = time.monotonic()
    row, folder = run.row, setting.place(run)
    candidates = candidates_of(setting, row)
    members = chosen(setting, row, candidates)
    models = load(setting, members)
    results = judge(setting, Ensemble(models), folder)
    record = RunRecord(
        **facts_of(setting, run),
        members=tuple(m.name for m in members),
        candidates=tuple(sorted(c.name for c in candidates)),
        status="done",
        network=network_facts(*models),
        results=results,
        seconds=round(time.monotonic() - started, 1),
        made_by=made_by(),
    )
    record.write(folder)
    return record


def candidates_of(setting: Setting, row: Row) -> list[RunRecord]:
    """The runs an ensemble may be made of: finished, neither collapsed nor failed."""
    assert row.of is not None
    return setting.finished(row.of)


def chosen(setting: Setting, row: Row, candidates: Sequence[RunRecord]) -> list[RunRecord]:
    """The members of an ensemble.

    Raises:
        IncompleteError: if there are fewer candidates than members.
    """
    assert row.k is not None
    if len(candidates) < row.k:
        raise IncompleteError(
            f"an ensemble of {row.k} needs as many finished runs of row {row.of!r}, found {len(candidates)}; "
            "collapsed and failed runs do not count"
        )
    if row.how == "top":
        return top(candidates, row.k)
    best_first = top(candidates, len(candidates))
    probabilities, truth = eval_probabilities(setting, load(setting, best_first))
    places = forward(probabilities, truth, row.k, setting.study.schema, row.replacement)
    return [best_first[i] for i in places]


def top(candidates: Sequence[RunRecord], k: int) -> list[RunRecord]:
    """The k best by MIoU on the eval volumes; of equals the one with the smaller seed first."""

    def key(record: RunRecord) -> tuple[float, int]:
        score = record.metric("eval", "labelled", "miou")
        return (-score if score is not None else 1.0, record.seed or 0)

    return sorted(candidates, key=key)[:k]


def load(setting: Setting, members: Sequence[RunRecord]) -> list[Model]:
    """The models of finished runs, in order."""
    return [Model.load(setting.folder.folder_of(m) / (m.model or "model")) for m in members]


# ---- forward selection -----------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Trial:
    """A set of members on the way."""

    members: tuple[int, ...]
    score: float


def forward(
    probabilities: Sequence[np.ndarray],
    truth: np.ndarray,
    k: int,
    schema: LabelSchema,
    replacement: bool = False,
) -> list[int]:
    """Members chosen one by one.

    Args:
        probabilities: of each candidate uint8 (C, N), round(255 * p), best candidate first.
        truth: class channels uint8 (N,), 255 unlabelled.
        k: members at most.
        schema: the classes, C of them.
        replacement: whether a candidate can be chosen more than once.

    Returns:
        Places in `probabilities` in the order they were chosen; of the sets passed through the one with the
        best MIoU, the smallest of equals.
    """
    total = probabilities[0].astype(np.uint16)
    passed = [_Trial((0,), _miou(total, truth, schema))]
    while len(passed[-1].members) < k:
        now = passed[-1].members
        open_places = [i for i in range(len(probabilities)) if replacement or i not in now]
        if not open_places:
            break
        trials = [_Trial((*now, i), _miou(total + probabilities[i], truth, schema)) for i in open_places]
        passed.append(max(trials, key=lambda t: t.score))  # of equals the first: the better one alone
        total = total + probabilities[passed[-1].members[-1]]
    return list(max(passed, key=lambda t: t.score).members)


def _miou(total: np.ndarray, truth: np.ndarray, schema: LabelSchema) -> float:
    c = len(schema)
    known = truth != UNLABELLED
    codes = truth[known].astype(np.int64) * (c + 1) + total.argmax(axis=0)[known]
    counts = np.bincount(codes, minlength=c * (c + 1)).reshape(c, c + 1)
    return scores(ContingencyTable(counts, schema)).miou or 0.0


def eval_probabilities(setting: Setting, models: Sequence[Model]) -> tuple[list[np.ndarray], np.ndarray]:
    """Class probabilities of each model on a sample of the eval volumes, and the truth there.

    Returns:
        Of each model uint8 (C, N), round(255 * p); class channels uint8 (N,), 255 unlabelled.
    """
    volumes = gather(setting.study).judge
    parts = [(v, box) for v in volumes for box in probe_boxes(v, VOXELS // len(volumes))]
    channels = setting.study.schema.channel_of_id
    truth = np.concatenate([channels[v.labels.read(box)].reshape(-1) for v, box in parts])
    options = PredictOptions(runtime="torch")
    found = []
    for model in models:
        pieces = [predict_box(model, v.image, box, options) for v, box in parts]
        flat = [np.rint(255 * p).astype(np.uint8).reshape(len(p), -1) for p in pieces]
        found.append(np.concatenate(flat, axis=1))
    return found, truth
