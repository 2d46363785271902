import copy
import tomllib

import pytest
from made_up import SUITE

from densem.errors import ConfigError, NotFoundError
from densem.evaluation import Protocol
from densem.experiments import suite
from densem.experiments.suite import Budget, Suite
from densem.schema import LabelSchema
from densem.training import Recipe

TABLE_OF_THE_STUDY = [
    ("Ens. 2D-3D+3x3x3 (4)", "2d-3d+3x3x3", 4),
    ("Ens. Abl. 3x3x3 (5)", "abl-3x3x3", 5),
    ("Ens. 2D-3D (4)", "2d-3d", 4),
    ("2D-3D+3x3x3", "hybrid-2d3d-333", None),
    ("2D-3D", "hybrid-2d3d", None),
    ("Abl. 3x3x3", "hybrid-2d3d-no-333", None),
    ("Abl. Multi-Loss", "hybrid-2d3d-no-auxiliary", None),
    ("Abl. 3D Pyramid", "hybrid-2d3d-no-pyramid", None),
    ("Ens. Abl. Multi-Loss (3)", "abl-multi-loss", 3),
    ("Ens. Abl. 3D Pyramid (3)", "abl-3d-pyramid", 3),
]


@pytest.fixture
def table():
    return copy.deepcopy(SUITE)


# ---- the packaged suites -----------------------------------------------------------------------


@pytest.mark.parametrize("name", suite.names())
def test_packaged_suites_are_whole(name):
    found = Suite.load(name)
    assert found.description
    assert found.columns
    assert Suite.from_table(tomllib.loads(found.to_toml()), name) == found


def test_the_poster_begins_with_the_ten_rows_of_the_study():
    poster = Suite.load("poster")
    assert [(r.title, r.of or r.recipe, r.k) for r in poster.rows[:10]] == TABLE_OF_THE_STUDY
    assert [(c.role, c.protocol.value, c.metric) for c in poster.columns] == [
        ("eval", "labelled", "miou"),
        ("test", "cells", "miou_organelles"),
    ]
    assert [poster.replicates_of(r) for r in poster.rows[3:8]] == [6] * 5
    assert poster.reference_row.slug == "2d-3d+3x3x3"
    later = [r.group for r in poster.rows[10:]]
    assert sorted(later, key=["2D networks", "Baselines"].index) == later


# ---- what is wrong is named --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t["rows"][2].update(slug="deep"),
            "here: row 'deep' is there twice; give each row a slug of its own",
        ),
        (
            lambda t: t["rows"][1].pop("recipe"),
            "here: row 'deep' of kind network needs recipe",
        ),
        (
            lambda t: t["rows"][0].pop("k"),
            "here: row 'ensemble-deep' of kind ensemble needs k",
        ),
        (lambda t: t["rows"][1].update(k=2), "row 'deep' of kind network cannot have k"),
        (
            lambda t: t["rows"][0].update(k=7),
            "here: row 'ensemble-deep': an ensemble of k = 7 needs as many replicates, but row 'deep' has 6; "
            "lower k or raise replicates",
        ),
        (
            lambda t: t["rows"][0].update(of="flta"),
            "row 'ensemble-deep': of: there is no row 'flta'. Did you mean 'flat'?",
        ),
        (
            lambda t: t["rows"][4].update(
                slug="other", kind="ensemble", of="ensemble-deep", k=1, recipe=None, replicates=None
            ),
            "here: row 'other': of: an ensemble is made of networks, so expected a row of kind network, found "
            "'ensemble-deep' of kind ensemble",
        ),
        (
            lambda t: t["rows"][4].update(slug="pupil", kind="distilled", of="twin"),
            "here: row 'pupil': of: an ensemble is distilled, so expected a row of kind ensemble, found 'twin' of kind network",
        ),
        (
            lambda t: t["rows"][4].update(
                slug="pupil",
                kind="distilled",
                of="ensemble-deep",
                recipe=None,
                overrides=["optimizer.lr=1e-3"],
            ),
            "row 'pupil' has overrides without a recipe; name the recipe they change",
        ),
        (
            lambda t: t.update(reference="depe"),
            "here: reference: there is no row 'depe'. Did you mean 'deep'?",
        ),
        (
            lambda t: t.update(reference="ensemble-deep"),
            "here: reference: expected a row of networks, which has replicates",
        ),
        (lambda t: t.update(budget={}), "here: budget: expected either max_time or steps"),
        (
            lambda t: t.update(budget={"max_time": "soon"}),
            "here: budget: max_time = soon: expected a time such as 90s",
        ),
        (
            lambda t: t.update(budget={"steps": 0}),
            "here: budget.steps: Input should be greater than or equal to 1, found 0",
        ),
        (lambda t: t.update(replicate=3), "here: no entry 'replicate'. Did you mean 'replicates'?"),
        (
            lambda t: t["rows"][1].update(recpie="x"),
            "here: row 'deep': no entry 'recpie'. Did you mean 'recipe'?",
        ),
        (lambda t: t["rows"][1].pop("slug"), "here: row number 2: entry 'slug' is missing"),
        (lambda t: t["rows"][1].update(slug="De ep"), "here: row 'De ep': slug: String should match pattern"),
        (
            lambda t: t["columns"][0].update(role="train"),
            "here: columns.0.role: Input should be 'eval' or 'test'",
        ),
        (lambda t: t.update(rows=[]), "here: rows: Tuple should have at least 1 item"),
    ],
)
def test_what_is_wrong_is_named(table, change, message):
    change(table)
    with pytest.raises(ConfigError) as caught:
        Suite.from_table(table, "here")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            'recipe = "hybird-2d3d"',
            "row 'a': recipe 'hybird-2d3d': neither a packaged recipe nor a .toml file. Did you mean",
        ),
        (
            'recipe = "unet-2d"\noverrides = ["optimizer.rl=1"]',
            "row 'a': recipe unet-2d: no key 'optimizer.rl'. Did you mean",
        ),
        (
            'recipe = "unet-2d"\noverrides = ["network.architecture=unet"]',
            "row 'a': recipe unet-2d: network.architecture: no",
        ),
        ('recipe = "there.toml"', "row 'a': there.toml: no recipe file there"),
    ],
)
def test_recipes_are_looked_at_when_a_suite_is_read(tmp_path, row, message):
    path = tmp_path / "mine.toml"
    path.write_text(f'[[rows]]\nslug = "a"\ntitle = "A"\n{row}\n')
    with pytest.raises(ConfigError) as caught:
        Suite.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_a_suite_that_is_not_there(tmp_path):
    with pytest.raises(
        NotFoundError,
        match=r"suite 'postre': neither a packaged suite nor a .toml file. Did you mean 'poster'\?",
    ):
        Suite.load("postre")
    with pytest.raises(NotFoundError, match=r"mine.toml: no suite file there"):
        Suite.load(tmp_path / "mine.toml")
    (tmp_path / "mine.toml").write_text("rows = [")
    with pytest.raises(ConfigError, match=r"mine.toml: not a TOML file"):
        Suite.load(tmp_path / "mine.toml")


