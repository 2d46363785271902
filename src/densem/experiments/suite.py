"""Suite: which rows a results table has, and what each of them is given.

A suite is a TOML file, packaged or a user's own. Its rows stand in the order of the table:

    kind network      a recipe, trained in `replicates` sessions that differ in their seed alone
    kind ensemble     k finished replicates `of` such a row, chosen by their scores on the eval volumes
    kind distilled    one network trained on the soft targets `of` an ensemble
    kind annotators   a second annotation of the volumes, judged as if it were a prediction

Everything that can be wrong is found when the suite is read, before anything is trained.
"""

from __future__ import annotations

import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from densem.errors import ConfigError, NotFoundError, nearest
from densem.evaluation import Protocol
from densem.experiments.record import Kind, Metric, ScoredRole
from densem.schema import LabelSchema
from densem.study.training import parse_time

SLUG = r"^[a-z0-9][a-z0-9._+-]*$"
TRAINED: tuple[Kind, ...] = ("network", "distilled")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Budget(_Section):
    """How long a network is trained: a time, or a number of steps."""

    max_time: str | None = Field(
        default=None, description="such as 10m; measured once per row, which then has one number of steps"
    )
    steps: int | None = Field(default=None, ge=1, description="training steps")

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.max_time is None) == (self.steps is None):
            raise ValueError("expected either max_time or steps")
        parse_time(self.max_time, "max_time =")
        return self

    @property
    def seconds(self) -> float | None:
        """The time; None where steps are given."""
        return parse_time(self.max_time)


class Column(_Section):
    """A score in the results table."""

    title: str = Field(description="above the column")
    role: ScoredRole = Field(description="of the volumes that are scored")
    protocol: Protocol = Field(default=Protocol.LABELLED, description="which voxels are scored")
    otherwise: Protocol | None = Field(
        default=None, description="protocol in studies whose classes cannot serve the first"
    )
    metric: Metric = Field(default="miou", description="the score")

    def resolved(self, schema: LabelSchema) -> Column:
        """The column with the protocol that the classes of a study can serve.

        Where no class is an organelle, a mean over organelles becomes one over all classes, and the title
        says so.
        """
        update: dict[str, Any] = {"otherwise": None}
        if self.otherwise is not None and not serves(schema, self.protocol):
            update["protocol"] = self.otherwise
        if self.metric == "miou_organelles" and not schema.organelle_ids:
            update |= {"metric": "miou", "title": f"{self.title} (no organelles marked: all classes)"}
        return self.model_copy(update=update)


