"""A run of a million chunks: what planning it, writing, replaying, compacting its ledger and asking for it cost."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from pipeline.config import SegmentJob
from pipeline.jobs.planning import plan
from pipeline.run.compact import compact
from pipeline.run.folder import RunFolder
from pipeline.run.index import INDEX
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, Done, Record
from pipeline.run.status import status
from pipeline.store import LocalPlace
from pipeline.volume import ArraySpec, Space, Stored, create_level, publish

SIDE, CHUNK = 1000, 512
"""Chunks along each of two axes, and voxels along each axis of a chunk."""

CHUNKS = SIDE**2
"""Chunks, and records: one attempt at each."""

TOGETHER = 16
"""Records that are appended at once: a unit of neighbouring chunks."""

CHUNK_SECONDS = 0.1
"""Seconds of work of a chunk that the ledger's cost is compared with."""


def run(place: Path) -> str:
    """Write, replay, open, ask and compact a journal of a million records, each in a process of its own."""
    journal = place / "out.zarr.run" / "journal"
    _make_input(place)
    lines = [
        f"{CHUNKS:,} chunks, one record each with one stored object and nine seen ones; memory is the growth of the",
        "peak resident memory over what the imports took.",
        "",
        "| step | seconds | of them computing | memory |",
        "|---|---|---|---|",
    ]
    found = {name: _measure(name, journal) for name in STEPS}
    for name, step in found.items():
        seconds = f"{step['seconds']:.2f} | {step['computing']:.2f}"
        lines.append(f"| {STEPS[name][1]} | {seconds} | {step['memory'] / 1e6:.0f} MB |")
    each = found["write"]["seconds"] / CHUNKS
    size = found["write"]["size"] / CHUNKS
    lines += [
        "",
        f"The ledger's cost with an fsync for every group: {each * 1e3:.3f} ms a chunk, {each / CHUNK_SECONDS:.3%} of",
        f"a chunk of {CHUNK_SECONDS * 1e3:.0f} ms; a record takes {size:.0f} bytes.",
    ]
    return "\n".join(lines)


def _measure(step: str, journal: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger", step, str(journal)], check=True, capture_output=True, text=True
    )
    result: dict[str, float] = json.loads(done.stdout)
    return result


def _write(place: LocalPlace) -> None:
    with closing(Ledger(place, CHUNKS, epoch=1)) as ledger:
        for unit in _units():
            ledger.append(unit)


def _replay(place: LocalPlace) -> None:
    index = place.get(INDEX)
    place.delete(INDEX)
    try:
        _open(place)
    finally:
        place.put(INDEX, index)


def _open(place: LocalPlace) -> None:
    assert Ledger(place, CHUNKS).is_complete()


def _make_input(place: Path) -> None:
    """Make a volume of a million chunks that holds no voxel, and a checkpoint: planning reads neither."""
    if not (place / "in.zarr").exists():
        shape, shard = (SIDE * CHUNK, SIDE * CHUNK), (CHUNK, CHUNK)
        space = Space.unscaled("yx")
        create_level(place / "in.zarr", "0", ArraySpec(shape, None, np.dtype("u1"), shard, shard, space))
        publish(place / "in.zarr", name="in", axes="yx", levels=[("0", space)], classes=None)
    material = importlib.import_module("benchmarks.material")  # brings torch, which measured processes do not have
    material.checkpoint(place / "model.safetensors", depth=4, width=8, padding="same")


def _plan(place: LocalPlace) -> None:
    root = place.root.parents[1]
    paths = {"input": root / "in.zarr", "output": root / "planned.zarr", "model": root / "model.safetensors"}
    job = SegmentJob(**{name: str(path) for name, path in paths.items()}, chunk=(CHUNK, CHUNK), tile=(256, 256))
    assert plan(job).describe()["chunks"] == CHUNKS


def _status(place: LocalPlace) -> None:
    output = place.root.parents[1] / "out.zarr"
    grid = {"shape": [SIDE * CHUNK, SIDE * CHUNK], "chunk": [CHUNK, CHUNK]}
    RunFolder(output).begin({}, {"grid": grid})
    found = status(output)
    assert (found["done"], found["pending"], found["voxels"]) == (CHUNKS, 0, CHUNKS * CHUNK**2)


def _compact(place: LocalPlace) -> None:
    compact(place, CHUNKS, 1)


STEPS: dict[str, tuple[Callable[[LocalPlace], None], str]] = {
    "plan": (_plan, "`overtile plan`"),
    "write": (_write, "write every record, group by group, and the index"),
    "replay": (_replay, "open without an index: replay all"),
    "open": (_open, "open from the index"),
    "status": (_status, "`overtile status`"),
    "compact": (_compact, "compact"),
    "replay-compacted": (_open, "open without an index after the compaction"),
}
"""Each step in order: what it does, and how the table calls it."""


def _units() -> Iterator[list[Record]]:
    for first in range(0, CHUNKS, TOGETHER):
        yield [_record(chunk) for chunk in range(first, min(first + TOGETHER, CHUNKS))]


def _record(chunk: int) -> Record:
    stored = Stored(f"c/0/{chunk // 1000}/{chunk % 1000}", f"{chunk:032x}", 4_000_000)
    seen = tuple(f"{chunk + key:08x}" for key in range(9))
    return Record(
        chunk, DONE, 1, Done((stored,), (0.02, 0.01, 0.05, 0.02), None, seen), None, None, "worker-1", 10**9
    )


def _peak() -> int:
    """Return this process's peak resident memory in bytes; not that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _main(step: str, journal: str) -> None:
    place = LocalPlace(journal)
    before, began, started = _peak(), time.process_time(), time.perf_counter()
    STEPS[step][0](place)
    found = {
        "seconds": time.perf_counter() - started,
        "computing": time.process_time() - began,
        "memory": _peak() - before,
        "size": sum(entry.stat.size for entry in place.entries() if entry.key != INDEX),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
