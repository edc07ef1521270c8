"""The main job, phase by phase: prepare, predict, verify, pyramid, seal, publish."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DamageError, FailedChunksError
from pipeline.jobs.listener import Listener
from pipeline.predict.forward import EngineSpec
from pipeline.predict.plan import Plan
from pipeline.predict.work import SegmentWork, SourceSpec
from pipeline.run.cluster import connect
from pipeline.run.dispatch import Dispatcher, Outcome
from pipeline.run.folder import RunFolder
from pipeline.run.ledger import Ledger
from pipeline.run.verify import METADATA, Verification, claims_hold, verify
from pipeline.volume import digest_bytes, ensure_level, is_published, publish
from pipeline.volume.pyramid import build_pyramid

ARRAY = "0"
"""Name of the array that chunks are written to: the finest level."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What preparing a run found.

    Attributes:
        lacking: chunks that are neither done nor skipped.
        lost: chunks that the ledger calls done, but whose stored bytes are gone; they are lacking now.
        sealed: whether the run is complete already, and published.
    """

    lacking: int
    lost: int
    sealed: bool


class Segmentation:
    """One run of the main job. The phases are its methods, in order; each may be repeated.

    Attributes:
        plan: what is done.
        folder: the run's own files.
        ledger: what has happened to each chunk.
        listener: who is told.
    """

    def __init__(self, plan: Plan, listener: Listener) -> None:
        self.plan = plan
        self.output = Path(plan.job.output)
        self.folder = RunFolder(self.output)
        self.listener = listener
        self.ledger: Ledger
        self._telling = threading.Lock()

    @contextmanager
    def opened(self) -> Iterator[Prepared]:
        """Begin or resume the run: record it, create its array, take the lease, read the ledger.

        Raises:
            RunMismatchError: the output belongs to another run, or another process is writing to it.
            VolumeError: something that is no array of this run is in its place.
        """
        plan = self.plan
        self.folder.begin(plan.identity, self._details())
        with self.folder.lease():
            ensure_level(self.output, ARRAY, plan.array)
            self.ledger = Ledger(self.folder.journal, len(plan.grid))
            try:
                lost = claims_hold(self.output, ARRAY, self.ledger)
                if lost:
                    self.folder.unseal()
                    self.ledger.requeue(lost, "stored bytes are gone")
                lacking = len(self.ledger.lacking())
                if lacking:
                    self.folder.unseal()
                yield Prepared(lacking, len(lost), self.folder.is_sealed and is_published(self.output))
            finally:
                self.ledger.close()

    @contextmanager
    def workers(self, *, callers: int = 1) -> Iterator[Dispatcher]:
        """Give a dispatcher on the plan's cluster; from ``callers`` threads at a time. The listener hears of chunks."""
        self.listener.phase("predict", self.ledger.total, "chunks")
        self._tell_chunks()
        with connect(self.plan.cluster) as client:
            dispatcher = Dispatcher(
                client,
                self.work(),
                self.ledger,
                retries=self.plan.job.retries,
                callers=callers,
                on_progress=self._tell_chunks,
            )
            try:
                yield dispatcher
            except BaseException:
                dispatcher.stop()
                raise
            finally:
                dispatcher.close()

    def predict(self, dispatcher: Dispatcher, chunks: range | None = None) -> Outcome:
        """Process what the ledger lacks, of a range of chunks or of all."""
        return dispatcher.process(range(self.ledger.total) if chunks is None else chunks)

    def predict_again(self, dispatcher: Dispatcher, chunks: Sequence[int]) -> Outcome:
        """Process the listed chunks, whatever the ledger says of them."""
        return dispatcher.process_listed(list(chunks))

    def check_complete(self) -> None:
        """Raise FailedChunksError unless every chunk is done or skipped."""
        if self.ledger.is_complete():
            return
        counts = self.ledger.counts()
        first = next(iter(sorted(self.ledger.failures.items())), None)
        example = ""
        if first is not None:
            position = "/".join(map(str, self.plan.grid.position(first[0])))
            example = f" First: chunk {position} after {first[1].attempt} attempt(s): {first[1].error}."
        raise FailedChunksError(
            f"{self.output}: {counts['failed']} of {self.ledger.total} chunks failed, {counts['pending']} are pending;"
            f" the result is not complete.{example} See `overtile status {self.output}`;"
            f" `overtile rerun {self.output}` tries the failed ones again"
        )

    def verify(self) -> Verification:
        """Compare every stored byte with the ledger; what is damaged becomes pending again.

        Raises:
            DamageError: something is missing, damaged or foreign.
        """
        self.listener.phase("verify", len(self.plan.grid), "chunks")
        found = verify(self.output, on_progress=lambda done, _: self.listener.progress(done))
        if not found.ok:
            self.folder.unseal()
            self._requeue(found)
            named = ", ".join([*found.missing, *found.damaged, *found.foreign][:5])
            raise DamageError(
                f"{self.output / ARRAY}: {len(found.missing)} stored chunks missing, {len(found.damaged)} damaged,"
                f" {len(found.foreign)} foreign ({named}); run again to compute the missing and damaged ones anew,"
                " and remove the foreign ones"
            )
        return found

    def build_pyramid(self) -> None:
        """Make the coarser levels, and publish them with the finest as an OME-Zarr image."""
        plan = self.plan
        levels = [(ARRAY, plan.array.space)]
        if plan.job.pyramid:
            self.listener.phase("pyramid", 1, "levels")
            levels = build_pyramid(
                self.output,
                plan.array,
                method="mode" if plan.output.kind == "labels" else "mean",
                threads=2,
                progress=None,
            )
            self.listener.progress(1)
        self._levels = levels

    def seal(self, found: Verification) -> None:
        """Write the seal: every chunk is accounted for, and this is the digest of them all."""
        self.check_complete()
        self.folder.seal(
            {
                "state": "sealed",
                "root": found.root,
                "metadata": digest_bytes((self.output / ARRAY / METADATA).read_bytes()),
                "fingerprint": self.plan.fingerprint,
                "counts": self.ledger.counts(),
                "sealed": _now(),
            }
        )

    def publish(self) -> None:
        """Write the ``ome`` attribute: from now on viewers see a finished image."""
        publish(
            self.output,
            name=self.output.stem,
            axes=self.plan.array.axes,
            levels=self._levels,
            classes=self.plan.header.classes if self.plan.output.kind == "labels" else None,
        )

    def _tell_chunks(self) -> None:
        with self._telling:  # so that no caller tells of an older state after a newer one
            counts = self.ledger.counts()
            self.listener.progress(counts["done"] + counts["skipped"], counts["failed"])

    def _requeue(self, found: Verification) -> None:
        array, grid = self.plan.array, self.plan.grid
        chunks = set()
        for position in _positions(
            {*found.missing, *found.damaged} - {METADATA}, 0 if array.channels is None else 1
        ):
            start = [p * s for p, s in zip(position, array.shard, strict=True)]
            chunks.add(grid.number([a // c for a, c in zip(start, grid.chunk, strict=True)]))
        self.ledger.requeue(sorted(chunks), "stored bytes are damaged")

    def _details(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "kind": "segmentation",
            "array": ARRAY,
            "grid": {"shape": list(plan.grid.shape), "chunk": list(plan.grid.chunk)},
            "settings": plan.job.model_dump(mode="json") | self._absolute_paths(),
            "plan": plan.describe(),
            "classes": list(plan.header.classes),
            "versions": {name: _version(name) for name in ("overtile", "torch", "zarr", "distributed", "numpy")}
            | {"python": platform.python_version()},
            "created": _now(),
        }

    def _absolute_paths(self) -> dict[str, str]:
        job = self.plan.job
        return {name: str(Path(getattr(job, name)).resolve()) for name in ("input", "model", "output")}

    def work(self) -> SegmentWork:
        """Return the description of the work that each worker process gets."""
        plan = self.plan
        paths = self._absolute_paths()
        source = SourceSpec(
            paths["input"],
            plan.volume.axes,
            plan.volume.level,
            plan.job.holes,
            plan.region.start,
        )
        engine = EngineSpec(
            paths["model"],
            plan.model_digest,
            plan.precision,
            plan.device,
            plan.batch,
            plan.cluster.threads,
            plan.tiling.turns,
            plan.tiling.weighting,
        )
        array = str((self.output / ARRAY).resolve())
        return SegmentWork(plan.fingerprint, source, array, plan.grid, plan.layout, engine, plan.output)


def _positions(keys: set[str], lead: int) -> Iterator[tuple[int, ...]]:
    """Yield the spatial shard positions of keys like ``c/0/3/4``."""
    for key in keys:
        yield tuple(int(part) for part in key.split("/")[1 + lead :])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
