import numpy as np

from densem.evaluation import Protocol, contingency, labelled_by_both, scores
from densem.experiments.benchmark import BenchmarkRequest, do, plan
from densem.study.intake import ImportRequest, import_volume

HUMANS = """
[[rows]]
slug = "human"
title = "Second annotator"
kind = "annotators"
annotator = "{name}"
"""


def _second_annotation(study, tmp_path):
    """Of the test volume: moved by two voxels, the first slice not labelled."""
    import tifffile

    labels = np.roll(study.labels("test").read(), 2, axis=1)
    labels[0] = 255
    path = tmp_path / "second.tif"
    tifffile.imwrite(path, labels)
    request = ImportRequest(labels=path, annotator="ann", voxel_size_nm=(40.0, 10.0, 10.0))
    import_volume(study, "test", request, lambda done, total: None)


def test_a_second_annotator_is_judged_like_a_network(study, suite_file, tmp_path):
    _second_annotation(study, tmp_path)
    suite_file.write_text(suite_file.read_text() + HUMANS.format(name="ann"))
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    setting.write()
    record = do(setting, setting.run("human"))
    assert (record.status, record.kind, record.seed) == ("done", "annotators", None)
    assert set(record.results) == {"test"}
    truth, theirs = study.labels("test"), study.annotation("test", "ann")
    expected = scores(contingency(labelled_by_both(truth, theirs), theirs, study.schema, Protocol.CELLS))
    assert record.scores("test", "cells") == expected
    assert record.scores("test", "labelled").voxels == 4 * 72 * 88
    assert record.results["test"].prediction is None
    assert (setting.folder.path / "annotators/human/blocks-test-labelled.npz").is_file()


def test_without_annotations_the_row_fails_and_says_how_to_import_some(study, suite_file):
    suite_file.write_text(suite_file.read_text() + HUMANS.format(name="nobody"))
    setting = plan(study, BenchmarkRequest(str(suite_file)))
    setting.write()
    record = do(setting, setting.run("human"))
    assert record.status == "failed"
    assert record.error == (
        "no labelled eval or test volume has annotations by 'nobody'; import them with  densem import "
        f"{study.folder} VOLUME --labels FILE --annotator nobody"
    )
