"""Tables on a terminal: facts of a file or study, scores of a prediction."""

from __future__ import annotations

from typing import Any


def print_facts(facts: dict[str, Any]) -> None:
    """Print nested facts: scalars as `key  value` lines, lists of records as tables."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    for key, value in facts.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            console.print(_table(key, value))
        else:
            console.print(f"[bold]{key:<14}[/bold] {_plain(value)}")


def _table(title: str, rows: list[dict[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    for column in columns:
        numeric = all(isinstance(row.get(column), int | float | None) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(row.get(column)) for column in columns))
    return table


def _plain(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(v) for v in value)
    return escape(str(value))


def print_scores(scores: dict[str, Any]) -> None:
    """Print the scores of a prediction, a line per class."""
    from rich.console import Console

    rows = [
        {"class": name, "IoU": _score(row.get("iou")), "precision": _score(row.get("precision")),
         "recall": _score(row.get("recall")), "true voxels": row.get("truth")}
        for name, row in scores["classes"].items()
    ]  # fmt: skip
    console = Console(highlight=False)
    console.print(_table("", rows))
    console.print(
        f"MIoU {_score(scores.get('miou'))}   organelles {_score(scores.get('miou_organelles'))}   "
        f"accuracy {_score(scores.get('accuracy'))}   adjusted Rand {_score(scores.get('ari'))}"
    )


def _score(value: float | None) -> str:
    return "n/a" if value is None or value != value else f"{value:.3f}"
