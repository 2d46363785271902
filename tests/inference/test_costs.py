"""Costs: memory is counted, and the table says what is true of each network."""

import json

import pytest
import torch

from densem.inference.costs import HEADER, Cost, Ledger, line, tile_bytes
from densem.model import TilePlan
from densem.networks import ARCHITECTURES, build


def test_the_ledger_counts_what_is_alive_together():
    ledger = Ledger()
    with ledger:
        a = torch.empty(1000, device="meta")  # 4000 bytes
        b = a + 1  # 8000
        view = b.view(10, 100)  # no more
        del a  # 4000
        c = view * 2  # 8000
        del b, view
        d = c.double()  # 4000 and 8000
    assert (ledger.now, ledger.most) == (12_000, 12_000)
    del c, d
    assert ledger.now == 0


def test_a_tile_of_a_dilated_network_by_hand():
    """Three activations of 4 filters are alive at most: a block's input, its first answer and what is made of it."""
    network = build("dilated-2d", {"n_classes": 2, "filters": 4, "blocks": 2}).to("meta").eval()
    plan = TilePlan(core=(1, 64, 64), window=(1, 64, 64))
    activations = tile_bytes(network, plan) - sum(p.nbytes for p in network.parameters())
    one = 4 * 4 * 64 * 64
    assert 3 * one <= activations <= 5 * one


@pytest.mark.parametrize(
    ("name", "context", "window"),
    [
        ("unet-2d", (0, 107, 107), None),
        ("deeplab-v3plus-18", None, (1, 576, 576)),
        ("medicalnet-10", (134, 134, 134), (8, 192, 192)),
        ("deepvess", (3, 18, 18), None),
    ],
)
def test_context_or_window(name, context, window):
    cost = Cost.of(name)
    assert (cost.context, cost.window) == (context, window)
    assert cost.tile_bytes > 4 * cost.parameters
    assert cost.mflop_per_voxel > 0


def test_a_line_of_the_table():
    cost = Cost("deeplab-v3plus-18", 16_598_311, 0.311, None, (1, 576, 576), 180_000_000, "a paper")
    assert line(cost).split() == [
        "deeplab-v3plus-18", "16,598,311", "0.31", "window", "1", "576", "576", "0.18",
    ]  # fmt: skip
    assert len(line(cost)) == len(HEADER) <= 80


def test_every_network_has_a_source():
    assert all(a.source for a in ARCHITECTURES.values())


@pytest.mark.slow
def test_the_command_lists_all_of_them(capsys):
    from densem.cli.app import run

    assert run(["networks", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [r["name"] for r in rows] == list(ARCHITECTURES)
    assert run(["networks"]) == 0
    printed = capsys.readouterr().out
    assert "31,030,983" in printed
    assert "exact tiles" in printed