def test_recipe_files_are_beside_the_suite(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/own.toml").write_text(
        '[network]\narchitecture = "unet-2d"\n[network.config]\nfilters = 2\n'
    )
    (tmp_path / "sub/mine.toml").write_text('[[rows]]\nslug = "a"\ntitle = "A"\nrecipe = "own.toml"\n')
    monkeypatch.chdir(tmp_path)
    assert Suite.load("sub/mine.toml").rows[0].recipe == str((tmp_path / "sub/own.toml").resolve())


# ---- what a suite says -------------------------------------------------------------------------


def test_replicates_and_budgets(table):
    table["rows"][3]["budget"] = {"max_time": "90s"}
    found = Suite.from_table(table, "here")
    assert [found.replicates_of(r) for r in found.rows] == [1, 6, 6, 3, 3]
    assert found.budget_of(found.row("flat")).seconds == 90
    assert found.budget_of(found.row("deep")).seconds is None
    changed = found.with_replicates(4).with_budget(Budget(steps=9))
    assert [changed.replicates_of(r) for r in changed.rows] == [1, 4, 4, 4, 4]
    assert {changed.budget_of(r).steps for r in changed.rows} == {9}


def test_fewer_replicates_of_some_rows(table, tmp_path):
    found = Suite.from_table(table, "here")
    said = "--replicates 2: row 'ensemble-deep': an ensemble of k = 4 needs as many replicates, but"
    with pytest.raises(ConfigError, match=said):
        found.with_replicates(2)
    with pytest.raises(ConfigError, match=said):
        found.with_replicates(2, ("ensemble-deep",))
    changed = found.with_replicates(2, ("deep", "flat"))
    assert changed.replicates_of(changed.row("deep")) == 2
    (tmp_path / "suite.toml").write_text(changed.to_toml())
    assert Suite.read(tmp_path / "suite.toml") == changed
    with pytest.raises(NotFoundError, match=r"no row 'flta'\. Did you mean 'flat'"):
        found.with_replicates(2, ("flta",))


def test_some_rows_bring_those_they_are_made_of(table):
    pupil = {"slug": "pupil", "title": "Pupil", "kind": "distilled", "of": "ensemble-deep"}
    table["rows"].append(pupil)
    found = Suite.from_table(table, "here")
    assert found.only(("pupil",)).slugs == ("ensemble-deep", "deep", "pupil")
    assert found.only(("flat", "twin")).slugs == ("twin", "flat")
    assert found.only(("flat", "twin")).reference_row.slug == "twin"


def test_columns_follow_the_classes():
    poster = Suite.load("poster")
    cells = poster.resolved(LabelSchema.resolve("platelet")).columns[1]
    plain = poster.resolved(LabelSchema.from_names(["a", "b"])).columns[1]
    assert (cells.protocol, plain.protocol) == (Protocol.CELLS, Protocol.LABELLED)
    assert cells.otherwise is plain.otherwise is None


def test_without_organelles_a_mean_over_them_is_one_over_all_classes():
    poster = Suite.load("poster")
    column = poster.resolved(LabelSchema.from_names(["a", "b"])).columns[1]
    assert column.metric == "miou"
    assert column.title == "test MIoU over organelles (no organelles marked: all classes)"
    assert column.resolved(LabelSchema.from_names(["a", "b"])) == column
    cells = poster.resolved(LabelSchema.resolve("platelet")).columns[1]
    assert (cells.metric, cells.title) == ("miou_organelles", "test MIoU over organelles")


def test_rows_of_the_poster_differ_in_their_networks_and_not_in_how_they_are_trained():
    poster = Suite.load("poster")
    rows = [row for row in poster.rows if row.kind == "network"]
    recipes = {row.slug: Recipe.load(row.recipe, row.overrides) for row in rows}
    usual = recipes["2d-3d+3x3x3"]
    for slug, recipe in recipes.items():
        assert recipe.augmentation == usual.augmentation, slug
        assert recipe.patches.rare == usual.patches.rare, slug
        assert recipe.schedule == usual.schedule, slug
        assert recipe.loss.balance == usual.loss.balance, slug
