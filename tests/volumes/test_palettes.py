import numpy as np
import pytest
import tifffile

from densem.errors import InputError, NotFoundError, SchemaError
from densem.schema import UNLABELLED, LabelSchema
from densem.volumes import Palette, Volume, open_stack
from densem.volumes.palettes import UNKNOWN, packed_colors, write_rgba


@pytest.fixture
def schema():
    return LabelSchema.resolve("platelet")


def test_the_colours_of_the_release(schema):
    palette = Palette.resolve("platelet-em", schema)
    table = palette.lookup()
    assert palette.transparent == 0
    colors = [0x000000, 0x0101E0, 0x01ABFE, 0x01FE01, 0xFFE000, 0xFA5E00, 0xF500CB]
    assert table[colors].tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert (table != UNKNOWN).sum() == 7


def test_the_schemas_own_colours(schema):
    table = Palette.resolve("schema", schema).lookup()
    assert [table[int(c.color[1:], 16)] for c in schema.classes] == list(schema.ids)
    assert table[0x808080] == UNLABELLED


def test_a_palette_file(tmp_path, schema):
    path = tmp_path / "p.toml"
    path.write_text('transparent = "unlabelled"\n[colors]\n"#ff0001" = "cell"\n"#00FF02" = "unlabelled"\n')
    palette = Palette.resolve(str(path), schema)
    assert (palette.ids, palette.transparent) == ({0xFF0001: 1, 0x00FF02: UNLABELLED}, UNLABELLED)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[colors]\n"#ff0001" = "cel"\n', "no class 'cel' in the schema. Did you mean 'cell'?"),
        ('[colors]\n"red" = "cell"\n', "expected colours as #rrggbb, found 'red'"),
        ("[colours]\n", 'expected a [colors] table such as  "#0101e0" = "cell", found none'),
        ("colors = 3 3", "not a TOML file"),
    ],
)
def test_bad_palette_files(tmp_path, schema, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(SchemaError) as error:
        Palette.resolve(str(tmp_path / "p.toml"), schema)
    assert message in str(error.value)
    assert "p.toml" in str(error.value)


def test_unknown_palettes(tmp_path, schema):
    with pytest.raises(InputError, match=r"--palette platelets-em: neither .* Did you mean 'platelet-em'\?"):
        Palette.resolve("platelets-em", schema)
    with pytest.raises(NotFoundError, match=r"gone\.toml: no palette file there"):
        Palette.resolve(str(tmp_path / "gone.toml"), schema)
    with pytest.raises(SchemaError, match="palette platelet-em: no class 'background' in the schema"):
        Palette.resolve("platelet-em", LabelSchema.resolve("membrane"))


def test_colours_are_packed(tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 4), dtype=np.uint8)
    colors[1, 2, 3] = (1, 171, 254, 0)
    tifffile.imwrite(tmp_path / "a.tif", colors, photometric="rgb", metadata=None)
    stack = open_stack(tmp_path / "a.tif")
    from densem.blocks import Box

    packed, clear = packed_colors(stack, Box.of_shape(stack.shape))
    assert packed[1, 2, 3] == 0x01ABFE
    np.testing.assert_array_equal(packed & 255, colors[..., 2])
    np.testing.assert_array_equal(clear, colors[..., 3] == 0)


def test_rgba_round_trip(tmp_path, schema):
    labels = np.random.default_rng(0).choice([0, 1, 2, 3, 4, 5, 6, 255], (5, 21, 33)).astype(np.uint8)
    path, palette = tmp_path / "a.tif", Palette.of_schema(schema)
    write_rgba(Volume(labels, (40.0, 10.0, 12.0)), path, palette)
    stored = tifffile.imread(path)
    assert stored.shape == (5, 21, 33, 4)
    assert (stored[labels == 2] == (1, 171, 254, 255)).all()
    assert (stored[labels == 0] == 0).all()
    stack = open_stack(path)
    assert stack.voxel_size_nm == pytest.approx((40, 10, 12))
    from densem.blocks import Box

    packed, clear = packed_colors(stack, Box.of_shape(stack.shape))
    np.testing.assert_array_equal(np.where(clear, 0, palette.lookup()[packed]), labels)


def test_an_id_without_a_colour(tmp_path, schema):
    labels = np.zeros((3, 5, 4), np.uint8)
    labels[2, 1, 1] = 9
    with pytest.raises(
        SchemaError, match="expected ids that palette schema has a colour for, found 9 in slice 2"
    ):
        write_rgba(Volume(labels, (40.0, 10.0, 12.0)), tmp_path / "a.tif", Palette.of_schema(schema))
