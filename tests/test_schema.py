import numpy as np
import pytest

from densem.errors import NotFoundError, SchemaError
from densem.schema import BUILTIN, UNLABELLED, LabelSchema


@pytest.fixture
def platelet():
    return LabelSchema.resolve("platelet")


def schema(**classes):
    return LabelSchema.from_table(classes, "study.toml")


BLACK, RED = {"id": 0, "color": "#000000"}, {"id": 1, "color": "#ff0000"}


def test_platelet(platelet):
    assert platelet.ids == (0, 1, 2, 3, 4, 5, 6)
    assert platelet.names[4] == "canalicular_vessel"
    assert platelet.organelle_ids == (2, 3, 4, 5, 6)
    assert platelet.background_id == 0
    assert platelet["alpha_granule"].rgb == (1, 254, 1)
    assert platelet.descendant_ids("cell") == (1, 2, 3, 4, 5, 6)
    assert platelet.descendant_ids("dense_granule") == (5, 6)
    assert [c.name for c in platelet.classes if c.thing] == [
        "cell",
        "mitochondrion",
        "alpha_granule",
        "dense_granule",
    ]


def test_ids_need_not_begin_at_0_or_be_dense():
    sparse = schema(late={"id": 200, "color": "#010203"}, early={"id": 7, "color": "#040506"})
    assert (sparse.ids, sparse.names, sparse.background_id) == ((7, 200), ("early", "late"), None)
    assert sparse.id_of_channel.tolist() == [7, 200]
    expected = np.full(256, 255)
    expected[[7, 200]] = 0, 1
    np.testing.assert_array_equal(sparse.channel_of_id, expected)
    assert sparse.channel_of_id[UNLABELLED] == 255
    assert sparse.rgb_of_id[200].tolist() == [1, 2, 3]
    assert sparse.rgb_of_id[UNLABELLED].tolist() == [128, 128, 128]


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_round_trip_through_a_file(tmp_path, name):
    one = LabelSchema.resolve(name)
    one.write(tmp_path / "s.toml")
    assert LabelSchema.read(tmp_path / "s.toml") == one
    assert LabelSchema.resolve(str(tmp_path / "s.toml")) == one
    assert LabelSchema.from_table(one.to_table(), "again") == one


def test_from_names():
    many = LabelSchema.from_names([f"class {i}" for i in range(20)])
    assert many.ids == tuple(range(20))
    assert len({c.color for c in many.classes[:16]}) == 16
    with pytest.raises(SchemaError, match="class names must differ, found a, b, a"):
        LabelSchema.from_names(["a", "b", "a"])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({"a": BLACK}, "a schema needs at least two classes"),
        ({"a": BLACK, "b": {**RED, "id": 0}}, "class id 0 is used twice"),
        ({"a": BLACK, "b": {**RED, "id": 255}}, "less than or equal to 254"),
        ({"a": BLACK, "b": {**RED, "id": -1}}, "greater than or equal to 0"),
        ({"a": BLACK, "b": {**RED, "color": "red"}}, "should match pattern"),
        ({"a": BLACK, "b": {**RED, "parent": "c"}}, "class 'b' has the unknown parent 'c'"),
        ({"a": {**BLACK, "parent": "b"}, "b": {**RED, "parent": "a"}}, "class 'a' is its own ancestor"),
        ({"a": BLACK, "b/c": RED}, "class name 'b/c' may hold letters, digits"),
        ({n: {**c, "background": True} for n, c in (("a", BLACK), ("b", RED))}, "more than one class is"),
        ({"a": BLACK, "b": {**RED, "colour": 3}}, "Extra inputs are not permitted"),
        (None, "expected a [classes] table such as"),
        ({"a": 3, "b": 4}, "study.toml"),
    ],
)  # fmt: skip
def test_what_is_refused(classes, message):
    with pytest.raises(SchemaError) as error:
        LabelSchema.from_table(classes, "study.toml")
    assert message in str(error.value)
    assert str(error.value).startswith("study.toml: ")


def test_what_is_not_found(tmp_path, platelet):
    with pytest.raises(
        SchemaError, match=r"no class 'mitochondria' in the schema. Did you mean 'mitochondrion'\?"
    ):
        platelet["mitochondria"]
    with pytest.raises(
        SchemaError, match=r"--schema platelets: neither a built-in .* Did you mean 'platelet'\?"
    ):
        LabelSchema.resolve("platelets")
    with pytest.raises(NotFoundError, match=r"gone\.toml: no schema file there"):
        LabelSchema.resolve(str(tmp_path / "gone.toml"))
    (tmp_path / "bad.toml").write_text("classes = = 3")
    with pytest.raises(SchemaError, match=r"bad\.toml: not a TOML file"):
        LabelSchema.read(tmp_path / "bad.toml")
