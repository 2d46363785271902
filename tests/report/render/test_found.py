"""Objects as pictures need them, from the table that `densem objects` writes."""

import pytest

from densem.errors import FormatError, NotFoundError
from densem.report.render import Found

HEAD = "id,class,level,parent,box_z_start_nm,box_z_stop_nm,box_y_start_nm,box_y_stop_nm,box_x_start_nm,box_x_stop_nm\n"
ROWS = "1,cell,0,0,0,80,0,90,0,70\n2,cell,0,0,40,160,0,10,8,16\n5,granule,1,1,0,40,10,20,8,16\n9,core,2,5,0,40,10,20,8,16\n"


@pytest.fixture
def found(tmp_path):
    (tmp_path / "objects.csv").write_text(HEAD + ROWS)
    return Found.read("run", tmp_path / "objects.csv", [])


def test_what_lies_in_what(found):
    assert found.outermost == [1, 2]
    assert found.with_content([1]) == [1, 5, 9]
    assert found.with_content([2]) == [2]
    assert found.box_nm([1, 2]).tolist() == [[0, 0, 0], [160, 90, 70]]


def test_ids_that_are_not_there(found):
    with pytest.raises(NotFoundError) as caught:
        found.check([2, 4], "--cell", found.outermost)
    assert str(caught.value) == (
        "--cell 4: objects 'run' have no such one. Of the 2 there are, the nearest are 1 (cell), 2 (cell)"
    )
    with pytest.raises(NotFoundError, match=r"5 is of class granule, in object 1; show it with --ids"):
        found.check([5], "--cell", found.outermost)
    with pytest.raises(NotFoundError, match=r"--ids 7: .* nearest are 1 \(cell\), 2 \(cell\), 5 \(granule\)"):
        found.check([7], "--ids")


def test_a_table_that_is_none(tmp_path):
    path = tmp_path / "objects.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(FormatError, match=r"expected a table with the columns id, class.*--overwrite"):
        Found.read("run", path, [])
