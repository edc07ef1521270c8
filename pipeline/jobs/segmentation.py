"""The main job, phase by phase: prepare, mask, predict, verify, pyramid, seal, publish."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import DamageError, FailedChunksError, RunMismatchError
from pipeline.evaluation.seam_survey import SeamSurvey
from pipeline.jobs.listener import Listener
from pipeline.jobs.masking import settle_mask
from pipeline.jobs.place import place_attributes
from pipeline.jobs.planning import differing_parts
from pipeline.jobs.recording import ARRAY, run_details, segment_work
from pipeline.jobs.sealing import now
from pipeline.jobs.seams import keep_seams, recorded_subject
from pipeline.jobs.stale import stale_chunks
from pipeline.predict.plan import Plan
from pipeline.predict.work import SegmentWork
from pipeline.run.cluster import connect
from pipeline.run.compact import writable_ledger
from pipeline.run.dispatch import Dispatcher, Outcome
from pipeline.run.fingerprint import differences
from pipeline.run.folder import PARTIAL, SEALED, RunFolder
from pipeline.run.lease import Lease
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, SKIPPED, STATES
from pipeline.run.repair import reopen, take_back
from pipeline.run.verify import METADATA, Verification, claims_hold, verify
from pipeline.volume import digest_bytes, ensure_level, is_published, open_volume
from pipeline.volume.absent import ATTRIBUTE, Absent, absent_shards
from pipeline.volume.ngff import channel_names, image_attributes
from pipeline.volume.pyramid import build_pyramid, plan_pyramid
from pipeline.volume.state import KEY, set_attributes
from pipeline.volume.window import shown_window


@dataclass(frozen=True, slots=True)
class Prepared:
    """What preparing a run found.

    Attributes:
        lacking: chunks that are neither done nor skipped.
        lost: chunks that the ledger calls done, but whose stored bytes are gone; they are lacking now.
        sealed: whether the run is complete already, and published.
        stale: chunks that were made pending because what they were made from changed, each with the reason.
    """

    lacking: int
    lost: int
    sealed: bool
    stale: dict[int, str]


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
        self.output = plan.job.output
        self.folder = RunFolder(self.output)
        self.listener = listener
        self.ledger: Ledger
        self._lease: Lease
        self._telling = threading.Lock()

    @contextmanager
    def opened(self, *, stale: bool = False) -> Iterator[Prepared]:
        """Begin or resume the run: record it, create its array, take the lease, read the ledger.

        Args:
            stale: make chunks pending again that were made from an input, a model or libraries that have changed
                since; otherwise such a run is refused.

        Raises:
            RunMismatchError: the output belongs to another run, another process is writing to it, or its input has
                changed.
            VolumeError: something that is no array of this run is in its place.
        """
        plan, folder = self.plan, self.folder
        if not stale:
            folder.begin(plan.identity, run_details(plan))
        with folder.lease() as self._lease:
            ensure_level(folder.output, ARRAY, plan.array)
            self.ledger = writable_ledger(self.folder.journal, len(self.plan.grid), self._lease)
            try:
                changed = self._withdraw() if stale else self._check_input()
                lost = claims_hold(folder, ARRAY, self.ledger)
                if len(self.ledger.lacking()) or lost:
                    reopen(folder)
                self.ledger.requeue(lost, "stored bytes are gone")
                sealed = folder.is_sealed and is_published(folder.output)
                yield Prepared(len(self.ledger.lacking()), len(lost), sealed, changed)
            finally:
                self.ledger.close()

    def _check_input(self) -> dict[int, str]:
        """Refuse to go on over an input that is not what finished chunks were made from.

        Raises:
            RunMismatchError: some of it changed.
        """
        changed = stale_chunks(self.plan, self.folder, self.ledger)
        if changed:
            chunk, reason = min(changed.items())
            raise RunMismatchError(
                f"{self.output}: {len(changed)} of {self.ledger.counts()['done']} finished chunks were made from input"
                f" that has changed since; chunk {self._position(chunk)}: {reason}. `overtile rerun {self.output}"
                " --stale` computes them again; or bring the input back"
            )
        return {}

    def _withdraw(self) -> dict[int, str]:
        """Make what is stale pending, before another identity is recorded; return the chunks with the reasons."""
        recorded = self.folder.read()
        parts = differing_parts(recorded["identity"], self.plan.identity)
        if parts:
            done = np.flatnonzero(self.ledger.states() == STATES.index(DONE))
            reason = "; ".join(differences(recorded["identity"], self.plan.identity))
            changed = {int(chunk): f"another {' and '.join(sorted(parts))} ({reason})" for chunk in done}
        else:
            changed = stale_chunks(self.plan, self.folder, self.ledger)
        if changed:
            reopen(self.folder)
            for reason, chunks in _by_reason(changed).items():
                self.ledger.requeue(chunks, reason)
            self.ledger.sync()
        if parts:
            self.folder.supersede(self.plan.identity, run_details(self.plan))
        return changed

    def make_mask(self) -> None:
        """Make the mask, or check the one that is there, and skip the chunks that it leaves nothing of.

        Raises:
            RunMismatchError: the mask is another one than the run began with.
            VolumeError: no foreground can be told.
        """
        mask = self.plan.mask
        if mask is None:
            return
        self.listener.phase("mask", 1, "masks")
        skipped = self.ledger.states() == STATES.index(SKIPPED)
        found = settle_mask(self.plan, self.folder, skipped, note=self.listener.note)
        self.ledger.skip(~found.chunks, mask.foreground.reason)
        self.listener.progress(1)

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
                deadline=self.plan.job.deadline,
                callers=callers,
                on_progress=self._tell_chunks,
                label=self._position,
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
        """Raise FailedChunksError unless every chunk is done or skipped, or failed and the job accepts that."""
        counts = self.ledger.counts()
        if counts["pending"] == 0 and counts["failed"] <= self.plan.job.accept_failures:
            return
        raise FailedChunksError(
            f"{self.output}: {counts['failed']} of {self.ledger.total} chunks failed, {counts['pending']} are pending;"
            f" the result is not complete.{self._first_failure()} See `overtile status {self.output}`;"
            f" `overtile rerun {self.output}` tries the failed ones again"
        )

    def _first_failure(self) -> str:
        if not self.ledger.failures:
            return ""
        chunk, record = min(self.ledger.failures.items())
        return f" First: chunk {self._position(chunk)} after {record.attempt} attempt(s): {record.error}."

    def verify(self) -> Verification:
        """Compare every stored byte with the ledger; what is damaged becomes pending again. Measure the seams.

        Raises:
            DamageError: something is missing, damaged or foreign.
        """
        self.listener.phase("verify", len(self.plan.grid), "chunks")
        self.ledger.sync()
        self._survey = SeamSurvey(recorded_subject(self.folder))
        found = verify(self.output, on_progress=lambda n, _: self.listener.progress(n), on_voxels=self._survey.add)
        if not found.ok:
            take_back(self.folder, ARRAY, self.ledger, found)
            named = ", ".join([*found.missing, *found.damaged, *found.foreign][:5])
            raise DamageError(
                f"{self.output}/{ARRAY}: {len(found.missing)} stored chunks missing, {len(found.damaged)} damaged,"
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
                self.folder.output,
                plan.array,
                method="mode" if plan.output.kind == "labels" else "mean",
                threads=2,
                progress=None,
                holes="background" if self.ledger.failures else "error",
                absent=self._absent(),
            )
            self.listener.progress(1)
        self._levels = levels

    def seal(self, found: Verification) -> None:
        """Write the seal: every chunk is accounted for, and this is the digest of them all.

        A result with failed chunks is never ``sealed``: where the job accepts them it is ``partial``.
        """
        self.check_complete()
        self._lease.check()
        self.ledger.sync()
        self.folder.seal(
            {
                "state": PARTIAL if self.ledger.failures else SEALED,
                "root": found.root,
                "metadata": digest_bytes(self.folder.output.at(ARRAY).get(METADATA)),
                "fingerprint": self.plan.fingerprint,
                "counts": self.ledger.counts(),
                "seams": keep_seams(self.folder, self._survey, limit=self.plan.job.seam_limit, root=found.root),
                "sealed": now(),
            }
        )

    def publish(self) -> None:
        """Write the ``ome`` attribute: from now on viewers see a finished image, and the holes of a partial one."""
        plan = self.plan
        holes = [self._position(chunk) for chunk in sorted(self.ledger.failures)]
        state = {"state": PARTIAL, "holes": holes} if holes else {"state": SEALED}
        name = self.output.rstrip("/").rpartition("/")[2].removesuffix(".zarr")
        classes = plan.header.classes if plan.output.kind == "labels" else None
        channels = channel_names(plan.header.classes, plan.array.channels)
        window = shown_window(open_volume(self.folder.output.at(self._levels[-1][0])).array)
        image = image_attributes(
            name, plan.array.axes, self._levels, classes=classes, channels=channels, window=window
        )
        mark: dict[str, Any] = state | {"fingerprint": plan.fingerprint, "run": f"{name}.zarr.run"}
        if absent := self._absent():
            mark[ATTRIBUTE] = absent.to_attribute()
        set_attributes(self.folder.output, {**place_attributes(plan), "ome": image, KEY: mark})

    def _absent(self) -> Absent | None:
        """Return the shards that skipped chunks leave out; None where none is skipped."""
        skipped = self.ledger.states() == STATES.index(SKIPPED)
        if not skipped.any():
            return None
        spec = self.plan.array
        coarser = [level.spec for level in plan_pyramid(spec)] if self.plan.job.pyramid else []
        return absent_shards(skipped, self.plan.grid, [spec, *coarser])

    def conclude(self) -> None:
        """Raise FailedChunksError where the result was published with holes in it."""
        failed = len(self.ledger.failures)
        if failed:
            raise FailedChunksError(
                f"{self.output}: partial: {failed} of {self.ledger.total} chunks failed, which the job accepts"
                f" (--accept-failures {self.plan.job.accept_failures}). They are holes, listed in the result's"
                f" attributes.{self._first_failure()} `overtile rerun {self.output}` tries them again"
            )

    def _position(self, chunk: int) -> str:
        return "/".join(map(str, self.plan.grid.position(chunk)))

    def _tell_chunks(self) -> None:
        with self._telling:  # so that no caller tells of an older state after a newer one
            counts = self.ledger.counts()
            self.listener.progress(counts["done"] + counts["skipped"], counts["failed"])

    def work(self) -> SegmentWork:
        """Return the description of the work that each worker process gets."""
        return segment_work(self.plan)


def _by_reason(changed: Mapping[int, str]) -> dict[str, list[int]]:
    """Return the chunks of each reason."""
    found: dict[str, list[int]] = {}
    for chunk, reason in changed.items():
        found.setdefault(reason, []).append(chunk)
    return found
