"""Prefetch: the batches in order, whatever the number of threads."""

import pytest
import torch

from densem.sampling import ErrorWeights, PatchSampler, TrainingSet
from densem.training.prefetch import Prefetch, draw


@pytest.mark.parametrize("threads", [1, 3])
def test_batches_are_those_of_their_steps(volume, recipe, schema, threads):
    data = TrainingSet.prepare([volume], schema, ErrorWeights(), None)
    sampler = PatchSampler(recipe.patches, data, 1, recipe.augmentation)
    batches = Prefetch(sampler, 4, 13, threads)
    assert len(batches) == len(list(batches)) == 9
    for step, batch in enumerate(batches, start=4):
        assert all(torch.equal(a, b) for a, b in zip(batch, draw(sampler, step), strict=True))


def test_an_error_while_drawing_reaches_the_run(volume, recipe, schema):
    data = TrainingSet.prepare([volume], schema, ErrorWeights(), None)
    sampler = PatchSampler(recipe.patches, data, 1, recipe.augmentation)
    sampler.batch = lambda step: 1 / 0
    with pytest.raises(ZeroDivisionError):
        list(Prefetch(sampler, 0, 3))
