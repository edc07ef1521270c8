"""Runs that are killed all the time: cheap work for the real dispatcher, its driver as a process, and who kills it.

The work has no network, so that a process is at work within a second; everything else is what every run has: input
volume, shards, ledger, lease, dispatcher, seal. Run as a script, this file is the driver.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import zarr

from pipeline.errors import OvertileError
from pipeline.geometry import Box, Grid
from pipeline.run import dispatch
from pipeline.run.cluster import connect
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE, ClusterSpec
from pipeline.run.folder import SEALED, RunFolder
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, Done
from pipeline.run.verify import claims_hold, verify
from pipeline.store import open_place
from pipeline.volume import ArraySpec, ShardWriter, Space, create_level, ensure_level, open_volume, publish

UNIT = 2
"""Chunks that a unit holds at most, so that few are in flight."""

WORKERS = 2
"""Worker processes of a driver."""

IN_FLIGHT = 2 * UNIT * CHUNKS_AT_ONCE
"""Chunks that go with a worker process: those that it has in hand, and as many that it has finished without the driver
knowing yet, which on a busy machine is slow to ask."""

HALO = 3
"""Voxels that a chunk reads around its core."""

COUNT = "%07d\n"
"""What a worker writes for each chunk that it begins."""


@dataclass(frozen=True)
class Light:
    """A run of light work, and the work itself.

    Attributes:
        source: address of the input volume.
        output: address of the result.
        counted: local folder in which each worker process counts the chunks that it begins.
        shape, chunk: of the grid.
        effort: how often a chunk is computed, one time after another: a millisecond each, or so.
        name: of the work.
    """

    source: str
    output: str
    counted: str
    shape: tuple[int, int]
    chunk: tuple[int, int]
    effort: int = 10
    name: str = "light"

    @property
    def grid(self) -> Grid:
        return Grid(tuple(self.shape), tuple(self.chunk))

    @property
    def spec(self) -> ArraySpec:
        chunk = tuple(self.chunk)
        return ArraySpec(tuple(self.shape), None, np.dtype("u1"), chunk, chunk, Space.unscaled("yx"))

    def make_input(self) -> None:
        """Store a volume of noise."""
        voxels = np.random.default_rng(5).integers(0, 256, self.shape, dtype=np.uint8)
        shard = tuple(math.gcd(n, 16 * c) for n, c in zip(self.shape, self.chunk, strict=True))
        spec = ArraySpec(self.shape, None, np.dtype("u1"), shard, shard, Space.unscaled("yx"))
        ShardWriter(create_level(self.source, "0", spec)).write(Box.of_shape(self.shape), voxels)
        publish(self.source, name="noise", axes="yx", levels=[("0", spec.space)], classes=None)

    def open(self, worker_threads: int) -> LightProcessor:
        return LightProcessor(self)


class LightProcessor:
    """Gives each voxel the sum of its surroundings, modulo 251."""

    def __init__(self, work: Light) -> None:
        self._work = work
        self._volume = open_volume(work.source)
        self._array = zarr.open_array(store=open_place(work.output).at("0").zarr_store(read_only=False), mode="r+")
        folder = Path(work.counted)
        folder.mkdir(exist_ok=True)
        self._count = os.open(folder / str(os.getpid()), os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def process(self, chunk: int, *, lean: bool = False) -> Done:
        started = time.monotonic()
        os.write(self._count, (COUNT % chunk).encode())
        core = self._work.grid.core(chunk)
        window = Box(tuple(a - HALO for a in core.start), tuple(b + HALO for b in core.stop))
        shown = self._volume.read_shown(window)[0].astype(np.int64)
        for _ in range(self._work.effort):
            voxels = surroundings(shown)
        stored = ShardWriter(self._array).write(core, voxels)
        return Done(stored, (0.0, 0.0, time.monotonic() - started, 0.0))


def surroundings(shown: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the sums over squares of ``2 HALO + 1`` voxels, modulo 251."""
    views = np.lib.stride_tricks.sliding_window_view(shown, (2 * HALO + 1, 2 * HALO + 1))
    return (views.sum(axis=(-1, -2)) % 251).astype(np.uint8)


def drive(light: Light) -> str:
    """Carry a run out, or go on with it; return its root digest."""
    folder = RunFolder(light.output)
    grid = {"shape": list(light.shape), "chunk": list(light.chunk)}
    folder.begin({"light": light.name, "source": light.source, **grid}, {"array": "0", "grid": grid})
    with folder.lease() as lease:
        ensure_level(folder.output, "0", light.spec)
        ledger = Ledger(folder.journal, len(light.grid), epoch=lease.epoch, check=lease.check)
        try:
            ledger.requeue(claims_hold(folder, "0", ledger), "stored bytes are gone")
            if len(ledger.lacking()):
                process(light, ledger)
        finally:
            ledger.close()
        found = verify(light.output)
        if not found.ok or not ledger.is_complete():
            raise OvertileError(f"not complete: {ledger.counts()}, {found.to_json()}")
        folder.seal({"state": SEALED, "root": found.root})
    return found.root


