"""Work without a network, for tests of dispatch: writes one number per chunk, and fails as it is told."""

from __future__ import annotations

import errno
import os
import signal
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zarr

from pipeline.errors import NonFiniteError, StoreError
from pipeline.geometry import Box, Grid
from pipeline.run.records import Done
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level


@dataclass(frozen=True)
class FakeWork:
    """Chunk i of a grid is filled with (i * 7 + 1) % 251.

    Attributes:
        plan: what attempt n (from 1, over all processes) at a chunk does, see :data:`ACTS`; "" for nothing.
    """

    root: Path
    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    name: str = "fake"
    plan: dict[int, tuple[str, ...]] = field(default_factory=dict)
    open_error: str | None = None

    @property
    def grid(self) -> Grid:
        return Grid(self.shape, self.chunk)

    def create(self) -> None:
        space = Space.unscaled("yx")
        create_level(self.root, "0", ArraySpec(self.shape, None, np.dtype("u1"), self.chunk, self.chunk, space))

    def open(self, worker_threads: int) -> FakeProcessor:
        if self.open_error:
            raise RuntimeError(self.open_error)
        (self.root.parent / "opened").mkdir(exist_ok=True)
        (self.root.parent / "opened" / str(os.getpid())).touch()
        return FakeProcessor(self)


class FakeProcessor:
    def __init__(self, work: FakeWork) -> None:
        self.work = work
        self.array = zarr.open_array(str(work.root / "0"), mode="r+")
        self.local = threading.local()

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        self.misbehave(chunk, lean)
        if not hasattr(self.local, "writer"):
            self.local.writer = ShardWriter(self.array)
        core: Box = self.work.grid.core(chunk)
        voxels = np.full(core.shape, value_of(chunk), dtype=np.uint8)
        return Done(self.local.writer.write(core, voxels), (0.001, 0.0, 0.002, 0.001))

    def misbehave(self, chunk: int, lean: bool) -> None:
        tries = self.work.root.parent / "tries"
        tries.mkdir(exist_ok=True)
        with (tries / str(chunk)).open("a") as file:
            file.write("l" if lean else "x")
        attempt = (tries / str(chunk)).stat().st_size
        plan = self.work.plan.get(chunk, ())
        act = plan[min(attempt, len(plan)) - 1] if plan else ""
        if act == "hold":
            hold(self.work.root)
        elif act:
            ACTS[act](chunk)


def _raise(error: Exception) -> None:
    raise error


def hold(root: Path) -> None:
    """Hold a chunk until :func:`release`."""
    pause = threading.Event()
    while not (root.parent / "released").exists():
        pause.wait(0.02)


def release(root: Path) -> None:
    """Let go of all chunks that are held."""
    (root.parent / "released").touch()


def broken_unit(plugin: str, unit: object) -> None:
    """A unit that no worker can run."""
    raise ImportError("No module named 'pipeline'")


ACTS: dict[str, Callable[[int], None]] = {
    "raise": lambda chunk: _raise(ValueError(f"planned failure of chunk {chunk}")),
    "kill": lambda chunk: os.kill(os.getpid(), signal.SIGKILL),
    "full": lambda chunk: _raise(OSError(errno.ENOSPC, "No space left on device")),
    "store": lambda chunk: _raise(StoreError(f"503 for chunk {chunk}")),
    "memory": lambda chunk: _raise(MemoryError(f"no memory for chunk {chunk}")),
    "input": lambda chunk: _raise(NonFiniteError(f"NaN in chunk {chunk}")),
    "device": lambda chunk: _raise(RuntimeError(f"CUDA error: an illegal memory access in chunk {chunk}")),
    "warn": lambda chunk: warnings.warn(f"odd tag in chunk {chunk}", stacklevel=2),
    "freeze": lambda chunk: os.kill(os.getpid(), signal.SIGSTOP),
}
"""What an attempt can do, beside "hold": "freeze" stops the whole process as it stands."""


def value_of(chunk: int) -> int:
    return (chunk * 7 + 1) % 251


def tries(root: Path) -> dict[int, int]:
    return {int(p.name): p.stat().st_size for p in (root.parent / "tries").iterdir()}


def ways(root: Path, chunk: int) -> str:
    """How each attempt at a chunk was made: "l" lean, "x" otherwise."""
    return (root.parent / "tries" / str(chunk)).read_text()
