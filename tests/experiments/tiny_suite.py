"""A recipe of networks that train in a second, a suite of them, and a run that only notes when it was; a strike."""

from contextlib import contextmanager
from unittest import mock

import pytest

TINY = """
description = "tiny"
[network]
architecture = "{architecture}"
[network.config]
filters = 2
depth = 1
{config}
normalization = "batch"
[patches]
shapes = [[3, 32, 32]]
[optimizer]
lr = 0.01
precision = "float32"
[schedule]
warmup = 1
validations = 1
probe_patches = 2
final_patches = 2
"""
SUITE = """
title = "Tiny networks"
replicates = 2
budget = { steps = 6 }
reference = "mixed"

[[columns]]
title = "eval MIoU"
role = "eval"

[[columns]]
title = "test MIoU over organelles"
role = "test"
protocol = "cells"
metric = "miou_organelles"

[[rows]]
slug = "pair"
title = "Ens. Mixed (2)"
kind = "ensemble"
of = "mixed"
k = 2

[[rows]]
slug = "mixed"
title = "Mixed"
recipe = "mixed.toml"

[[rows]]
slug = "flat"
title = "Flat"
recipe = "flat.toml"
"""
RECORDING = """
import os, sys, time
def note(what):
    with open(sys.argv[1], "a") as file:
        print(what, sys.argv[2], os.environ.get("OMP_NUM_THREADS", "none"), file=file)
note("begin")
print("heard of", sys.argv[2], file=sys.stderr, flush=True)
time.sleep(0.5)
note("end")
"""


@contextmanager
def struck_while_predicting():
    """The first prediction inside is stopped at its first tile, and so left half done."""
    from densem.inference.fusion import Fusion

    with mock.patch.object(Fusion, "pieces", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        yield
