"""Cards: the graphics cards of this machine, each with networks of its own, and the threads that use them.

1. `--device cuda` means every card of the first one's kind (others give other bytes), `cuda:<n>` that one.
2. Each card has a copy of the networks. A thread is given a card with its first block, in turn, and keeps it;
   it works there in a stream of its own, so that threads of one card need not wait for each other.
3. With a single card nothing of this takes place.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from densem.blocks import Box, Task
from densem.blocks.worker import Rest
from densem.inference.block_task import BlockTask
from densem.inference.fusion import Fusion
from densem.inference.labeller import Labeller
from densem.inference.runtime import Runtime
from densem.model import Ensemble

_log = logging.getLogger(__name__)


def cards_of(runtime: Runtime) -> tuple[str, ...]:
    """The devices that a runtime may spread over, its own first."""
    if runtime.device != "cuda":
        return (runtime.device,)
    first, count = torch.cuda.current_device(), torch.cuda.device_count()
    return (runtime.device, *_alike(tuple(map(torch.cuda.get_device_name, range(count))), first))


@functools.cache
def _alike(names: tuple[str, ...], first: int) -> tuple[str, ...]:
    """Cards of the same name as the first one; says once which are left out."""
    for number, name in enumerate(names):
        if name != names[first]:
            _log.info("cuda:%d (%s) is not used: it is of another kind than cuda:%d (%s)",
                      number, name, first, names[first])  # fmt: skip
    return tuple(f"cuda:{n}" for n, name in enumerate(names) if name == names[first] and n != first)


def labellers_for(
    labeller: Labeller, ensemble: Ensemble, flips: str, devices: Sequence[str]
) -> list[Labeller]:
    """One labeller for each device: the first is the given one, the others have copies of its networks."""
    runtime = labeller.fusion.runtime
    wanted = bool(labeller.fusion.offsets)
    others = (Fusion.of(ensemble, replace(runtime, device=device), flips, wanted) for device in devices[1:])
    return [labeller, *(replace(labeller, fusion=fusion) for fusion in others)]


@dataclass(frozen=True)
class CardTask:
    """Does blocks on several devices, each thread on one of them.

    Attributes:
        tasks: one for each device.
    """

    tasks: Sequence[BlockTask]
    _turn: itertools.count[int] = field(default_factory=itertools.count)
    _own: threading.local = field(default_factory=threading.local)

    def __call__(self, index: int, box: Box) -> Rest | dict[str, Any]:
        """Do one block on this thread's device."""
        if not hasattr(self._own, "task"):
            self._own.task = self.tasks[next(self._turn) % len(self.tasks)]
            self._own.stream = _stream(self._own.task.labeller.fusion.runtime.device)
        task: BlockTask = self._own.task
        with self._own.stream():
            return task(index, box)


def spread(task: BlockTask, labellers: Sequence[Labeller]) -> Task:
    """The task on the devices of these labellers; with one of them, the task as it is."""
    if len(labellers) == 1:
        return task
    return CardTask([replace(task, labeller=labeller) for labeller in labellers])


def _stream(device: str) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    """What a thread enters to work on a card: the card, and a new stream that sees its networks copied."""
    if not device.startswith("cuda"):
        return contextlib.nullcontext
    torch.cuda.synchronize(device)
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return lambda: torch.cuda.stream(stream)
