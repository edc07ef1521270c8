"""An evaluation as a run: its identity, its ledger, and its phases in order: settle, measure, add up, write, seal."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import FailedChunksError, InputError, RunMismatchError
from pipeline.evaluation.plan import EvaluationPlan
from pipeline.evaluation.totals import Bundles, LostObjectError, Totals, add_up
from pipeline.evaluation.work import EvaluateWork
from pipeline.jobs.evaluate_record import OUTSIDE, cluster_of, run_details
from pipeline.jobs.listener import Listener
from pipeline.jobs.sealing import seal_of
from pipeline.run.cluster import connect
from pipeline.run.compact import writable_ledger
from pipeline.run.dispatch import Dispatcher
from pipeline.run.folder import MAPS, RunFolder
from pipeline.run.inline import Inline
from pipeline.run.lease import Lease
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, SKIPPED, STATES, Done, seen_digest
from pipeline.run.repair import reopen
from pipeline.run.status import MASK
from pipeline.run.verify import claims_hold, last_done
from pipeline.volume.look import seen_of
from pipeline.volume.mask.stored import read_facts, store_mask, survey_stored


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening a run found.

    Attributes:
        sealed: whether it is complete already.
        lost: chunks whose objects are gone; they are pending now.
        stale: chunks whose voxels changed since; they are pending now.
    """

    sealed: bool
    lost: int
    stale: int