def process(light: Light, ledger: Ledger) -> None:
    """Process what is lacking; what was killed so often that it was blamed is tried again."""
    dispatch.UNIT_CHUNKS = UNIT
    with connect(ClusterSpec(workers=WORKERS, threads=1, memory_limit=2 << 30)) as client:
        dispatcher = dispatch.Dispatcher(client, light, ledger, retries=2)
        try:
            for _ in range(10):
                if len(ledger.lacking()):
                    dispatcher.process(range(ledger.total))
        finally:
            dispatcher.close()


@dataclass
class Killed:
    """What became of a run that was killed.

    Attributes:
        root: its root digest.
        workers, drivers: processes that were killed.
        orphans: processes that outlived their driver.
        begun: how often a chunk was begun.
        seconds: how long it all took.
    """

    root: str = ""
    workers: int = 0
    drivers: int = 0
    orphans: list[int] = field(default_factory=list)
    begun: int = 0
    seconds: float = 0.0


class Killer:
    """Starts a run again and again until it is complete, and kills its processes at moments drawn by chance.

    Args:
        light: the run.
        workers: worker processes to kill; fewer where the run ends before.
        drivers: drivers to kill.
        seed: of the moments.
    """

    def __init__(self, light: Light, *, workers: int, drivers: int, seed: int) -> None:
        self._light = light
        self._chance = random.Random(seed)
        self._gap = int(0.6 * len(light.grid) / max(1, workers + drivers))
        self._workers, self._drivers = workers, drivers
        self._seen: dict[int, psutil.Process] = {}
        self.result = Killed()

    def run(self, seconds: float) -> Killed:
        """Return what became of the run; fail if it takes longer than ``seconds``."""
        started = time.monotonic()
        driver, at = start(self._light), self._soon()
        while not ended(driver, 0.02):
            assert time.monotonic() - started < seconds, f"no end after {seconds} s: {self.result}"
            if self._left() and self.begun() >= at and self._kill(driver):
                at = self._soon()
                if driver.poll() is not None:
                    driver = start(self._light)
        out, err = driver.communicate()
        assert driver.returncode == 0, err
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=30)
        self.result.root, self.result.orphans = out.split()[-1], [p.pid for p in alive]
        self.result.begun, self.result.seconds = self.begun(), time.monotonic() - started
        return self.result

    def begun(self) -> int:
        """Return how many chunks have been begun so far, over all processes."""
        folder = Path(self._light.counted)
        files = list(folder.iterdir()) if folder.exists() else []
        return sum(path.stat().st_size for path in files) // len(COUNT % 0)

    def _soon(self) -> int:
        return self.begun() + self._chance.randint(1, max(1, 2 * self._gap))

    def _left(self) -> int:
        return self._workers - self.result.workers + self._drivers - self.result.drivers

    def _is_drivers_turn(self) -> bool:
        """Whether a driver is killed next: spread evenly among the workers."""
        if self.result.drivers == self._drivers:
            return False
        share = (self.result.drivers + 1) / (self._drivers + 1)
        return self.result.workers >= share * self._workers

    def _kill(self, driver: subprocess.Popen[str]) -> bool:
        """Kill a worker that is at work, or once in a while the driver; whether there was one."""
        workers = [p for p in children(driver) if (Path(self._light.counted) / str(p.pid)).exists()]
        self._seen |= {p.pid: p for p in children(driver)}
        if not workers:
            return False
        if self._is_drivers_turn():
            driver.kill()
            driver.communicate()
            self.result.drivers += 1
            return True
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended by itself: another one, then
            self._chance.choice(sorted(workers, key=lambda p: p.pid)).kill()
            self.result.workers += 1
            return True
        return False


def start(light: Light) -> subprocess.Popen[str]:
    """Start a driver."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    return subprocess.Popen([sys.executable, __file__, json.dumps(asdict(light))], env=environment, **pipes)


def ended(driver: subprocess.Popen[str], seconds: float) -> bool:
    """Wait for a driver's end, for a moment."""
    try:
        driver.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def children(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes that a driver has started."""
    try:
        return psutil.Process(driver.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def done_lines(output: str) -> list[int]:
    """Return the chunk of each line of the journal that says that one is done."""
    return [r.chunk for r in replay(RunFolder(output).journal) if r is not None and r.state == DONE]


if __name__ == "__main__":
    import chaos  # the same file as a module: workers import the work from there

    print(chaos.drive(chaos.Light(**json.loads(sys.argv[1]))))
