"""Significance: oracles of both levels, made-up experiments with a known answer, messages.

The made-up networks: three classes of unequal size in B blocks. The logit of a network's accuracy in a block is
the sum of a level, the training (one draw a network), the block (one draw a block, for all networks), the
design in that block (one draw a block and row) and a rest (one draw a block and network). Where both rows have
one level, and designs and trainings differ by chance only, a "different" is a false one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import pytest
from scipy import stats

from densem.errors import ConfigError, FormatError, InputError, SchemaError
from densem.evaluation import BlockTables, Protocol, Replicate, compare, scores
from densem.schema import LabelSchema

SCHEMA = LabelSchema.from_table(
    {
        "outside": {"id": 0, "color": "#000000", "background": True},
        "cell": {"id": 1, "color": "#0000ff"},
        "granule": {"id": 7, "color": "#00ff00", "parent": "cell", "organelle": True},
    },
    "test",
)


def replicate(
    counts: np.ndarray, protocol: Protocol = Protocol.LABELLED, schema: LabelSchema = SCHEMA
) -> Replicate:
    """From counts (B, C, C + 1): blocks in a row."""
    shape = (1, 1, 10 * len(counts))
    return Replicate.of(BlockTables(counts, schema, protocol, shape, (1, 1, 10), (40.0, 10.0, 8.0)))


def simple(shares: Sequence[float], voxels: int = 10_000) -> Replicate:
    """One granule class, found to these shares in equal blocks: the organelle MIoU is their mean."""
    counts = np.zeros((len(shares), 3, 4), np.int64)
    counts[:, 2, 2] = np.round(np.array(shares) * voxels)
    counts[:, 2, 3] = voxels - counts[:, 2, 2]
    return replicate(counts)


@dataclass(frozen=True)
class World:
    """How made-up networks vary, in logits of the accuracy."""

    training: float = 0.15
    block: float = 0.4
    design: float = 0.1
    rest: float = 0.15
    blocks: int = 24

    def rows(
        self, rng: np.random.Generator, sizes: tuple[int, int], gain: float = 0.0
    ) -> list[list[Replicate]]:
        """Two rows of networks; the level of the second is higher by `gain`."""
        truth = rng.multinomial(20_000, [0.55, 0.35, 0.1], self.blocks)
        common = rng.normal(1.5, self.block, self.blocks)
        found = []
        for row, size in enumerate(sizes):
            level = common + row * gain + rng.normal(0, self.design, self.blocks)
            logits = (
                level
                + rng.normal(0, self.training, (size, 1))
                + rng.normal(0, self.rest, (size, self.blocks))
            )
            found.append([replicate(self._counts(truth, share)) for share in 1 / (1 + np.exp(-logits))])
        return found

    @staticmethod
    def _counts(truth: np.ndarray, share: np.ndarray) -> np.ndarray:
        hits = np.round(truth * share[:, None]).astype(np.int64)
        counts = np.zeros((len(truth), 3, 4), np.int64)
        for c in range(3):
            missed = truth[:, c] - hits[:, c]
            counts[:, c, c] = hits[:, c]
            counts[:, c, (c + 1) % 3] = missed // 2
            counts[:, c, (c + 2) % 3] = missed - missed // 2
        return counts

    def true_gain(self, gain: float) -> float:
        """The difference of the expected scores, from many networks on many blocks."""
        many = World(self.training, self.block, self.design, self.rest, 4000)
        rows = many.rows(np.random.default_rng(99), (40, 40), gain)
        return float(np.mean([r.score() for r in rows[1]]) - np.mean([r.score() for r in rows[0]]))


# ---- literals and oracles --------------------------------------------------------------------


def test_the_score_of_a_replicate_is_that_of_its_whole_tables() -> None:
    (row, _) = World().rows(np.random.default_rng(0), (2, 1))
    for network in row:
        expected = scores(network.tables[0].whole())
        assert network.score() == pytest.approx(expected.miou)
        assert network.score("miou_organelles") == pytest.approx(expected.miou_organelles)
    both = Replicate((row[0].tables[0], row[1].tables[0]))  # two test volumes
    assert both.score() == pytest.approx(scores(row[0].tables[0].whole() + row[1].tables[0].whole()).miou)


def test_replicates_alone_give_the_test_of_welch() -> None:
    """Blocks that are all alike add no spread; what remains are the replicates."""
    first, second = [0.61, 0.65, 0.58, 0.63], [0.70, 0.66, 0.69]
    rows = [[simple([share] * 5) for share in row] for row in (first, second)]
    found = compare(*rows, score="miou_organelles", rounds=40_000)
    welch = stats.ttest_ind(second, first, equal_var=False)
    assert found.difference == pytest.approx(np.mean(second) - np.mean(first))
    assert found.degrees == pytest.approx(welch.df)
    assert found.p_bootstrap == pytest.approx(welch.pvalue, rel=0.05)
    low, high = welch.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_blocks_alone_give_the_paired_t_test() -> None:
    rng = np.random.default_rng(5)
    first = rng.uniform(0.3, 0.9, 15)
    second = np.clip(first + rng.normal(0.03, 0.04, 15), 0, 1)
    found = compare([simple(first)], [simple(second)], score="miou_organelles", rounds=40_000)
    paired = stats.ttest_rel(second, first)
    assert found.degrees == 14
    assert found.p_bootstrap == pytest.approx(paired.pvalue, rel=0.05)
    low, high = paired.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))


def test_rows_of_one_replicate_are_never_told_apart_however_far_they_are() -> None:
    found = compare([simple([0.1, 0.11, 0.1])], [simple([0.9, 0.91, 0.9])] * 6, score="miou_organelles")
    assert found.p_bootstrap < 0.01
    assert (found.spread_known, found.p, found.p_permutation) == (False, None, None)
    assert found.notes == (
        "the reference with one replicate: how differently another training would end is unknown",
        "a test volume has only 3 blocks with scored voxels: the interval is rough",
    )


def test_one_network_in_one_block_says_nothing() -> None:
    found = compare([simple([0.4])], [simple([0.6])], score="miou_organelles")
    assert (found.low, found.high, found.error, found.p_bootstrap, found.p) == (None,) * 5
    assert found.difference == pytest.approx(0.2)
    assert found.notes == (
        "the reference and the row with one replicate: how differently another training would end is unknown",
        "a test volume has one block with scored voxels: what other tissue would give is unknown",
    )


def test_a_row_is_the_same_as_itself() -> None:
    row = [simple([0.5, 0.6, 0.4]), simple([0.5, 0.7, 0.4])]
    found = compare(row, row, score="miou_organelles")
    assert (found.difference, found.p) == (0.0, 1.0)
    same = [simple([0.5, 0.5])] * 2
    assert compare(same, same, score="miou_organelles").p == 1.0


def test_from_six_replicates_on_they_are_permuted_and_the_larger_p_counts() -> None:
    first, second = ([simple([s, s + 0.001] * 6) for s in np.linspace(a, a + 0.01, 6)] for a in (0.5, 0.6))
    found = compare(first, second, score="miou_organelles")
    assert found.p_permutation == 2 / 924
    assert found.p_bootstrap < 2 / 924
    assert found.p == 2 / 924
    assert compare(first[:5], second, score="miou_organelles").p_permutation is None


def test_blocks_without_scored_voxels_change_nothing() -> None:
    first, second = World().rows(np.random.default_rng(3), (3, 3))

    def padded(row: list[Replicate]) -> list[Replicate]:
        empty = np.zeros((7, 3, 4), np.int64)
        return [replicate(np.concatenate([empty, r.tables[0].counts, empty])) for r in row]

    assert compare(first, second, rounds=500) == compare(padded(first), padded(second), rounds=500)


def test_the_same_seed_gives_the_same_result_and_rows_can_change_places() -> None:
    first, second = World().rows(np.random.default_rng(4), (3, 4))
    found = compare(first, second, rounds=4000)
    assert found == compare(first, second, rounds=4000)
    assert found != compare(first, second, rounds=4000, seed=1)
    back = compare(second, first, rounds=4000)
    assert back.difference == -found.difference
    assert back.error == pytest.approx(found.error, rel=0.05)


def test_volumes_are_drawn_from_apart() -> None:
    """Two volumes of equal size: the variance of the pooled score is that of the mean of both."""
    rng = np.random.default_rng(6)
    shares = rng.uniform(0.2, 0.8, (2, 2, 10))  # row, volume, block
    rows = [[Replicate(tuple(simple(v).tables[0] for v in row))] for row in shares]
    found = compare(*rows, score="miou_organelles", rounds=50_000)
    apart = shares[1] - shares[0]
    assert found.difference == pytest.approx(apart.mean(), abs=1e-4)
    assert found.error == pytest.approx(sqrt((apart.var(axis=1, ddof=1) / 10).sum() / 4), rel=0.03)
    assert (found.degrees, found.blocks) == (18, 20)


# ---- experiments with a known answer ---------------------------------------------------------


def found_different(world: World, sizes: tuple[int, int], gain: float, experiments: int, seed: int) -> float:
    """Share of made-up experiments that find a difference at 0.05."""
    rng = np.random.default_rng(seed)
    found = [compare(*world.rows(rng, sizes, gain), rounds=400, seed=i) for i in range(experiments)]
    return float(np.mean([c.p < 0.05 for c in found]))


@pytest.mark.parametrize(("sizes", "seed"), [((3, 3), 0), ((6, 6), 1)])
def test_false_positives_are_rare(sizes: tuple[int, int], seed: int) -> None:
    assert found_different(World(), sizes, 0.0, 200, seed) <= 0.05 + 2.5 * sqrt(0.05 * 0.95 / 200)


@pytest.mark.parametrize(("sizes", "gain", "least"), [((3, 3), 0.8, 0.8), ((6, 6), 0.5, 0.9)])
def test_a_real_difference_is_found(sizes: tuple[int, int], gain: float, least: float) -> None:
    assert found_different(World(), sizes, gain, 60, 2) >= least


def test_the_interval_holds_the_true_difference() -> None:
    world, rng = World(), np.random.default_rng(3)
    true = world.true_gain(0.3)
    found = [compare(*world.rows(rng, (4, 4), 0.3), rounds=400, seed=i) for i in range(150)]
    held = np.mean([c.low <= true <= c.high for c in found])
    assert held >= 0.95 - 2.5 * sqrt(0.05 * 0.95 / 150)


def test_networks_that_are_the_same_do_not_differ() -> None:
    """Means of three and of six equal scores are not always the same number."""
    world, rng = World(training=0.0, block=1.0, design=0.0, rest=0.0), np.random.default_rng(11)
    pairs = [world.rows(rng, (3, 6), 0.0) for _ in range(30)]
    rounded = [
        np.mean([r.score() for r in second]) - np.mean([r.score() for r in first]) for first, second in pairs
    ]
    assert any(rounded)  # so that this can fail
    found = [compare(first, second, rounds=400) for first, second in pairs]
    assert [(c.difference, c.p) for c in found] == [(0.0, 1.0)] * 30


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2), (3, 3), (3, 6), (6, 6), (10, 10)])
@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(training=0.4, design=0.02, rest=0.02),
        World(training=0.02, design=0.4),
        World(blocks=12, design=0.3),
        World(training=0.0, block=1.0, design=0.0, rest=0.0),
    ],
    ids=["both", "trainings", "blocks", "few blocks", "blocks in common"],
)
def test_false_positives_are_rare_in_many_worlds(world: World, sizes: tuple[int, int]) -> None:
    assert found_different(world, sizes, 0.0, 2000, 11) <= 0.05 + 3 * sqrt(0.05 * 0.95 / 2000)


# ---- refusals --------------------------------------------------------------------------------


def test_refusals() -> None:
    first, second = World().rows(np.random.default_rng(0), (2, 2))
    with pytest.raises(InputError, match="compare: the other row has no replicate"):
        compare(first, [])
    with pytest.raises(InputError, match="compare: the reference row has no replicate"):
        compare([], second)
    with pytest.raises(
        ConfigError, match=r"score: expected miou or miou_organelles, found 'mio'\. Did you mean 'miou'"
    ):
        compare(first, second, score="mio")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rounds: expected at least 100 rounds of resampling, found 10"):
        compare(first, second, rounds=10)
    with pytest.raises(InputError, match="seed 1 was scored on 2 test volumes and seed 0 on 1; score all on"):
        compare([Replicate(first[0].tables, "seed 0")], [Replicate(first[0].tables * 2, "seed 1")])
    with pytest.raises(InputError, match="seed 2: expected the tables of a test volume, found none"):
        compare([Replicate((), "seed 2")], [Replicate(())])
    with pytest.raises(FormatError, match="only on one volume in the same blocks"):
        compare(first, [replicate(second[0].tables[0].counts[1:])])
    with pytest.raises(FormatError, match="the true voxels of the blocks differ"):
        compare(first, [replicate(second[0].tables[0].counts[::-1])])


def test_scores_that_are_not_available_are_refused() -> None:
    counts = np.zeros((12, 3, 4), np.int64)
    counts[:, 1, 1] = 5
    cells = [replicate(counts, Protocol.CELLS)] * 2
    with pytest.raises(ConfigError, match="score miou: the protocol cells judges organelles only"):
        compare(cells, cells)
    with pytest.raises(InputError, match="no class of miou_organelles is in its test volumes"):
        compare(cells, cells, score="miou_organelles")
    plain = [replicate(counts, schema=LabelSchema.from_names(["a", "b", "c"]))] * 2
    with pytest.raises(ConfigError, match="no class of the schema is an organelle"):
        compare(plain, plain, score="miou_organelles")
    with pytest.raises(SchemaError, match="only if schema and protocol agree"):
        compare(plain, [replicate(counts)])
