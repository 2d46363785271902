import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from densem.blocks import Box
from densem.errors import FormatError
from densem.volumes import Volume, open_stack, run_length
from densem.volumes.run_length import write_run_length


def test_by_hand(tmp_path):
    """Starts count from 1 in C order: voxels 7 and 8 of a 2 x 2 x 5 volume lie in its second row."""
    path = tmp_path / "a.json"
    path.write_text(
        json.dumps({".info": {"shape": [2, 2, 5], "dtype": "uint8"}, "3": "7 2 12 1", "1": "1 1"})
    )
    assert open_stack(path).read().tolist() == [
        [[1, 0, 0, 0, 0], [0, 3, 3, 0, 0]],
        [[0, 3, 0, 0, 0], [0, 0, 0, 0, 0]],
    ]


def test_written_by_hand(tmp_path):
    labels = np.array([[[1, 0, 0, 0, 3], [3, 3, 3, 0, 0]]], np.uint8)
    write_run_length(Volume(labels, (40.0, 10.0, 12.0)), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        ".info": {"shape": [1, 2, 5], "dtype": "uint8"},
        "1": "1 1",
        "3": "5 4",
    }


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_round_trip_over_any_slabs(tmp_path_factory, data):
    shape = data.draw(st.tuples(*[st.integers(1, 7)] * 3))
    values = data.draw(st.lists(st.sampled_from([0, 0, 1, 7, 300]), min_size=1, max_size=343))
    labels = np.resize(np.array(values, np.uint16), shape)
    path = tmp_path_factory.mktemp("r") / "a.json"
    before = run_length.SLAB_VOXELS
    run_length.SLAB_VOXELS = data.draw(st.integers(1, 100))
    try:
        write_run_length(Volume(labels, (40.0, 10.0, 12.0)), path)
    finally:
        run_length.SLAB_VOXELS = before
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read(), labels)
    ends = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    box = Box(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    np.testing.assert_array_equal(stack.read(box), labels[box.slices])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "expected run-length JSON, but it cannot be read"),
        ('{"1": "1 2"}', 'expected run-length JSON with ".info": {"shape": [z, y, x]}, found none'),
        ('{".info": {"shape": [3]}}', "expected a shape of three sides (z, y, x), found [3]"),
        ('{".info": {"shape": [1, 2, 3]}, "1": "1 2 3"}', "label '1': expected pairs 'start length'"),
        ('{".info": {"shape": [1, 2, 3]}, "1": "1 b"}', "label '1': expected whole numbers"),
        (
            '{".info": {"shape": [1, 2, 3]}, "1": "5 3"}',
            "runs within voxels 1 to 6 of shape 1 x 2 x 3, found 5 to 7",
        ),
        ('{".info": {"shape": [1, 2, 3]}, "1": "0 3"}', "found 0 to 2"),
        ('{".info": {"shape": [1, 2, 3]}, "1": "1 3", "2": "3 1"}', "labels 1 and 2 both claim voxel 3"),
    ],
)
def test_what_is_refused(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(FormatError) as error:
        open_stack(tmp_path / "a.json")
    assert message in str(error.value)
    assert "a.json" in str(error.value)


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_the_text_does_not_depend_on_how_many_runs_are_held(tmp_path, monkeypatch, batch):
    labels = np.random.default_rng(3).integers(0, 5, (4, 6, 7)).astype(np.uint16) * 100
    volume = Volume(labels, (40.0, 10.0, 12.0))
    write_run_length(volume, tmp_path / "whole.json")
    monkeypatch.setattr(run_length, "BATCH_RUNS", batch)
    monkeypatch.setattr(run_length, "SLAB_VOXELS", 50)
    write_run_length(volume, tmp_path / "pieces.json")
    assert (tmp_path / "pieces.json").read_text() == (tmp_path / "whole.json").read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pieces.json", "whole.json"]