class Row(_Section):
    """A row of the results table."""

    slug: str = Field(pattern=SLUG, description="its name in folders and commands")
    title: str = Field(min_length=1, description="its name for people")
    kind: Kind = Field(default="network", description="what it is")
    group: str = Field(default="", description="heading it stands under")
    note: str = Field(default="", description="what a reader should know, such as a deviation from a paper")
    recipe: str | None = Field(default=None, description="of a network: packaged recipe or a .toml file")
    overrides: tuple[str, ...] = Field(default=(), description="of a network: section.key=value")
    replicates: int | None = Field(default=None, ge=1, description="of a network; the suite's without it")
    budget: Budget | None = Field(default=None, description="of a network; the suite's without it")
    of: str | None = Field(
        default=None,
        description="of an ensemble: the row of its members; of a distilled network: the ensemble",
    )
    k: int | None = Field(default=None, ge=1, description="of an ensemble: number of members, at most")
    how: Literal["top", "forward"] = Field(
        default="top",
        description="of an ensemble: top, the k best on the eval volumes; forward, one by one the one "
        "that helps most there (Caruana et al. 2004)",
    )
    replacement: bool = Field(default=False, description="forward: a member may be chosen more than once")
    temperature: float = Field(default=1.0, gt=0, description="of a distilled network: softens its targets")
    soft: float = Field(
        default=0.7, ge=0, le=1, description="of a distilled network: share of the loss on soft targets"
    )
    start: Literal["best", "random"] = Field(
        default="best",
        description="of a distilled network: it begins with the weights of the ensemble's best member on the "
        "eval volumes, where that is the same network, or with random ones",
    )
    unlabelled: bool = Field(
        default=True,
        description="of a distilled network: whether it also learns from the volumes of role unlabelled",
    )
    annotator: str | None = Field(
        default=None, description="of annotators: whose annotations are judged, semantic.<annotator>.zarr"
    )

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Self:
        allowed = {
            "network": ("recipe", "overrides", "replicates", "budget"),
            "ensemble": ("of", "k", "how", "replacement"),
            "distilled": (
                "of",
                "recipe",
                "overrides",
                "replicates",
                "budget",
                "temperature",
                "soft",
                "start",
                "unlabelled",
            ),
            "annotators": ("annotator",),
        }[self.kind]
        needed = {
            "network": ("recipe",),
            "ensemble": ("of", "k"),
            "distilled": ("of",),
            "annotators": ("annotator",),
        }[self.kind]
        everywhere = ("slug", "title", "kind", "group", "note")
        for key in needed:
            if getattr(self, key) is None:
                raise ValueError(f"row {self.slug!r} of kind {self.kind} needs {key}")
        for key in sorted(self.model_fields_set):
            if key not in allowed and key not in everywhere and getattr(self, key) is not None:
                raise ValueError(f"row {self.slug!r} of kind {self.kind} cannot have {key}")
        if self.overrides and self.recipe is None:
            raise ValueError(f"row {self.slug!r} has overrides without a recipe; name the recipe they change")
        return self


