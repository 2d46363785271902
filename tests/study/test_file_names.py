"""File names that say what is shown."""

from densem.study.file_names import with_ids


def test_names_with_ids():
    assert with_ids("first", "cell", ()) == "first"
    assert with_ids("first", "cell", (7, 3)) == "first-cell-7-3"
    assert with_ids("first", "ids", (1, 2, 3, 4, 5)) == "first-ids-1-2-3-4-etc"
