import pytest

from densem.errors import ExistsError
from densem.schema import LabelSchema
from densem.study import Study
from densem.study.demo import run_demo


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_study_of_ones_own_is_not_taken_for_a_demo(tmp_path, overwrite):
    folder = tmp_path / "mine"
    Study.create(folder, LabelSchema.resolve("platelet"))
    (folder / "files").mkdir()
    with pytest.raises(ExistsError, match=r"expected no study or a demo, found a study of your own"):
        run_demo(folder, 1.0, 0, overwrite, print)
    assert (folder / "study.toml").exists()
