"""Tables of objects as files: what is read back, and what is said of damaged ones."""

import subprocess
import sys

import pytest

from densem.errors import FormatError, NotFoundError
from densem.object_table import read_rows, read_table, write_csv, write_parquet

TABLE = {
    "id": [1, 7],
    "class": ["cell", "granule, dense"],
    "touches_border": [True, False],
    "volume_nm3": [0.1, 3e6],
    "sphericity": [None, 1 / 3],
}


@pytest.fixture
def path(tmp_path):
    write_csv(TABLE, tmp_path / "objects.csv")
    return tmp_path / "objects.csv"


def test_there_and_back(path):
    assert read_table(path) == TABLE
    assert [p.name for p in path.parent.iterdir()] == ["objects.csv"]


def test_the_cell_is_a_whole_number_and_may_be_missing(tmp_path):
    table = {"id": [1, 2, 3], "class": ["cell", "mitochondrion", "crista"], "parent": [0, 1, 2]}
    for columns in (table, {**table, "cell": [0, 1, 1]}):
        write_csv(columns, tmp_path / "objects.csv")
        assert read_table(tmp_path / "objects.csv") == columns


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(NotFoundError, match="there is no such table; make it with  densem objects"):
        read_table(tmp_path / "objects.csv")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: b"", "objects.csv: damaged, expected a table with the columns id, class"),
        (lambda text: text[:-40], "line 3: damaged or cut off, expected 5 values"),
        (lambda text: text[:-5], "line 3: damaged or cut off, .*--overwrite"),  # within the last number
        (lambda text: text.replace(b"0.1", b"0.x"), "line 2: .*found '1,cell,True,0.x,'"),
        (lambda text: text.replace(b"True", b"Tru"), "line 2: damaged"),
        (lambda text: b"\xff\xfe\x00" + text, "damaged, no table of objects"),
        (lambda text: b"a,b\n1,2\n", "damaged, expected a table with the columns id, class"),
    ],
)
def test_damaged_tables(path, damage, message):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError, match=message):
        read_table(path)


def test_rows_that_are_missing(path):
    assert read_table(path, 2) == TABLE
    with pytest.raises(FormatError, match="damaged or cut off, expected 3 rows, found 2; find the objects"):
        read_table(path, 3)


def test_rows_one_by_one_and_some_columns(path):
    assert list(read_rows(path, ("class", "id"))) == [["cell", 1], ["granule, dense", 7]]
    with pytest.raises(FormatError, match="expected a column 'parent', as densem objects writes it; find"):
        next(read_rows(path, ("id", "parent")))


def test_no_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert not write_parquet(TABLE, tmp_path / "objects.parquet")
    assert list(tmp_path.iterdir()) == []


WITHOUT = """
import sys
sys.modules[{package!r}] = None
from densem.cli.app import run
import densem.object_table
sys.exit(run(["objects", "nowhere", "--prediction", "p"]))
"""


@pytest.mark.parametrize("package", ["cc3d", "edt"])
def test_without_its_packages_the_extra_is_named(package):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package=package)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"densem: error: densem objects needs the package {package}, which is not installed here: "
        "pip install 'densem[objects]'\n"
    )
