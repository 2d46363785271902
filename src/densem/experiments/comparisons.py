"""Comparisons: every row of a table against its reference row, from the block tables beside the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from densem.errors import DensemError
from densem.evaluation import BlockTables, ComparedRow, Replicate, compare_table
from densem.evaluation.significance import PERMUTED_FROM, ROUNDS, ScoreName
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import RunRecord, ScoredRole
from densem.report.results.table import Comparison, ResultsTable

ALPHA = 0.05
"""Chance of any false claim in a column, if no row differs."""

_COMPARABLE = ("miou", "miou_organelles")


def compared(table: ResultsTable, folder: BenchmarkFolder, rounds: int = ROUNDS) -> ResultsTable:
    """The table with every row compared with the reference row, in each headline column.

    Rows without block tables are not compared. What cannot be compared at all (other annotations, damaged
    block tables) is said in `facts["not_compared"]`, by column: the table is worth having without marks.

    Args:
        table: as gathered.
        folder: of the benchmark.
        rounds: of resampling.
    """
    records = [record for record in folder.records() if record.done]
    rows, refused = table.rows, {}
    for key in table.headline:
        try:
            found = _column(key, table, _replicates(key, table, records, folder), rounds)
        except DensemError as error:
            refused[key] = " ".join(str(error).split())
            continue
        rows = tuple(
            replace(row, comparisons={**row.comparisons, key: found[row.key]}) if row.key in found else row
            for row in rows
        )
    facts = dict(table.facts)
    if refused:
        facts["not_compared"] = refused
    if any(row.comparisons for row in rows):
        facts["statistics"] = _words(table, rounds)
    return replace(table, rows=rows, facts=facts)


def _replicates(
    key: str, table: ResultsTable, records: Sequence[RunRecord], folder: BenchmarkFolder
) -> dict[str, list[Replicate]]:
    """By row, in the order of the table; rows of which nothing is there are left out."""
    role, protocol, _ = key.split("/")
    found: dict[str, list[Replicate]] = {row.key: [] for row in table.rows}
    for record in records:
        result = record.results.get(cast(ScoredRole, role))
        paths = result.blocks.get(protocol, {}) if result is not None else {}
        if paths and record.row in found:
            place = folder.folder_of(record)
            tables = tuple(BlockTables.load(place / paths[volume]) for volume in sorted(paths))
            found[record.row].append(Replicate(tables, record.name))
    return {row: replicates for row, replicates in found.items() if replicates}


def _column(
    key: str, table: ResultsTable, replicates: Mapping[str, list[Replicate]], rounds: int
) -> dict[str, Comparison]:
    metric = key.rpartition("/")[2]
    if metric not in _COMPARABLE or table.reference not in replicates or len(replicates) < 2:
        return {}
    found = compare_table(replicates, table.reference, cast(ScoreName, metric), rounds, alpha=ALPHA)
    return {row.name: _comparison(row) for row in found.rows}


def _comparison(row: ComparedRow) -> Comparison:
    c = row.comparison
    if c is None:
        return Comparison(row.verdict)
    return Comparison(
        row.verdict, c.difference, c.low, c.high, c.p, row.p_holm, _sentence("; ".join(c.notes))
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _words(table: ResultsTable, rounds: int) -> str:
    reference = table.reference_row
    assert reference is not None
    return (
        f"Rows were compared with {reference.title} by a hierarchical bootstrap of {rounds:,} rounds over "
        "trainings and over evaluation blocks of the scored volumes (the same blocks for all rows), with "
        f"Student's t by Satterthwaite's degrees of freedom; from {PERMUTED_FROM} trainings on both sides "
        "also by permuting them between the rows, where the larger p counts. In each column p values are "
        "corrected for the number of rows by Holm's method; a row is called higher or lower where the "
        f"corrected p is at most {ALPHA:g}. A row of a single run, such as an ensemble, has an interval "
        "over blocks alone and no p: how differently another training would have ended is not known."
    )
