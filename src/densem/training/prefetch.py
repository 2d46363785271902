"""Prefetch: batches drawn ahead in threads while the network trains.

Batch n is a pure function of n, so neither the number of threads nor their pace changes anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from densem.sampling import PatchSampler
from densem.training.losses import Batch


class Prefetch:
    """The batches of steps `start` to `stop`, in order, each iteration from the beginning."""

    def __init__(self, sampler: PatchSampler, start: int, stop: int, threads: int = 1) -> None:
        self.sampler = sampler
        self.start = start
        self.stop = stop
        self.threads = threads

    def __len__(self) -> int:
        """Number of steps."""
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[Batch]:
        """Batches, at most twice `threads` of them drawn ahead."""
        pool = ThreadPoolExecutor(self.threads, "prefetch", initializer=_one_torch_thread)
        waiting: deque[Future[Batch]] = deque()
        try:
            for step in range(self.start, self.stop):
                waiting.append(pool.submit(draw, self.sampler, step))
                if len(waiting) > 2 * self.threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def draw(sampler: PatchSampler, step: int) -> Batch:
    """The batch of a step as tensors."""
    return Batch(*(torch.from_numpy(part) for part in sampler.batch(step)))


def _one_torch_thread() -> None:
    """Leave the cores to the network: this setting belongs to the calling thread alone."""
    torch.set_num_threads(1)
