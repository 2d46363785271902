"""Object rows: who lies in whom, and which are the largest."""

import pytest

from densem.errors import FormatError, NotFoundError
from densem.study.object_rows import ObjectRows

HEAD = (
    "id,class,level,parent,volume_nm3,centroid_z_nm,centroid_y_nm,centroid_x_nm,box_z_start_nm,box_z_stop_nm,"
    "box_y_start_nm,box_y_stop_nm,box_x_start_nm,box_x_stop_nm\n"
)
# 9 is in 4, 4 and 5 are in 1, 2 stands alone
ROWS = (
    "1,cell,0,0,900,1,2,3,0,2,0,4,0,6\n2,cell,0,0,800,1,2,3,0,2,0,4,0,6\n4,granule,1,1,30,1,2,3,0,2,0,4,0,6\n"
    "9,core,2,4,1,1,2,3,0,2,0,4,0,6\n5,tube,1,1,50,7,8,9,6,8,6,10,8,10\n"
)


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "objects.csv").write_text(HEAD + ROWS)
    return ObjectRows.read(tmp_path / "objects.csv")


def test_columns_in_order_of_id(rows):
    assert rows.id.tolist() == [1, 2, 4, 5, 9]
    assert [rows.classes[k] for k in rows.kind] == ["cell", "cell", "granule", "tube", "core"]
    assert rows.centre_nm[3].tolist() == [7, 8, 9]
    assert rows.box_nm[3].tolist() == [[6, 6, 8], [8, 10, 10]]
    assert [rows.place(i) for i in (0, 1, 5, 6, 10)] == [None, 0, 3, None, None]


@pytest.mark.parametrize(
    ("identity", "shown"), [(1, [1, 4, 5, 9]), (4, [1, 4, 9]), (9, [1, 4, 9]), (5, [1, 5]), (2, [2]), (7, [])]
)
def test_relatives(rows, identity, shown):
    assert rows.id[rows.relatives(identity)].tolist() == shown


def test_the_cell_is_found_through_the_parents(rows, tmp_path):
    assert rows.cell.tolist() == [0, 0, 1, 1, 1]
    (tmp_path / "objects.csv").write_text(HEAD + ROWS.replace("4,granule,1,1", "4,granule,1,0"))
    assert ObjectRows.read(tmp_path / "objects.csv").cell.tolist() == [0, 0, 0, 1, 0]


def test_largest(rows):
    assert rows.largest(rows.level < 2, 3).tolist() == [1, 2, 5]
    assert rows.largest(rows.level == 1, 9).tolist() == [4, 5]


def test_no_objects(tmp_path):
    (tmp_path / "objects.csv").write_text(HEAD)
    rows = ObjectRows.read(tmp_path / "objects.csv")
    assert len(rows) == 0
    assert rows.place(1) is None
    assert rows.relatives(1).tolist() == []


def test_what_is_refused(tmp_path):
    path = tmp_path / "objects.csv"
    with pytest.raises(NotFoundError, match="there is no such table; make it with  densem objects"):
        ObjectRows.read(path)
    path.write_text(HEAD.replace("parent", "mother") + ROWS)
    with pytest.raises(FormatError, match="expected a column 'parent'"):
        ObjectRows.read(path)
    path.write_text(HEAD + "1,cell,0,0,many,1,2,3,0,2,0,4,0,6\n")
    with pytest.raises(FormatError, match="line 2: damaged or cut off, expected 14 values"):
        ObjectRows.read(path)
    path.write_text(HEAD + "1,cell\n")
    with pytest.raises(FormatError, match="line 2: damaged or cut off, expected 14 values"):
        ObjectRows.read(path)
