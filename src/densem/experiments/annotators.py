"""Annotators: a second annotation of the volumes, judged as if it were a prediction: the human row.

Only voxels that both annotators labelled are compared.
"""

from __future__ import annotations

import time

from densem.errors import NotFoundError
from densem.evaluation import labelled_by_both
from densem.experiments.judging import score
from densem.experiments.made_by import made_by
from densem.experiments.record import ROLES, RunRecord
from densem.experiments.replicate import facts_of
from densem.experiments.setting import Run, Setting
from densem.study.training import labelled


def run_annotators(setting: Setting, run: Run) -> RunRecord:
    """Score and record the annotations of one annotator, on the volumes that have some.

    Raises:
        NotFoundError: if no scored volume has any.
    """
    started = time.monotonic()
    folder, annotator, study = setting.place(run), run.row.annotator, setting.study
    assert annotator is not None
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for role in ROLES:
        names = [n for n in setting.scored(role) if annotator in study.annotators(n)]
        theirs = {n: study.annotation(n, annotator) for n in names}
        truths = {n: labelled_by_both(labelled(study, n).labels, theirs[n]) for n in names}
        if names:
            results[role] = score(setting, theirs, folder, truths=truths)
    if not results:
        raise NotFoundError(
            f"no labelled eval or test volume has annotations by {annotator!r}; import them with  densem "
            f"import {study.folder} VOLUME --labels FILE --annotator {annotator}"
        )
    record = RunRecord(
        **facts_of(setting, run),
        status="done",
        results=results,
        seconds=round(time.monotonic() - started, 1),
        made_by=made_by(),
    )
    record.write(folder)
    return record
