"""Columns of a results table: what is measured, in which unit it is shown, and which way is better.

A key says where a number comes from: `eval/labelled/miou` is measured on the volumes of that role by that
protocol, `test/ece` on those of a role; whatever begins with neither role is of the network or its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["higher", "lower", ""]
Group = Literal["accuracy", "boundary", "cost"]


@dataclass(frozen=True)
class Column:
    """One measured quantity.

    Attributes:
        key: its name in records, CSV and JSON.
        title: heading.
        group: which table of the page it stands in.
        better: which way is better; empty where neither is.
        stored: unit of the stored number; empty for a pure number.
        shown: unit it is shown in.
        divide: shown = stored / divide.
        digits: decimals as in `.3f`, or `3` for three significant digits.
        meaning: what it is.
    """

    key: str
    title: str
    group: Group
    meaning: str
    better: Better = "higher"
    stored: str = ""
    shown: str = ""
    divide: float = 1.0
    digits: str = ".3f"

    @property
    def heading(self) -> str:
        """Title and unit."""
        return f"{self.title}, {self.shown}" if self.shown else self.title

    @property
    def is_score(self) -> bool:
        """Whether it says how right a row is, not what it costs."""
        return self.group != "cost"

    @property
    def is_share(self) -> bool:
        """Whether it lies between 0 and 1 whatever the row is."""
        return self.is_score and not self.stored and not self.key.endswith("/ari")

    def interval(self, low: float | None, high: float | None) -> str:
        """`0.516 to 0.578`, never beyond what the quantity can be; empty where there is none."""
        if low is None or high is None:
            return ""
        if self.is_share:
            low, high = max(low, 0.0), min(high, 1.0)
        return f"{self.text(low)} to {self.text(high)}"

    def text(self, value: float | None) -> str:
        """The number as it is shown, without its unit; a dash where there is none."""
        if value is None:
            return "–"
        shown = value / self.divide
        return _three(shown) if self.digits == "3" else format(shown, self.digits)


def _three(value: float) -> str:
    """Three significant digits, never as a power of ten."""
    places = next((n for n, limit in enumerate((99.95, 9.995, 0.9995)) if abs(value) >= limit), 3)
    return f"{value:,.{places}f}"


def known(key: str) -> Column | None:
    """The column of a key; None for one that no densem writes."""
    return _KNOWN.get(key)


_VOLUMES = {"eval": "eval volumes", "test": "test volumes"}


def _scores(role: str, protocol: str) -> tuple[Column, ...]:
    """The columns of one role and protocol."""
    inside = protocol == "cells"
    where = f"on the {_VOLUMES[role]}" + (", inside labelled cells" if inside else "")
    cells = " in cells" if inside else ""
    rows: tuple[tuple[str, str, Group, str, Better, str], ...] = (
        ("miou", f"MIoU{cells}", "accuracy", f"mean IoU of all classes {where}", "higher", ""),
        ("miou_organelles", f"oMIoU{cells}", "accuracy", f"mean IoU of the organelles {where}", "higher", ""),
        ("accuracy", f"accuracy{cells}", "accuracy", f"share of voxels that are right {where}", "higher", ""),
        ("ari", f"ARI{cells}", "accuracy", f"adjusted Rand index of the classes {where}", "higher", ""),
        (
            "boundary_mean_nm", f"boundary distance{cells}", "boundary",
            f"mean distance between true and predicted boundaries {where}, {_BOTH}", "lower", "nm",
        ),
        (
            "hausdorff95_nm", f"95 % Hausdorff{cells}", "boundary",
            f"distance within which 95 % of the boundaries lie from each other {where}, {_BOTH}", "lower",
            "nm",
        ),
        (
            "surface_dice", f"surface Dice{cells}", "boundary",
            f"share of the boundaries that agree within the tolerance {where}, mean of the classes, 0 for "
            "one that was never predicted", "higher", "",
        ),
    )  # fmt: skip
    return tuple(
        Column(f"{role}/{protocol}/{key}", f"{role} {title}", group, meaning, better, unit, unit, 1.0,
               "3" if unit else ".3f")
        for key, title, group, meaning, better, unit in rows
    )  # fmt: skip


_BOTH = "mean of the classes that have both"


def _others(role: str) -> tuple[Column, ...]:
    where = f"on the {_VOLUMES[role]}"
    return (
        Column(
            f"{role}/ece", f"{role} ECE", "boundary",
            f"expected calibration error of the confidence {where}", "lower",
        ),
        Column(
            f"{role}/voxels_per_s", f"{role} speed", "cost",
            f"voxels labelled a second {where}", "higher", "voxel/s", "kvoxel/s", 1e3, "3",
        ),
        Column(
            f"{role}/peak_memory_mb", f"{role} memory", "cost",
            f"peak memory while labelling the {_VOLUMES[role]}", "lower", "MB", "MB", 1.0, "3",
        ),
    )  # fmt: skip


_COSTS = (
    Column(
        "parameters", "parameters", "cost",
        "trained values, of all members together", "lower", "", "M", 1e6, "3",
    ),
    Column(
        "mflop_per_voxel", "MFLOP a voxel", "cost",
        "multiplications and additions of one pass, a voxel of input", "lower", "MFLOP", "", 1.0, "3",
    ),
    Column(
        "training_seconds", "training", "cost",
        "time of training, of all members together, of a distilled network with its teachers", "lower", "s",
        "min", 60.0, "3",
    ),
    Column("training_steps", "steps", "cost", "training steps", "", digits=",.0f"),
    Column(
        "training_memory_mb", "training memory", "cost",
        "peak memory of the training process, of the card where there was one", "lower", "MB", "MB", 1.0, "3",
    ),
)  # fmt: skip

COLUMNS: tuple[Column, ...] = (
    *_scores("eval", "labelled"),
    *_scores("eval", "cells"),
    *_scores("test", "labelled"),
    *_scores("test", "cells"),
    *_others("eval"),
    *_others("test"),
    *_COSTS,
)
"""Every column there is, in the order of CSV and JSON."""

_KNOWN = {column.key: column for column in COLUMNS}
