"""An ingest as a run: its identity, its ledger, and its phases in order: copy, pyramid, seal, publish."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from pipeline.config import IngestJob
from pipeline.errors import RunMismatchError
from pipeline.geometry import Box
from pipeline.jobs.ingest_record import identity, run_details
from pipeline.jobs.ingest_source import Copied
from pipeline.jobs.ingest_work import IngestProcessor
from pipeline.jobs.listener import Listener
from pipeline.jobs.sealing import seal_of
from pipeline.run.compact import writable_ledger
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import SEALED, RunFolder
from pipeline.run.inline import Inline
from pipeline.run.lease import Lease
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, STATES, Done, seen_digest
from pipeline.run.repair import reopen
from pipeline.run.verify import METADATA, claims_hold, last_done
from pipeline.store import absolute
from pipeline.volume import digest_bytes, ensure_level, is_published
from pipeline.volume.copier import Copier
from pipeline.volume.copying import FINEST, CopyPlan
from pipeline.volume.create import publish
from pipeline.volume.geo import georeference_attributes
from pipeline.volume.image import Identities
from pipeline.volume.look import seen_of
from pipeline.volume.pyramid import build_pyramid, pyramid_bytes
from pipeline.volume.shards import Tally
from pipeline.volume.space import Space
from pipeline.volume.state import KEY

NAMED = 3
"""Changed files that a message names."""


@dataclass(frozen=True, slots=True)
class Found:
    """What opening a run found.

    Attributes:
        done: chunks that need not be copied.
        sealed: whether the run is complete already, and published.
    """

    done: int
    sealed: bool


class Ingestion:
    """One run of an ingest. The phases are its methods, in order; each may be repeated.

    Attributes:
        folder: the run's own files.
        ledger: what has happened to each chunk: a slab of the source.
        read, write: seconds that threads spent on chunks in this process.
        copied: bytes of voxels that were copied by this process.
    """

    def __init__(self, job: IngestJob, copied: Copied, plan: CopyPlan, threads: int) -> None:
        self.job = job
        self.plan = plan
        self.threads = threads
        self.output = absolute(job.output)
        self.folder = RunFolder(self.output)
        self.ledger: Ledger
        self.read = self.write = 0.0
        self.copied = 0
        self._from = copied
        self._lease: Lease
        self._made: set[Box] = set()
        self._levels: list[tuple[str, Space]] = []
        self._identity = identity(job, copied, plan)

    @contextmanager
    def opened(self, listener: Listener, *, stale: bool = False) -> Iterator[Found]:
        """Begin or resume the run: record it, create its arrays, take the lease, read the ledger.

        Chunks whose stored bytes are gone, or whose files changed since they were copied, become pending.

        Args:
            listener: is told of such chunks.
            stale: whether a finished volume is opened again for files that changed.

        Raises:
            RunMismatchError: the output belongs to another run, another process is writing to it, or it is finished
                and its files have changed.
            VolumeError: something that is no array of this run is in its place.
        """
        self.folder.begin(self._identity, run_details(self.job, self._from, self.plan))
        with self.folder.lease() as self._lease:
            self._create()
            self.ledger = writable_ledger(self.folder.journal, len(self.plan.grid), self._lease)
            try:
                self._withdraw(listener, stale=stale)
                sealed = self.folder.is_sealed and is_published(self.folder.output)
                counts = self.ledger.counts()
                yield Found(counts[DONE], sealed)
            finally:
                self.ledger.close()

    def copy(self, tally: Tally) -> None:
        """Copy what the ledger lacks.

        Raises:
            EnvironmentFaultError: the machine or the store cannot go on; the run can be resumed.
            InputError, ChunkError: voxels that cannot be read, or have no class.
        """
        reopen(self.folder)
        with Copier(self._from.source, self.folder.output, self.plan, self.threads) as copier:
            work = IngestProcessor(self._from, self.plan, copier)
            runner = Inline(
                work,
                self.ledger,
                at_once=self.plan.at_once(self.threads),
                retries=self.job.retries,
                on_done=lambda chunk, done: self._count(tally, chunk, done),
                label=self._position,
            )
            runner.process()
            self._made = copier.made

    def build_pyramid(self, tally: Tally) -> None:
        """Make the coarser levels, as far as copying has not made them already."""
        self._levels = [(FINEST, self.plan.spec.space)]
        before = tally.done
        if self.job.pyramid:
            self._levels = build_pyramid(
                self.folder.output,
                self.plan.spec,
                method=self.plan.method,
                threads=self.threads,
                progress=lambda done, _: tally.add(before + done - tally.done),
                made=self._made,
            )

    def seal(self) -> None:
        """Write the seal: every chunk is accounted for, and this is the digest of them all."""
        self._lease.check()
        self.ledger.sync()
        metadata = digest_bytes(self.folder.output.at(FINEST).get(METADATA))
        self.folder.seal(seal_of(self.ledger, self._identity) | {"metadata": metadata})

    def publish(self) -> None:
        """Write the image's attributes: from now on viewers see a finished image."""
        source, classes = self._from.source, self._from.classes
        name = self.output.rpartition("/")[2].removesuffix(".zarr")
        geo = self._from.image.geo
        place = {} if geo is None else georeference_attributes(geo, shape=source.shape)
        mark = {"state": SEALED, "fingerprint": fingerprint(self._identity), "run": f"{name}.zarr.run"}
        publish(
            self.folder.output,
            name=name,
            axes=self.plan.spec.axes,
            levels=self._levels,
            classes=classes,
            channels=source.channel_names if classes is None and source.channels else None,
            more={**place, KEY: mark},
        )

    def bytes_done(self) -> int:
        """Return the bytes of voxels of level 0 that need not be copied."""
        done = np.flatnonzero(self.ledger.states() == STATES.index(DONE))
        return sum(self._bytes(int(chunk)) for chunk in done)

    @property
    def total_bytes(self) -> int:
        """Bytes of voxels of all levels."""
        coarser = pyramid_bytes(self.plan.spec) if self.job.pyramid else 0
        return self.plan.spec.nbytes + coarser

    def _create(self) -> None:
        place, first = self.folder.output, self.plan.first
        ensure_level(place, FINEST, self.plan.spec)
        if first is not None:
            ensure_level(place, first.name, first.spec)

    def _withdraw(self, listener: Listener, *, stale: bool) -> None:
        """Make chunks pending again that are gone or stale."""
        changed, files = self._changed()
        if changed and self.folder.is_sealed and not stale:
            raise RunMismatchError(
                f"{self.output}: is complete, but {files} changed since it was copied, under {len(changed)} of"
                f" {len(self.plan.grid)} chunks. `overtile rerun {self.output} --stale` copies those again; or bring"
                " the files back"
            )
        lost = claims_hold(self.folder, FINEST, self.ledger)
        if changed or lost:
            reopen(self.folder)
        if lost:
            listener.note(f"{len(lost)} finished chunks are gone from the store; they are copied again")
        if changed:
            listener.note(f"{files} changed since; {len(changed)} finished chunks are copied again")
        self.ledger.requeue(lost, "stored bytes are gone")
        self.ledger.requeue(changed, f"{files} changed since")
        self.ledger.sync()

    def _changed(self) -> tuple[list[int], str]:
        """Return the finished chunks that were copied from files that changed since, and those files in words."""
        done = np.flatnonzero(self.ledger.states() == STATES.index(DONE)).tolist()
        if not done:
            return [], ""
        found, unknown = self._from.identities(), seen_digest(())
        changed: list[int] = []
        for chunk in done:
            then = self.ledger.seen(chunk)
            if then not in (unknown, seen_digest(seen_of(found.digests(self.plan.grid.core(chunk))))):
                changed.append(chunk)
        return changed, self._changed_files(changed[0], found) if changed else ""

    def _changed_files(self, chunk: int, found: Identities) -> str:
        """Return the files below a chunk that are not what it was copied from, in words."""
        core = self.plan.grid.core(chunk)
        keys, digests = found.keys(core), found.digests(core)
        then = next(r.done.seen for r in last_done(self.folder, self.ledger) if r.chunk == chunk)
        if len(then) == len(keys):
            keys = [key for key, a, b in zip(keys, then, digests, strict=True) if a != b]
        return ", ".join(keys[:NAMED]) + (" ..." if len(keys) > NAMED else "")

    def _count(self, tally: Tally, chunk: int, done: Done) -> None:
        size = self._bytes(chunk)
        self.read += done.seconds[0]
        self.write += done.seconds[3]
        self.copied += size
        tally.add(size)

    def _bytes(self, chunk: int) -> int:
        spec = self.plan.spec
        return self.plan.grid.core(chunk).size * (spec.channels or 1) * spec.dtype.itemsize

    def _position(self, chunk: int) -> str:
        return "/".join(map(str, self.plan.grid.position(chunk)))
