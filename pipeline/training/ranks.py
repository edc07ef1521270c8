"""The processes that train one network together: one for each GPU, of one machine or of several.

Each takes its share of every batch, and gradients are averaged (Li et al. 2020, *PyTorch Distributed*, section 3.2),
so that all of them have the same weights after each step. The first one measures, says and writes everything.

Who they are is said in the environment, by the names that ``torchrun`` has (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``,
``LOCAL_WORLD_SIZE``, ``MASTER_ADDR``, ``MASTER_PORT``), which schedulers of clusters use too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from pipeline.errors import InputError

PATIENCE = timedelta(days=1)
"""How long processes wait for each other: the first one may measure for hours. Whoever started them ends those whose
fellow has died."""

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: its number, from 0.
        count: how many there are.
        local: its number among those of this machine: the GPU that is its own.
        here: how many of them this machine has.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    here: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that measures, says and writes."""
        return self.rank == 0

    @property
    def machines(self) -> int:
        """How many machines there are."""
        return self.count // self.here

    def first(self, work: Callable[[], Found]) -> Found:
        """Let the first process work, and return in all of them what it got; what it raised is raised in all.

        Args:
            work: gives something that can be pickled.
        """
        if self.count == 1:
            return work()
        said: list[Any] = [None, None]
        if self.is_first:
            try:
                said[0] = work()
            except Exception as error:
                said[1] = error
        distributed.broadcast_object_list(said, src=0, device=torch.device("cpu"))
        if said[1] is not None:
            raise said[1]
        found: Found = said[0]
        return found

    def mean(self, *values: float) -> tuple[float, ...]:
        """Return the means of numbers over all processes: the same in each of them."""
        if self.count == 1:
            return values
        summed = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(summed)
        return tuple((summed / self.count).tolist())


ALONE = Ranks()


def found_ranks() -> Ranks:
    """Return who this process is, as the environment says; alone where it says nothing.

    Raises:
        InputError: what it says does not fit together.
    """
    names = {"rank": "RANK", "count": "WORLD_SIZE", "local": "LOCAL_RANK", "here": "LOCAL_WORLD_SIZE"}
    said = {field: os.environ[name] for field, name in names.items() if name in os.environ}
    if "count" not in said:
        return ALONE
    try:
        ranks = Ranks(**{field: int(value) for field, value in said.items()})
        fits = 0 <= ranks.rank < ranks.count and 0 <= ranks.local < ranks.here and ranks.count % ranks.here == 0
    except ValueError:
        fits = False
    if not fits:
        shown = ", ".join(f"{names[field]}={value}" for field, value in said.items())
        raise InputError(
            f"{shown}: no numbers of processes that train together; start them with torchrun, with as many on each"
            " machine, or unset these variables"
        )
    return ranks


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the others, if there are any, and take the GPU that is this process's own.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    ranks = found_ranks()
    if ranks.count == 1:
        yield ranks
        return
    if device == "cuda":
        torch.cuda.set_device(ranks.local)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield ranks
    finally:
        distributed.destroy_process_group()


def check_devices(device: str, devices: int, ranks: Ranks) -> None:
    """Refuse more GPUs than there are, and a number that contradicts how the processes were started.

    Args:
        device: ``cpu`` or ``cuda``.
        devices: processes of this machine, as the job says.
        ranks: this process.

    Raises:
        InputError: which says what to change.
    """
    if ranks.count > 1 and devices not in (1, ranks.here):
        raise InputError(
            f"devices {devices}: this training was started as {ranks.here} processes on this machine; leave devices"
            " out, the processes say it"
        )
    wanted = max(devices, ranks.here)
    if device == "cuda" and wanted > torch.cuda.device_count():
        raise InputError(f"devices {wanted}: torch finds {torch.cuda.device_count()} GPUs on this machine")