class Suite(_Section):
    """All rows and columns of a results table."""

    title: str = Field(default="", description="of the table")
    description: str = Field(default="", description="what the suite is for")
    replicates: int = Field(default=3, ge=1, description="training sessions of each network")
    budget: Budget = Field(default=Budget(max_time="10m"), description="of each training session")
    restarts: int = Field(
        default=0,
        ge=0,
        description="how often a collapsed session starts again with another seed; 0: a collapse is a result",
    )
    boundaries: bool = Field(
        default=True, description="whether distances between boundaries are measured; takes a while"
    )
    reference: str | None = Field(
        default=None, description="row that the others are compared with; the first network without it"
    )
    columns: tuple[Column, ...] = Field(
        default=(Column(title="eval MIoU", role="eval"), Column(title="test MIoU", role="test")),
        min_length=1,
        description="scores, from left to right",
    )
    rows: tuple[Row, ...] = Field(min_length=1, description="in the order of the table")

    # ---- reading -----------------------------------------------------------------------------

    @classmethod
    def load(cls, name_or_path: str | Path) -> Suite:
        """Read a packaged suite by name or a file by path, and check it, recipes included.

        Paths of recipes are relative to the suite's file.

        Raises:
            NotFoundError: no such suite.
            ConfigError: naming the row or entry that is wrong.
        """
        text, where = _text(str(name_or_path))
        suite = cls.from_table(_parsed(text, where), where)
        if where == str(name_or_path):
            suite = suite._with_recipes_beside(Path(name_or_path))
        for row in suite.rows:
            if row.recipe is not None:
                _check_recipe(row, where)
        return suite

    @classmethod
    def read(cls, path: Path) -> Suite:
        """Read the suite of a benchmark that was begun; its recipes need not be there any more."""
        try:
            return cls._read(_parsed(path.read_text(), str(path)), str(path))
        except FileNotFoundError:
            raise NotFoundError(f"{path}: no suite file there") from None

    @classmethod
    def from_table(cls, table: dict[str, Any], where: str) -> Suite:
        """From the table of a TOML file, recipes unseen; `where` is for messages."""
        suite = cls._read(table, where)
        suite._check_sizes(where)
        return suite

    @classmethod
    def _read(cls, table: dict[str, Any], where: str) -> Suite:
        """Without a look at the sizes of ensembles: rows that are not run may have too few replicates."""
        try:
            suite = cls.model_validate(table)
        except ValidationError as error:
            raise _explain(error, table, where) from None
        suite._check(where)
        return suite

    def _with_recipes_beside(self, path: Path) -> Suite:
        """Recipe files found from where the suite is, so that a benchmark can go on from any folder."""
        rows = []
        for row in self.rows:
            file = path.parent / (row.recipe or "")
            rows.append(row.model_copy(update={"recipe": str(file.resolve())}) if file.is_file() else row)
        return self.model_copy(update={"rows": tuple(rows)})

    def to_toml(self) -> str:
        """As a TOML file."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude_defaults=True))

    # ---- asking ------------------------------------------------------------------------------

    @property
    def slugs(self) -> tuple[str, ...]:
        """Of all rows, in order."""
        return tuple(r.slug for r in self.rows)

    def row(self, slug: str) -> Row:
        """The row of that slug.

        Raises:
            NotFoundError: naming the nearest one.
        """
        for row in self.rows:
            if row.slug == slug:
                return row
        raise NotFoundError(f"the suite has no row {slug!r}.{nearest(slug, self.slugs)}")

    def replicates_of(self, row: Row) -> int:
        """How many sessions a row of networks has; of others 1."""
        if row.kind not in TRAINED:
            return 1
        return row.replicates or (self.replicates if row.kind == "network" else 1)

    def budget_of(self, row: Row) -> Budget:
        """What each of its sessions is given."""
        return row.budget or self.budget

    @property
    def reference_row(self) -> Row | None:
        """The row that others are compared with; None in a suite without networks."""
        if self.reference is not None:
            return self.row(self.reference)
        return next((r for r in self.rows if r.kind == "network"), None)

    def resolved(self, schema: LabelSchema) -> Suite:
        """The suite with columns that the classes of a study can serve."""
        return self.model_copy(update={"columns": tuple(c.resolved(schema) for c in self.columns)})

    # ---- changing ----------------------------------------------------------------------------

    def with_replicates(self, number: int, slugs: tuple[str, ...] | None = None) -> Suite:
        """Every row of networks with that many sessions, whatever it said.

        Args:
            number: of sessions.
            slugs: of the rows that are to be run; all without them.

        Raises:
            NotFoundError: for a row that is not there.
            ConfigError: if an ensemble that is to be run has more members than that.
        """
        rows = [r.model_copy(update={"replicates": None}) if r.kind == "network" else r for r in self.rows]
        changed = self.model_copy(update={"replicates": number, "rows": tuple(rows)})
        (changed if slugs is None else changed.only(slugs))._check_sizes(f"--replicates {number}")
        return changed

    def with_budget(self, budget: Budget) -> Suite:
        """Every session with that budget, whatever its row said."""
        rows = [r.model_copy(update={"budget": None}) for r in self.rows]
        return self.model_copy(update={"budget": budget, "rows": tuple(rows)})

    def only(self, slugs: tuple[str, ...]) -> Suite:
        """Some rows alone, and the rows that these are made of.

        Raises:
            NotFoundError: for a row that is not there.
        """
        wanted = {self.row(s).slug for s in slugs}
        for _ in range(2):  # a distilled network is made of an ensemble, and that of networks
            wanted |= {r.of for r in self.rows if r.slug in wanted and r.of}
        rows = tuple(r for r in self.rows if r.slug in wanted)
        kept = self.reference if self.reference in wanted else None
        return self.model_copy(update={"rows": rows, "reference": kept})

    # ---- checking ----------------------------------------------------------------------------

    def _check(self, where: str) -> None:
        twice = [slug for slug, count in Counter(self.slugs).items() if count > 1]
        if twice:
            raise ConfigError(f"{where}: row {twice[0]!r} is there twice; give each row a slug of its own")
        for row in self.rows:
            if row.kind == "ensemble":
                self._check_source(row, "network", where)
            if row.kind == "distilled":
                self._check_source(row, "ensemble", where)
        if self.reference is not None and self.reference not in self.slugs:
            raise ConfigError(
                f"{where}: reference: there is no row {self.reference!r}."
                f"{nearest(self.reference, self.slugs)}"
            )
        if self.reference is not None and self.row(self.reference).kind != "network":
            raise ConfigError(
                f"{where}: reference: expected a row of networks, which has replicates, found "
                f"{self.reference!r} of kind {self.row(self.reference).kind}"
            )

    def _check_source(self, row: Row, kind: Kind, where: str) -> None:
        assert row.of is not None
        if row.of not in self.slugs:
            raise ConfigError(
                f"{where}: row {row.slug!r}: of: there is no row {row.of!r}.{nearest(row.of, self.slugs)}"
            )
        found = self.row(row.of).kind
        if found != kind:
            what = "an ensemble is made of networks" if kind == "network" else "an ensemble is distilled"
            raise ConfigError(
                f"{where}: row {row.slug!r}: of: {what}, so expected a row of kind {kind}, found "
                f"{row.of!r} of kind {found}"
            )

    def _check_sizes(self, where: str) -> None:
        for row in self.rows:
            if row.kind != "ensemble" or row.of is None or row.k is None:
                continue
            there = self.replicates_of(self.row(row.of))
            if row.k > there:
                raise ConfigError(
                    f"{where}: row {row.slug!r}: an ensemble of k = {row.k} needs as many replicates, but "
                    f"row {row.of!r} has {there}; lower k or raise replicates"
                )


def _check_recipe(row: Row, where: str) -> None:
    from densem.training import Recipe

    assert row.recipe is not None
    try:
        Recipe.load(row.recipe, row.overrides)
    except (NotFoundError, ConfigError) as error:
        raise ConfigError(f"{where}: row {row.slug!r}: {error}") from None


def names() -> list[str]:
    """Names of the packaged suites."""
    folder = resources.files("densem.experiments") / "suites"
    return sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml"))


def serves(schema: LabelSchema, protocol: Protocol) -> bool:
    """Whether predictions of these classes can be scored by a protocol."""
    return protocol is Protocol.LABELLED or (schema.background_id is not None and bool(schema.organelle_ids))


def text_of(name: str) -> str:
    """A packaged suite, or a file, as it was written.

    Raises:
        NotFoundError: naming the nearest packaged one.
    """
    return _text(name)[0]


def _parsed(text: str, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not a TOML file: {error}") from None


def _text(name: str) -> tuple[str, str]:
    if name in names():
        return (
            resources.files("densem.experiments") / "suites" / f"{name}.toml"
        ).read_text(), f"suite {name}"
    path = Path(name)
    if path.is_file():
        return path.read_text(), str(path)
    if path.suffix == ".toml" or "/" in name:
        raise NotFoundError(f"{name}: no suite file there")
    raise NotFoundError(f"suite {name!r}: neither a packaged suite nor a .toml file.{nearest(name, names())}")


def _explain(error: ValidationError, table: dict[str, Any], where: str) -> ConfigError:
    first = error.errors()[0]
    place = list(first["loc"])
    if len(place) > 1 and place[0] == "rows" and isinstance(place[1], int):
        row = table["rows"][place[1]]
        slug = row.get("slug") if isinstance(row, dict) else None
        where = f"{where}: row {slug!r}" if slug else f"{where}: row number {place[1] + 1}"
        place = place[2:]
    key = ".".join(map(str, place))
    if first["type"] == "extra_forbidden":
        section = Row if first["loc"][0] == "rows" else Suite
        return ConfigError(f"{where}: no entry {key!r}.{nearest(str(place[-1]), list(section.model_fields))}")
    if first["type"] == "missing":
        return ConfigError(f"{where}: entry {key!r} is missing")
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return ConfigError(f"{where.partition(': row')[0]}: {message}")
    found = "" if "found" in message else f", found {first['input']!r}"
    return ConfigError(f"{where}: {key}: {message}{found}")
