import pytest

from densem.errors import ConfigError, NotFoundError
from densem.objects.nesting import levels
from densem.objects.rules import Rules, read_rules
from densem.schema import LabelSchema

SIZE = (40.0, 10.0, 10.0)


def test_defaults_follow_the_class_tree(schema):
    rules = Rules.of(schema, SIZE)
    assert rules["cell"].method == "components"
    assert (rules["alpha_granule"].method, rules["alpha_granule"].h_nm) == ("watershed", 20.0)
    assert set(rules.by_class) == {"cell", "mitochondrion", "alpha_granule", "dense_granule"}


def test_levels_nest(schema):
    outer, inner = levels(schema, Rules.of(schema, SIZE))
    assert outer.names == ("cell",)
    assert outer.thing_of_id[:8].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert inner.names == ("mitochondrion", "alpha_granule", "dense_granule")
    assert inner.thing_of_id[:8].tolist() == [0, 0, 1, 2, 0, 3, 3, 0]  # a core belongs to its granule
    assert inner.thing_of_id[255] == 0


def test_things_without_a_common_parent_share_a_level():
    table = {"a": {"id": 3, "color": "#000000", "thing": True},
             "b": {"id": 7, "color": "#000001", "thing": True},
             "c": {"id": 5, "color": "#000002", "parent": "b", "thing": True}}  # fmt: skip
    schema = LabelSchema.from_table(table, "test")
    assert [v.names for v in levels(schema, Rules.of(schema, SIZE))] == [("a", "b"), ("c",)]


def test_a_file_and_pairs_that_go_before_it(schema, tmp_path):
    file = tmp_path / "rules.toml"
    file.write_text('[cell]\nmethod = "watershed"\nh_nm = 70\n[mitochondrion]\nmin_volume_nm3 = 1e6\n')
    rules = Rules.of(schema, SIZE, read_rules(file, ["cell.h_nm=90", "alpha_granule.method=components"]))
    assert (rules["cell"].method, rules["cell"].h_nm) == ("watershed", 90.0)
    assert rules["mitochondrion"].min_volume_nm3 == 1e6
    assert rules["alpha_granule"].method == "components"


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ("cell", "expected CLASS.KEY=VALUE"),
        ("cel.h_nm=3", "'cel' is no thing class of the schema. Did you mean 'cell'?"),
        ("background.h_nm=3", "'background' is no thing class"),
        ("cell.h_n=3", r"\[cell\] h_n: .*Did you mean 'h_nm'"),
        ("cell.h_nm=0", r"\[cell\] h_nm: .*greater than 0, found 0"),
        ("cell.method=magic", r"\[cell\] method: .*'components', 'watershed' or 'mutex'"),
        ("cell.connectivity=18", r"\[cell\] connectivity: .*6 or 26"),
    ],
)
def test_wrong_settings(schema, pair, text):
    with pytest.raises(ConfigError, match=text):
        Rules.of(schema, SIZE, read_rules(None, [pair]))


def test_a_setting_of_another_method_is_refused(schema):
    pairs = ["mitochondrion.method=components", "mitochondrion.h_nm=30"]
    with pytest.raises(
        ConfigError,
        match=r'\[mitochondrion\] h_nm: expected it with method = "watershed", found "components"',
    ):
        Rules.of(schema, SIZE, read_rules(None, pairs))
    with pytest.raises(
        ConfigError, match=r'mutex_bias: expected it with method = "mutex", found "watershed"'
    ):
        Rules.of(schema, SIZE, read_rules(None, ["mitochondrion.mutex_bias=0.6"]))


def test_wrong_files(schema, tmp_path):
    with pytest.raises(NotFoundError, match="no such file"):
        read_rules(tmp_path / "none.toml", [])
    (tmp_path / "bad.toml").write_text("[cell")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_rules(tmp_path / "bad.toml", [])
    with pytest.raises(ConfigError, match=r"expected a table \[cell\]"):
        Rules.of(schema, SIZE, {"cell": 3})
