"""Comparisons: every row of a table against its reference row, from the block tables beside the records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from densem.errors import DensemError
from densem.evaluation import BlockTables, ComparedRow, Replicate, compare_table
from densem.evaluation.significance import PERMUTED_FROM, ROUNDS, ScoreName, check_rows
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import RunRecord, ScoredRole
from densem.report.results.table import Comparison, ResultsTable

ALPHA = 0.05
"""Chance of any false claim in a column, if no row differs."""

_COMPARABLE = ("miou", "miou_organelles")


def compared(table: ResultsTable, folder: BenchmarkFolder, rounds: int = ROUNDS) -> ResultsTable:
    """The table with every row compared with the reference row, in each headline column.

    Rows without block tables are not compared, nor are annotators, who are judged on the voxels that both of
    them labelled and so by another annotation. Why a row cannot be compared (other annotations, damaged block
    tables) is said in `facts["not_compared"]`, by column: the table is worth having without that mark.

    Args:
        table: as gathered.
        folder: of the benchmark.
        rounds: of resampling.
    """
    records = [record for record in folder.records() if record.done]
    rows, refused = table.rows, dict[str, list[str]]()
    for key in table.headline:
        column = _Column(key, table, folder)
        found = column.compared(records, rounds)
        if column.refused:
            refused[key] = column.refused
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


@dataclass
class _Column:
    """The comparisons of one column, and the rows that they had to be refused to, each with its reason."""

    key: str
    table: ResultsTable
    folder: BenchmarkFolder
    refused: list[str] = field(default_factory=list)

    @property
    def metric(self) -> str:
        return self.key.rpartition("/")[2]

    def compared(self, records: Sequence[RunRecord], rounds: int) -> dict[str, Comparison]:
        """By row; empty where there is nothing to compare, or nothing to compare it with."""
        if self.metric not in _COMPARABLE:
            return {}
        score = cast(ScoreName, self.metric)
        read = self._replicates(records)
        reference = read.get(self.table.reference, [])
        if not reference or not self._fits(self.table.reference, reference, reference):
            return {}
        fitting = {row: found for row, found in read.items() if self._fits(row, reference, found)}
        if len(fitting) < 2:
            return {}
        found = compare_table(fitting, self.table.reference, score, rounds, alpha=ALPHA)
        return {row.name: _comparison(row) for row in found.rows}

    def _replicates(self, records: Sequence[RunRecord]) -> dict[str, list[Replicate]]:
        """By row, in the order of the table; rows of which nothing is there, or can be read, are left out."""
        found = dict[str, list[Replicate]]()
        for row in self.table.rows:
            mine = [r for r in records if (r.row, r.kind) == (row.key, row.kind) and r.kind != "annotators"]
            try:
                replicates = [one for record in mine if (one := self._replicate(record)) is not None]
            except DensemError as error:
                self._refuse(row.key, error)
                continue
            if replicates:
                found[row.key] = replicates
        return found

    def _replicate(self, record: RunRecord) -> Replicate | None:
        role, protocol, _ = self.key.split("/")
        result = record.results.get(cast(ScoredRole, role))
        paths = result.blocks.get(protocol, {}) if result is not None else {}
        place = self.folder.folder_of(record)
        tables = tuple(BlockTables.load(place / paths[volume]) for volume in sorted(paths))
        return Replicate(tables, record.name) if tables else None

    def _fits(self, row: str, reference: Sequence[Replicate], replicates: Sequence[Replicate]) -> bool:
        """Whether a row was scored as the reference was."""
        try:
            check_rows(reference, replicates)
            for replicate in replicates:
                replicate.score(cast(ScoreName, self.metric))
        except DensemError as error:
            self._refuse(row, error)
            return False
        return True

    def _refuse(self, key: str, error: DensemError) -> None:
        title = next(row.title for row in self.table.rows if row.key == key)
        what = f"{title}, and so no row" if key == self.table.reference else title
        self.refused.append(f"{what}: {' '.join(str(error).split())}")


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
