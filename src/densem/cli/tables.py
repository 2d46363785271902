"""Tables on a terminal: facts of a file or study, scores of a prediction, findings of the doctor."""

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
    if "calibration" in scores:
        console.print(f"calibration error {_score(scores['calibration']['ece'])}")
    if "boundaries" in scores:
        console.print(_boundary_table(scores["boundaries"]))


def print_object_scores(scores: dict[str, Any]) -> None:
    """Print how well objects were found: a line per class, and one for all."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("class", no_wrap=True)
    for title in ("true", "found", "matched", "PQ", "SQ", "RQ", "AP50", "AP75", "mean AP"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in {**scores["classes"], "all objects": scores["all"]}.items():
        counts = (str(row[key]) for key in ("truth", "predicted", "matched"))
        quality = (row["pq"], row["sq"], row["rq"], row["ap"][0], row["ap"][5], row["mean_ap"])
        table.add_row(name, *counts, *map(_score, quality))
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    parts, left_out = scores["partitions"], scores["left_out"]
    console.print(
        f"adapted Rand error {_score(parts['adapted_rand_error'])} (precision "
        f"{_score(parts['rand_precision'])}, recall {_score(parts['rand_recall'])})"
    )
    console.print(
        f"variation of information {_score(parts['vi'])} bits (split {_score(parts['vi_split'])}, merge "
        f"{_score(parts['vi_merge'])})"
    )
    console.print(
        f"{parts['voxels']} voxels of true objects, {parts['missed']} of them in no found object; left out: "
        f"{left_out['true_objects']} true and {left_out['predicted_objects']} found objects, "
        f"{left_out['voxels']} unlabelled voxels"
    )
    for whose, key in (("true", "true_stuff"), ("found", "predicted_stuff")):
        if left_out[key]:
            told = ", ".join(f"{count} {name}" for name, count in left_out[key].items())
            console.print(f"not scored, because the schema does not count them as things: {told} ({whose})")
    classless = scores["classless"]
    if any(classless.values()):
        console.print(
            "of no class, because they lie mostly on background or unlabelled voxels, and so in the last "
            f"line alone: {classless['true']} true and {classless['predicted']} found objects"
        )


def _boundary_table(boundaries: dict[str, Any]) -> Any:
    """Distances between boundaries, a line per class."""
    dice = f"surface Dice at {boundaries['tolerance_nm']:g} nm"
    rows = [
        {"class": name, "mean nm": _length(row["mean_nm"]),
         "95 % Hausdorff nm": _length(row["hausdorff95_nm"]), dice: _score(row["surface_dice"])}
        for name, row in boundaries["classes"].items()
    ]  # fmt: skip
    return _table("", rows)


def _length(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def _score(value: float | None) -> str:
    return "n/a" if value is None or value != value else f"{value:.3f}"


COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}
WIDE = 110


def print_findings(checks: list[dict[str, str]]) -> None:
    """Print a row for each check; what to do is a column of its own where there is room, else below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    wide = console.width >= WIDE
    table = Table() if wide else Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for title in ("found", "what to do") if wide else ("found -> what to do",):
        table.add_column(title, overflow="fold")
    for row in checks:
        state = f"[{COLOURS[row['state']]}]{row['state']}[/]"
        texts = [_plain(row["found"]), _plain(row["advice"])]
        table.add_row(_plain(row["check"]), state, *(texts if wide else ["\n-> ".join(filter(None, texts))]))
    console.print(table)