class Evaluating:
    """One run of an evaluation. The phases are its methods, in order; each may be repeated.

    Attributes:
        plan: what is done.
        folder: the run's own files.
        ledger: what has happened to each chunk.
    """

    def __init__(self, plan: EvaluationPlan, out: Path, listener: Listener) -> None:
        self.plan = plan
        self.out = out
        self.folder = RunFolder(out / MAPS)
        self.ledger: Ledger
        self._listener = listener
        self._lease: Lease
        self._telling = threading.Lock()

    @contextmanager
    def opened(self, *, again: Sequence[int] = (), stale: bool = False) -> Iterator[Opened]:
        """Begin or resume the run: record it, take the lease, read the ledger.

        Args:
            again: chunks that are measured anew, whatever their state.
            stale: measure chunks anew whose voxels changed since they were measured; otherwise such a run is refused.

        Raises:
            RunMismatchError: the folder belongs to another evaluation, another process is writing to it, or a volume
                has changed.
        """
        self.folder.begin(self.plan.identity, run_details(self.plan, self.out))
        with self.folder.lease() as self._lease:
            self.ledger = writable_ledger(self.folder.journal, len(self.plan.grid), self._lease)
            try:
                changed = self._changed()
                if changed and not stale:
                    self._refuse(changed)
                lost = claims_hold(self.folder, None, self.ledger)
                if changed or lost or again or len(self.ledger.lacking()):
                    reopen(self.folder)
                self.ledger.requeue(lost, "its statistics are gone")
                self.ledger.requeue(changed, "voxels changed since")
                self.ledger.requeue(again, "asked for again")
                self.ledger.sync()
                yield Opened(self.folder.is_sealed, len(lost), len(changed))
            finally:
                self.ledger.close()

    def settle(self) -> None:
        """Skip the chunks that hold nothing of what is compared; make the mask where there is none yet.

        Raises:
            InputError: the mask cannot be read, or leaves nothing.
        """
        self.ledger.skip(self.plan.outside, OUTSIDE)
        foreground = self.plan.foreground
        if foreground is not None:
            place, area = self.folder.place.at(MASK), self.plan.mask_area
            if read_facts(place) is None:
                store_mask(place, foreground, area, facts={})
            self.ledger.skip(~survey_stored(place, area).chunks, foreground.reason)
        if not self.total:
            raise InputError(
                f"--within {self.plan.job.within}: holds no voxel of what is compared; nothing to measure"
            )

    def measure(self) -> None:
        """Measure what the ledger lacks, in threads of this process or on workers.

        Raises:
            FailedChunksError: some chunks failed, on workers.
            EnvironmentFaultError: the machine or the store cannot go on; the run can be resumed.
            InputError: a chunk's voxels are missing, damaged or none of the classes.
        """
        self._listener.phase("evaluate", self.total, "chunks")
        self._tell()
        if not len(self.ledger.lacking()):
            return
        if self.plan.job.on_workers:
            self._on_workers()
        else:
            runner = Inline(
                self.work().open(1),
                self.ledger,
                at_once=self.plan.job.threads,
                retries=self.plan.job.retries,
                on_done=self._count,
                label=self.position,
            )
            runner.process()

    @property
    def total(self) -> int:
        """Chunks that are compared."""
        return self.ledger.total - self.ledger.counts()[SKIPPED]

    def add_up(self) -> Totals:
        """Return what all chunks add up to.

        Raises:
            LostObjectError: a chunk's statistics are gone or damaged; it is pending now.
        """
        self._listener.phase("add up", self.total, "chunks")
        try:
            return add_up(self.bundles(), self.plan.measures, self._listener.progress)
        except LostObjectError as error:
            reopen(self.folder)
            self.ledger.requeue([error.chunk], "its statistics are gone or damaged")
            self.ledger.sync()
            raise

    def bundles(self) -> Bundles:
        """Return the statistics of all chunks."""
        return Bundles(self.folder.stored(None), self.plan.grid, self.ledger, self.plan.measures)

    def seconds(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the seconds that each chunk took, by its number; NaN for those that were not compared."""
        found = np.full(self.ledger.total, np.nan, np.float32)
        for record in last_done(self.folder, self.ledger):
            found[record.chunk] = sum(record.done.seconds)
        return found

    def seal(self) -> None:
        """Write the seal: every chunk is accounted for, and this is the digest of them all."""
        self._lease.check()
        self.ledger.sync()
        self.folder.seal(seal_of(self.ledger, self.plan.identity))

    def position(self, chunk: int) -> str:
        """Return what messages call a chunk."""
        return "/".join(map(str, self.plan.grid.position(chunk)))

    def work(self) -> EvaluateWork:
        """Return the description of the work that each worker process gets."""
        mask = None if self.plan.foreground is None else self.folder.place.at(MASK).url
        place = self.folder.stored(None).url
        return EvaluateWork(
            f"evaluate-{self.plan.fingerprint}", self.plan.grid, self.plan.source(mask), self.plan.measures, place
        )

    def _on_workers(self) -> None:
        job = self.plan.job
        with connect(cluster_of(job)) as client:
            dispatcher = Dispatcher(
                client,
                self.work(),
                self.ledger,
                retries=job.retries,
                on_progress=self._tell,
                label=self.position,
            )
            try:
                dispatcher.process(range(self.ledger.total))
            except BaseException:
                dispatcher.stop()
                raise
            finally:
                dispatcher.close()
        self._check_complete()

    def _check_complete(self) -> None:
        failures = self.ledger.failures
        if not failures:
            return
        chunk, record = min(failures.items())
        raise FailedChunksError(
            f"{self.out}: {len(failures)} of {self.total} chunks failed, so there are no metrics. First: chunk"
            f" {self.position(chunk)} after {record.attempt} attempt(s): {record.error}. See `overtile status"
            f" {self.out}`; run again, or `overtile rerun {self.out}`, to try the failed ones again"
        )

    def _changed(self) -> list[int]:
        """Return the chunks that are done and whose voxels changed since."""
        done = np.flatnonzero(self.ledger.states() == STATES.index(DONE)).tolist()
        if not done:
            return []
        pair, source = self.plan.pair, self.plan.source(None)
        stored = [(pair.prediction.identities(), (0,) * pair.box.ndim), (pair.target.identities(), pair.offset)]

        def seen(chunk: int) -> bytes:
            window = source.window(self.plan.grid.core(chunk).intersect(source.box))
            each = (seen_of(identities.digests(window.shift(offset))) for identities, offset in stored)
            return seen_digest([digest for digests in each for digest in digests])

        return [chunk for chunk in done if self.ledger.seen(chunk) != seen(chunk)]

    def _refuse(self, changed: Sequence[int]) -> None:
        raise RunMismatchError(
            f"{self.out}: the prediction or the target has changed since {len(changed)} of"
            f" {self.ledger.counts()[DONE]} chunks were measured, first {self.position(changed[0])}."
            f" `overtile rerun {self.out} --stale` measures those again; or bring the volumes back, or choose another"
            " --out"
        )

    def _count(self, chunk: int, done: Done) -> None:
        self._tell()

    def _tell(self) -> None:
        with self._telling:  # so that no caller tells of an older state after a newer one
            counts = self.ledger.counts()
            self._listener.progress(counts[DONE], counts["failed"])
