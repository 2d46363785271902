"""Record: what one run of a benchmark leaves behind, as `run.json` beside its block tables.

A run is a network trained with one seed, a distilled network, an ensemble, or a second annotator. The record
holds everything that a results table is made of, as plain values; large things lie beside it and are named by
paths relative to the folder that `run.json` is in. It is written whole or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densem.errors import FormatError, NotFoundError
from densem.evaluation import Protocol, Scores

FILE = "run.json"
FORMAT: Literal[1] = 1
Kind = Literal["network", "ensemble", "distilled", "annotators"]
Status = Literal["done", "failed", "collapsed"]
ScoredRole = Literal["eval", "test"]
ROLES: tuple[ScoredRole, ...] = ("eval", "test")
Metric = Literal["miou", "miou_organelles", "accuracy", "ari"]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class NetworkFacts(_Entry):
    """The network of a run; of an ensemble, all members together."""

    architecture: str = Field(description="name of the architecture; of several, joined by +")
    parameters: int = Field(description="trained values, of all members together")
    mflop_per_voxel: float | None = Field(
        default=None, description="multiplications and additions of one pass, in millions a voxel of input"
    )
    config: dict[str, Any] = Field(default_factory=dict, description="of the network, as trained")


class RecipeFacts(_Entry):
    """The recipe of a run."""

    name: str = Field(description="name of a packaged recipe, or path of a file, as the suite gives it")
    hash: str = Field(description="16 hex digits over the recipe as run, automatic choices filled in")
    overrides: tuple[str, ...] = Field(default=(), description="section.key=value, as the suite gives them")


class TrainingFacts(_Entry):
    """How a network was trained."""

    seconds: float = Field(description="in steps and validations, over all sessions and attempts")
    steps: int = Field(description="of the attempt that became the model")
    filters: int | None = Field(default=None, description="width; None where the network has no such entry")
    best_step: int = Field(description="step of the best score on the eval volumes: the model's weights")
    best_miou: float | None = Field(
        default=None, description="the score that chose it, on a sample of large eval volumes"
    )
    restarts: int = Field(default=0, description="collapsed attempts before this one")
    peak_memory_mb: float | None = Field(default=None, description="of the process; of the card, if any")


class CurvePoint(_Entry):
    """One point of the learning curve."""

    seconds: float = Field(description="of training until then")
    step: int = Field(description="of the attempt")
    attempt: int = Field(default=0, description="0 for the first; each collapse begins another")
    loss: float | None = Field(default=None, description="mean of the training steps since the last one")
    eval_miou: float | None = Field(default=None, description="MIoU on the eval volumes")
    eval_miou_organelles: float | None = Field(default=None, description="the same over the organelles")


class PredictionFacts(_Entry):
    """What it took to label the scored volumes of one role."""

    voxels: int = Field(description="labelled")
    seconds: float = Field(description="of computing and writing, over all sessions")
    voxels_per_s: float = Field(description="voxels labelled in a second")
    peak_memory_mb: float | None = Field(default=None, description="of the process; of the card, if any")
    context: tuple[int, int, int] | None = Field(
        default=None, description="read around a tile, voxels (z, y, x)"
    )
    tile: tuple[int, int, int] | None = Field(default=None, description="yielded by a tile, (z, y, x)")
    runtime: str = Field(default="", description="what ran the network: device, number format, runtime")


class RoleResult(_Entry):
    """What was found on the volumes of one role, all of them together."""

    volumes: dict[str, str] = Field(description="volume name -> ids of image and labels")
    scores: dict[str, dict[str, Any]] = Field(
        description="protocol (labelled, cells) -> scores, as `Scores.to_dict` gives them"
    )
    blocks: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        description="protocol -> volume name -> path of its block tables, `densem.evaluation.BlockTables`",
    )
    boundaries: dict[str, dict[str, dict[str, Any]]] = Field(
        default_factory=dict,
        description="protocol -> volume name -> distances between boundaries, as `Boundaries.to_dict` gives "
        "them; empty where they were not measured",
    )
    calibration: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="volume name -> calibration on labelled voxels, as `Calibration.to_dict` gives it",
    )
    ece: float | None = Field(
        default=None,
        description="expected calibration error, 0 to 1; of several volumes their mean, weighted by voxels",
    )
    prediction: PredictionFacts | None = Field(default=None, description="cost; None for annotators")
    predictions: dict[str, str] = Field(
        default_factory=dict, description="volume name -> path of its prediction folder (classes.zarr in it)"
    )


class MadeBy(_Entry):
    """What made the record."""

    densem: str = Field(description="version")
    commit: str | None = Field(default=None, description="of the checkout densem was run from, if it was one")
    torch: str | None = Field(default=None, description="version")
    machine: str = Field(description="processor and number of cores")
    device: str = Field(description="cpu, or the name of the card")
    host: str | None = Field(default=None, description="name of the machine")
    date: str = Field(description="when it was finished, UTC, ISO 8601")


class RunRecord(_Entry):
    """One run of a benchmark.

    `status` collapsed: every attempt came to predict a single class, or its loss was no number. A run that
    collapsed or failed has an `error` and no `results`; it enters no mean and no ensemble.
    """

    format: Literal[1] = FORMAT
    row: str = Field(description="slug of the row in the suite")
    title: str = Field(description="of the row, for people")
    kind: Kind = Field(description="what was run")
    seed: int | None = Field(default=None, description="of a network; replicates differ in nothing else")
    members: tuple[str, ...] = Field(default=(), description="of an ensemble or its pupil, as row/s<seed>")
    candidates: tuple[str, ...] = Field(
        default=(), description="of an ensemble: the finished runs that its members were chosen from"
    )
    status: Status = Field(description="how it ended")
    error: str | None = Field(default=None, description="why it failed or collapsed, for people")
    network: NetworkFacts | None = Field(default=None)
    recipe: RecipeFacts | None = Field(default=None)
    training: TrainingFacts | None = Field(default=None)
    curve: tuple[CurvePoint, ...] = Field(default=(), description="of the training, ascending in seconds")
    results: dict[ScoredRole, RoleResult] = Field(default_factory=dict, description="by role of the volumes")
    model: str | None = Field(default=None, description="path of the model folder")
    seconds: float | None = Field(
        default=None, description="of the session that finished it, with reading, predicting and scoring"
    )
    made_by: MadeBy

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if self.status == "done" and not self.results:
            raise ValueError("a run that is done must have results")
        if self.status != "done" and (self.results or not self.error):
            raise ValueError(f"a run that {self.status} must have an error and no results")
        if (self.kind in ("network", "distilled")) != (self.seed is not None):
            raise ValueError("networks have a seed, and nothing else has one")
        return self

    @property
    def name(self) -> str:
        """`row/s<seed>` of a network, the row of anything else."""
        return self.row if self.seed is None else f"{self.row}/s{self.seed}"

    @property
    def done(self) -> bool:
        """Whether it has results."""
        return self.status == "done"

    def scores(self, role: ScoredRole, protocol: Protocol | str) -> Scores | None:
        """The scores on the volumes of a role; None where there are none."""
        found = self.results[role].scores.get(str(protocol)) if role in self.results else None
        return None if found is None else Scores.from_dict(found, f"{self.name}, {role}, {protocol}")

    def metric(self, role: ScoredRole, protocol: Protocol | str, metric: Metric) -> float | None:
        """One number of them; None where it is not available."""
        found = self.results[role].scores.get(str(protocol)) if role in self.results else None
        return None if found is None else found[metric]

    # ---- on disk -----------------------------------------------------------------------------

    def write(self, folder: Path) -> Path:
        """Write `run.json` into a folder, replacing what was there in one step; its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path, part = folder / FILE, folder / f".{FILE}.part"
        with part.open("w") as handle:
            handle.write(json.dumps(self.model_dump(mode="json"), indent=1) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
        return path

    @classmethod
    def read(cls, folder: Path) -> RunRecord:
        """Read the `run.json` of a folder.

        Raises:
            NotFoundError: none there.
            FormatError: naming the entry that is wrong.
        """
        path = folder / FILE
        try:
            return cls.model_validate(json.loads(path.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise NotFoundError(f"{folder}: expected the record of a run ({FILE}), found none") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise FormatError(f"{path}: not a JSON file: {error}; run this row anew") from None
        except ValidationError as error:
            row = error.errors()[0]
            place = ".".join(str(p) for p in row["loc"]) or "record"
            message = row["msg"].removeprefix("Value error, ")
            raise FormatError(f"{path}: {place}: {message}; run this row anew") from None
