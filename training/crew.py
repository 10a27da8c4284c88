"""The processes that train one adapter together, one a device; alone they are one, and nothing passes between them.

Promises: every row of a step is one process's; what they add up is the same number on all of them, so that they decide
alike and their weights stay the same; only the first writes. They are started and watched by torch's elastic launcher,
which ends all when one dies, and meet over accelerate. Knows processes and tensors. Knows no model.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast, broadcast_object_list, reduce
from torch.distributed import is_torchelastic_launched

from bot.engine.model import best_device

PATIENCE = timedelta(days=1)  # nobody is given up for being slow: the launcher sees who died
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """This process's place among `size`, and its device."""

    place: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        return self.place == 0

    def mine(self, numbers: Sequence[int], lengths: Sequence[int]) -> Sequence[int]:
        """This process's part of rows: about as many tokens as everybody's. `lengths`: of all rows, by number."""
        if self.size == 1:
            return numbers
        return sorted(numbers, key=lambda n: (-lengths[n], n))[self.place :: self.size]

    def add_up(self, values: Sequence[float]) -> list[float]:
        """Each value, summed over all processes."""
        if self.size == 1:
            return list(values)
        summed = reduce(torch.tensor(values, dtype=torch.float64, device=self.device), "sum")
        return [float(value) for value in summed]

    def add_up_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Each gradient becomes the sum of all processes' gradients; a process without any adds nothing."""
        if self.size == 1:
            return
        own = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        whole = reduce(torch.cat([gradient.flatten() for gradient in own]), "sum")
        for p, part in zip(parameters, torch.split(whole, [p.numel() for p in parameters]), strict=True):
            p.grad = part.view_as(p)

    def is_any(self, said: bool) -> bool:
        """Whether somebody says so."""
        return self.add_up([float(said)])[0] > 0

    def from_first(self, make: Callable[[], Made]) -> Made:
        """What the first process made; the others wait for it."""
        if self.size == 1:
            return make()
        made = [make() if self.is_first else None]
        return broadcast_object_list(made)[0]  # type: ignore[no-any-return]

    def take_from_first(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Begin with the first process's weights, whatever chance gave the others."""
        if self.size > 1:
            for p in parameters:
                broadcast(p.data)


def crew() -> Crew:
    """The crew that this process was started in, or itself alone."""
    if not is_torchelastic_launched():
        return Crew(device=best_device())
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
    return Crew(place=state.process_index, size=state.num_processes, device=str(state.device))


def processes(batch_size: int) -> int:
    """How many train together: one a GPU, no more than a step has rows; one where there is none."""
    return max(1, min(torch.cuda.device_count(), batch_size))


def start(size: int, job: Mapping[str, Any]) -> None:
    """Become the launcher of `size` processes that do a job together; returns only in them, and where one does it alone."""
    if size > 1 and not is_torchelastic_launched():
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // size)))
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
        os.execv(sys.executable, [*launcher, "-m", "training.child", job["file"]])
