"""Setting: what all runs of a benchmark share, and which runs there are.

Runs are ordered so that an early end leaves a balanced table and a machine that slows down slows every row
alike: the first replicate of every row, then the second of every row, ...; then ensembles, then networks
distilled from these, then annotators.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from densem.errors import ConfigError, NotFoundError, nearest
from densem.evaluation import Protocol
from densem.experiments.folder import BenchmarkFolder
from densem.experiments.record import FILE, ROLES, RunRecord, ScoredRole
from densem.experiments.suite import Row, Suite, serves
from densem.study import Study
from densem.study.manifest import check_name


@dataclass(frozen=True)
class Run:
    """One run of a benchmark: a network with its seed, or a row that has a single run.

    Attributes:
        row: of the suite.
        seed: of a network; None for ensembles and annotators.
    """

    row: Row
    seed: int | None = None

    @property
    def name(self) -> str:
        """`row/s<seed>`, or the row."""
        return self.row.slug if self.seed is None else f"{self.row.slug}/s{self.seed}"


@dataclass(frozen=True)
class Setting:
    """A study, a suite whose columns it can serve, and the folder of the benchmark."""

    study: Study
    folder: BenchmarkFolder
    suite: Suite

    @classmethod
    def of(cls, study: Study, name: str, suite: Suite) -> Setting:
        """A benchmark as it would be, checked against the study; nothing is written.

        Raises:
            ConfigError: if the study cannot serve a column of the suite, or nothing is there to learn from.
        """
        folder = BenchmarkFolder.of(study.folder, check_name(name, "benchmark"))
        made = cls(study, folder, suite.resolved(study.schema))
        made._check_study()
        return made

    def write(self) -> None:
        """Write the suite down: with that the benchmark has begun."""
        self.folder.path.mkdir(parents=True, exist_ok=True)
        part = self.folder.suite.with_name(f".{self.folder.suite.name}.part")
        part.write_text(self.suite.to_toml())
        os.replace(part, self.folder.suite)

    @classmethod
    def open(cls, study: Study, name: str) -> Setting:
        """A benchmark that was begun.

        Raises:
            NotFoundError: naming the nearest one there is.
        """
        folder = BenchmarkFolder.find(study.folder, name)
        return cls(study, folder, Suite.read(folder.suite))

    # ---- volumes -----------------------------------------------------------------------------

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """All that the classes of the study can serve."""
        return tuple(p for p in Protocol if serves(self.study.schema, p))

    def scored(self, role: ScoredRole) -> list[str]:
        """Names of the labelled volumes of a role."""
        return [n for n in self.study.names(role) if self.study.entry(n).semantic is not None]

    def _check_study(self) -> None:
        name = self.study.name
        if not self.study.names("train"):
            raise ConfigError(
                f"study {name}: a benchmark needs volumes of role train to learn from, found none; import "
                "one with labels and --role train"
            )
        wanted = {"eval", *(c.role for c in self.suite.columns)}  # eval always: it chooses checkpoints
        for role in (r for r in ROLES if r in wanted and not self.scored(r)):
            what = (
                "checkpoints and members of ensembles are chosen there"
                if role == "eval"
                else "it has a column"
            )
            raise ConfigError(
                f"study {name}: this benchmark needs a labelled volume of role {role} ({what}), found none; "
                f"import one with labels and --role {role}"
            )
        for column in self.suite.columns:
            if not serves(self.study.schema, column.protocol):
                raise ConfigError(
                    f"study {name}: column {column.title!r} is scored by the protocol {column.protocol}, "
                    'which needs a background class and organelles; give it an  otherwise = "labelled"'
                )

    # ---- runs --------------------------------------------------------------------------------

    def runs(self, rows: tuple[str, ...] | None = None) -> list[Run]:
        """All runs in the order in which they are done.

        Args:
            rows: slugs of some rows; the rows they are made of come along.

        Raises:
            NotFoundError: for a row that is not there.
        """
        suite = self.suite if rows is None else self.suite.only(rows)
        return list(_ordered(suite))

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises:
            NotFoundError: naming the nearest one.
        """
        known = {r.name: r for r in self.runs()}
        if name not in known:
            raise NotFoundError(f"benchmark {self.folder.name}: no run {name!r}.{nearest(name, list(known))}")
        return known[name]

    def place(self, run: Run) -> Path:
        """The folder of a run."""
        return self.folder.run(run.row.slug, run.row.kind, run.seed)

    def record(self, run: Run) -> RunRecord | None:
        """What a run left; None if it has not ended."""
        place = self.place(run)
        return RunRecord.read(place) if (place / FILE).is_file() else None

    def finished(self, slug: str) -> list[RunRecord]:
        """Records of all runs of a row that ended well, also of those the suite no longer asks for."""
        kind = self.suite.row(slug).kind
        return [record for record in self.folder.records(slug) if record.done and record.kind == kind]

    def volumes_of(self, row: Row) -> dict[ScoredRole, dict[str, str]]:
        """Role -> name -> ids of image and labels of the volumes that a row is scored on."""
        found = dict[ScoredRole, dict[str, str]]()
        for role in ROLES:
            names = self.scored(role)
            if row.annotator is not None:
                names = [n for n in names if row.annotator in self.study.annotators(n)]
            if names:
                found[role] = {n: self._ids(n) for n in names}
        return found

    def _ids(self, name: str) -> str:
        labels = self.study.labels(name)
        return f"{self.study.image(name).id} {labels.id if labels is not None else ''}"


def _ordered(suite: Suite) -> Iterator[Run]:
    for kind in ("network", "ensemble", "distilled", "annotators"):
        rows = [r for r in suite.rows if r.kind == kind]
        for replicate in range(1, 1 + max((suite.replicates_of(r) for r in rows), default=0)):
            for row in rows:
                if replicate <= suite.replicates_of(row):
                    trained = row.kind in ("network", "distilled")
                    yield Run(row, replicate if trained else None)
