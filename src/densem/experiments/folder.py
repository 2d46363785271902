"""Folder of a benchmark: where everything of it lies, inside a study.

    STUDY/benchmarks/<name>/
      suite.toml                           the suite as run (`Suite.read`): rows in order, columns, reference
      runs/<row>/plan.json                 width, patches and steps, decided once for all replicates
      runs/<row>/s<seed>/run.json          the record of one network
      runs/<row>/s<seed>/model/            the model
      runs/<row>/s<seed>/training/         recipe as run, metrics as JSON lines; checkpoints until it is done
      runs/<row>/s<seed>/predictions/<volume>/     classes.zarr, confidence.zarr
      runs/<row>/s<seed>/blocks-<volume>-<protocol>.npz   counts (B, C, C + 1), see `BlockTables`
      ensembles/<row>/                     run.json, predictions, blocks: as of a network, without a model
      annotators/<row>/                    run.json, blocks
      slurm/                               lists of runs and what the jobs said, with --engine slurm
      results/                             tables and pages made of all this

A finished run is one that has a `run.json`. Nothing refers to anything outside the benchmark's folder, which
can be moved, or copied without `predictions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from densem.errors import FormatError, NotFoundError, nearest
from densem.experiments.record import FILE, Kind, RunRecord

BENCHMARKS = "benchmarks"
SUITE = "suite.toml"
PLACES: dict[Kind, str] = {
    "network": "runs", "distilled": "runs", "ensemble": "ensembles", "annotators": "annotators",
}  # fmt: skip


@dataclass(frozen=True)
class BenchmarkFolder:
    """The folder of one benchmark.

    Attributes:
        path: the folder.
    """

    path: Path

    @classmethod
    def of(cls, study: Path, name: str) -> BenchmarkFolder:
        """Where a benchmark of that name lies in a study, or would."""
        return cls(study / BENCHMARKS / name)

    @classmethod
    def find(cls, study: Path, name: str) -> BenchmarkFolder:
        """A benchmark that was begun.

        Raises:
            NotFoundError: naming the nearest one there is.
        """
        found = cls.of(study, name)
        if not found.suite.is_file():
            known = sorted(p.parent.name for p in (study / BENCHMARKS).glob(f"*/{SUITE}"))
            hint = nearest(name, known) if known else f" Begin one with  densem benchmark {study}"
            raise NotFoundError(f"{study}: no benchmark {name!r}.{hint}")
        return found

    @property
    def name(self) -> str:
        """Of the benchmark."""
        return self.path.name

    @property
    def suite(self) -> Path:
        """The suite as run."""
        return self.path / SUITE

    @property
    def results(self) -> Path:
        """Folder of tables and pages."""
        return self.path / "results"

    def row(self, row: str) -> Path:
        """Folder of the replicates of a row of networks."""
        return self.path / "runs" / row

    def run(self, row: str, kind: Kind, seed: int | None = None) -> Path:
        """Folder of one run."""
        folder = self.path / PLACES[kind] / row
        return folder if seed is None else folder / f"s{seed}"

    def records(self, row: str = "*") -> list[RunRecord]:
        """All records there are, or those of one row, sorted by row and seed.

        Raises:
            FormatError: naming the first that cannot be read.
        """
        patterns = (f"runs/{row}/s*", f"ensembles/{row}", f"annotators/{row}")
        folders = [p.parent for pattern in patterns for p in self.path.glob(f"{pattern}/{FILE}")]
        found = [self._checked(folder) for folder in folders]
        return sorted(found, key=lambda r: (r.row, r.seed if r.seed is not None else -1))

    def _checked(self, folder: Path) -> RunRecord:
        record = RunRecord.read(folder)
        if folder != self.run(record.row, record.kind, record.seed):
            raise FormatError(
                f"{folder / FILE}: expected the record of this folder's run, found that of {record.name} "
                f"({record.kind}); remove it and run the row anew"
            )
        return record

    def folder_of(self, record: RunRecord) -> Path:
        """The folder that the paths in a record are relative to."""
        return self.run(record.row, record.kind, record.seed)
