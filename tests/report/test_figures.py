"""Charts: their texts, lengths and colours are read back from the SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from densem.evaluation import ContingencyTable, Protocol, Scores, scores
from densem.report import class_bars, confusion_matrix
from densem.report.figures import Figure, percent
from densem.schema import LabelSchema

PLATELET = LabelSchema.resolve("platelet")


def of(schema: LabelSchema, protocol: Protocol = Protocol.LABELLED, empty: int = 0) -> Scores:
    rng = np.random.default_rng(1)
    n = len(schema)
    counts = np.eye(n, n + 1, dtype=np.int64) * 900 + rng.integers(1, 90, (n, n + 1))
    counts[:, -1] = empty
    return scores(ContingencyTable(counts, schema, protocol))


def texts(figure: Figure) -> list[str]:
    root = ElementTree.fromstring(figure.data)
    return ["".join(node.itertext()).strip() for node in root.iter() if node.tag.endswith("}text")]


def test_bars_name_every_class_with_its_score_and_the_mean() -> None:
    result = of(PLATELET)
    figure = class_bars(result, PLATELET)
    found = texts(figure)
    for row in result.classes:
        assert row.name.replace("_", " ") in found
        assert f"{row.iou:.3f}" in found
        assert row.id == 0 or PLATELET[row.name].color in figure.data.decode()  # black is SVG's default
    assert f"MIoU {result.miou:.3f}" in found
    assert f"dense_granule_core {result.classes[6].iou:.3f}" in figure.alt


def test_bars_are_as_long_as_the_scores() -> None:
    rows = {"a": {"id": 0, "color": "#4363d8"}, "b": {"id": 1, "color": "#e6194b"}}
    schema = LabelSchema.from_table(rows, "test")
    result = scores(ContingencyTable(np.array([[40, 40, 0], [0, 20, 0]], np.int64), schema))
    assert [c.iou for c in result.classes] == [0.5, pytest.approx(1 / 3)]
    svg = class_bars(result, schema).data.decode()
    widths = []
    for color in ("#4363d8", "#e6194b"):
        path = re.search(rf'<path d="([^"]+)"[^>]*style="fill: {color}', svg)
        assert path is not None
        x = [float(v) for v in re.findall(r"[ML] ([-\d.]+) ", path.group(1))]
        widths.append(max(x) - min(x))
    assert widths[0] / widths[1] == pytest.approx(1.5, rel=1e-3)


def test_bars_say_why_a_class_has_no_score() -> None:
    inside = texts(class_bars(of(PLATELET, Protocol.CELLS), PLATELET))
    assert inside.count("not judged") == 2
    assert any(t.startswith("organelle MIoU 0.") for t in inside)
    counts = np.diag([5] * 6 + [0])[:, [0, 1, 2, 3, 4, 5, 6, 6]]
    assert "not in this volume" in texts(class_bars(scores(ContingencyTable(counts, PLATELET)), PLATELET))


def test_the_matrix_gives_the_percentage_of_the_true_class() -> None:
    schema = LabelSchema.from_names(["a", "b", "c"])
    counts = np.array([[9995, 5, 0, 0], [300, 660, 40, 0], [0, 0, 0, 0]], np.int64)
    found = texts(confusion_matrix(scores(ContingencyTable(counts, schema))))
    assert found.count("a") == found.count("b") == found.count("c") == 2
    assert [t for t in found if re.match(r"[<\d–]", t)] == [
        "100",
        "<0.1",
        "0",
        "30",
        "66",
        "4.0",
        "–",
        "–",
        "–",
    ]
    assert "unpredicted" not in found


def test_the_matrix_shows_what_was_not_predicted() -> None:
    assert "unpredicted" in texts(confusion_matrix(of(PLATELET, empty=7)))


def test_a_matrix_of_twenty_classes_has_all_its_numbers() -> None:
    schema = LabelSchema.from_names([f"class {i}" for i in range(20)])
    found = texts(confusion_matrix(of(schema)))
    assert sum(t.startswith("class ") for t in found) == 40
    assert sum(bool(re.match(r"[<\d]", t)) for t in found) == 400


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0"), (0.0004, "<0.1"), (0.0312, "3.1"), (0.0994, "9.9"), (0.0996, "10"), (1.0, "100")],
)
def test_percentages_are_short(share: float, text: str) -> None:
    assert percent(share) == text


def test_charts_are_the_same_bytes_each_time_and_load_nothing() -> None:
    result = of(LabelSchema.from_names(["a", "b"]))
    assert confusion_matrix(result).data == confusion_matrix(result).data
    assert b"<image" not in confusion_matrix(result).data
    assert b"<metadata" not in confusion_matrix(result).data
