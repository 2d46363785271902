"""The table of rows: Holm's correction and the verdicts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from densem.errors import ConfigError, InputError, NotFoundError
from densem.evaluation import BlockTables, Protocol, Replicate, Verdict, compare, compare_table, holm
from densem.schema import LabelSchema

SCHEMA = LabelSchema.from_names(["inside", "membrane"])


def row(*means: float, blocks: int = 16) -> list[Replicate]:
    """Networks that are right in these shares of the voxels, a little more or less in each block."""
    found = []
    for number, mean in enumerate(means):
        share = mean + 0.01 * np.sin(np.arange(blocks) + number)
        hits = np.round(1000 * share).astype(np.int64)
        counts = np.zeros((blocks, 2, 3), np.int64)
        for c in range(2):
            counts[:, c, c], counts[:, c, 1 - c] = hits, 1000 - hits
        tables = BlockTables(counts, SCHEMA, Protocol.LABELLED, (1, 1, blocks), (1, 1, 1), (40.0, 10.0, 8.0))
        found.append(Replicate.of(tables, name=f"seed {number}"))
    return found


def test_holm_by_hand() -> None:
    # the numbers of R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") and of statsmodels' multipletests
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([0.02, 0.02, 0.02]) == pytest.approx([0.06] * 3)
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_holm_takes_probabilities_only(wrong: float) -> None:
    with pytest.raises(InputError, match="holm: expected probabilities from 0 to 1, found"):
        holm([0.1, wrong])


def test_verdicts() -> None:
    rows = {
        "better": row(0.90, 0.91, 0.905),
        "first": row(0.80, 0.81, 0.805),
        "alike": row(0.79, 0.82, 0.80),
        "worse": row(0.70, 0.71, 0.705),
        "ensemble": row(0.95),
    }
    table = compare_table(rows, "first", rounds=2000)
    assert [r.name for r in table.rows] == list(rows)
    assert {r.name: r.verdict for r in table.rows} == {
        "better": Verdict.HIGHER,
        "first": Verdict.REFERENCE,
        "alike": Verdict.NOT_TOLD_APART,
        "worse": Verdict.LOWER,
        "ensemble": Verdict.SPREAD_UNKNOWN,
    }
    compared = ["better", "alike", "worse"]
    ps = [compare(rows["first"], rows[name], rounds=2000).p for name in compared]
    assert [table[name].p_holm for name in compared] == pytest.approx(holm([p for p in ps if p is not None]))
    assert (table["first"].p_holm, table["ensemble"].p_holm) == (None, None)
    assert table["ensemble"].comparison.low > 0  # its interval over blocks is there all the same
    scores = [r.score() for r in rows["alike"]]
    assert table["alike"].mean == pytest.approx(np.mean(scores))
    assert table["alike"].std == pytest.approx(np.std(scores, ddof=1))
    assert table["alike"].best == max(scores)
    assert (table["ensemble"].std, table["ensemble"].replicates) == (None, 1)


def test_many_rows_make_each_claim_harder() -> None:
    """A difference that counts alone is not claimed as one of thirty."""
    reference, other = row(0.80, 0.82, 0.81), row(0.83, 0.85, 0.84)
    alone = compare_table({"a": reference, "b": other}, "a", rounds=2000)
    assert alone["b"].verdict is Verdict.HIGHER
    rest = {f"c{n}": row(0.80, 0.82, 0.815) for n in range(29)}
    among = compare_table({"a": reference, "b": other, **rest}, "a", rounds=2000)
    assert among["b"].comparison == alone["b"].comparison
    assert among["b"].verdict is Verdict.NOT_TOLD_APART


def test_it_can_be_written_as_json() -> None:
    table = compare_table({"a": row(0.8, 0.82), "b": row(0.9)}, "a", rounds=200)
    record = json.loads(json.dumps(table.to_dict()))
    assert [r["verdict"] for r in record["rows"]] == ["reference", "spread unknown"]
    assert record["rows"][1]["comparison"]["replicates"] == [2, 1]
    assert record["rows"][1]["comparison"]["p"] is None


def test_refusals() -> None:
    rows = {"hybrid": row(0.8, 0.82), "unet": row(0.7, 0.72)}
    with pytest.raises(
        NotFoundError, match=r"reference row 'hybird' is not in the table\. Did you mean 'hybrid'"
    ):
        compare_table(rows, "hybird")
    with pytest.raises(ConfigError, match=r"alpha: expected a level between 0 and 1, such as 0\.05, found 5"):
        compare_table(rows, "hybrid", alpha=5)
    with pytest.raises(NotFoundError, match=r"no row 'unett' in the table\. Did you mean 'unet'"):
        compare_table(rows, "hybrid", rounds=100)["unett"]
