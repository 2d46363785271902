"""Metrics: JSON lines that forget what a resumed run takes back."""

from densem.training.metrics import FILE, Metrics, read


def test_rows_come_back_and_a_torn_line_does_not(tmp_path):
    metrics = Metrics(tmp_path, 0, 0)
    metrics.add(10, 1.234, loss=0.5)
    metrics.add(20, 2.0, **{"eval/miou": 0.25})
    metrics.close()
    with (tmp_path / FILE).open("a") as file:
        file.write('{"step": 30, "ti')
    assert read(tmp_path) == [
        {"step": 10, "time": 1.23, "loss": 0.5},
        {"step": 20, "time": 2.0, "eval/miou": 0.25},
    ]


def test_a_resumed_run_forgets_what_came_after_its_checkpoint(tmp_path):
    metrics = Metrics(tmp_path, 0, 0)
    metrics.add(10, 1.0, loss=0.5)
    position = metrics.position
    metrics.add(20, 2.0, loss=0.4)
    metrics.close()
    metrics = Metrics(tmp_path, position, 10)
    metrics.add(20, 5.0, loss=0.3)
    metrics.close()
    assert [row["loss"] for row in read(tmp_path)] == [0.5, 0.3]


def test_nothing_there_is_no_row(tmp_path):
    assert read(tmp_path) == []
