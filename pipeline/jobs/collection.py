"""Segment a whole archive: each volume a run of its own, and at the next time only what is new or has changed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import ValidationError

from pipeline.config import CollectionJob, IngestJob, ReadingFields, SegmentJob, explain
from pipeline.config.cluster import ClusterFields
from pipeline.errors import DamageError, FailedChunksError, InputError, RunBusyError
from pipeline.jobs.archive import is_settled, name_of
from pipeline.jobs.ingest import ingest
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.naming import Volume, check_apart, name_results
from pipeline.jobs.roster import Entry, Roster, Row, summary
from pipeline.jobs.segment import segment
from pipeline.jobs.side_by_side import side_by_side
from pipeline.run.fingerprint import fingerprint
from pipeline.run.folder import SEAL
from pipeline.run.status import status
from pipeline.store import LocalPlace, absolute, open_file, open_place
from pipeline.volume import is_published

HOW = frozenset({"workers", "threads", "memory_limit", "retries", "deadline", "accept_failures"}) | frozenset(
    ClusterFields.model_fields
)
"""Settings that say how a volume is worked on and not what becomes of it."""


@dataclass(frozen=True, slots=True)
class VolumeTask:
    """What is done to one volume.

    Attributes:
        job: its segmentation.
        ingest: what brings it into OME-Zarr first; None where it is read as it is, or there already.
        stale: whether the volume has changed since its result was begun.
    """

    job: SegmentJob
    ingest: IngestJob | None
    stale: bool


Work = Callable[[VolumeTask], Mapping[str, Any]]
"""Does one volume and returns its run's status; raises as :func:`pipeline.segment` does."""


class Collection:
    """One look at an archive.

    Args:
        job: the settings.
        work: does one volume; called from ``job.concurrency`` threads.

    Raises:
        InputError: refused before any work: the source is not there, results lie in it or have the same names.
    """

    def __init__(self, job: CollectionJob, work: Work) -> None:
        self.job = job
        self._work = work
        check_apart(job)
        self._model = _model_identity(job.model)
        self._volumes = name_results(job)
        self._roster = Roster(job.output)
        self._known = self._roster.read()
        self._seals = _seals([volume.result for volume in self._volumes if volume.result in self._known])

    @property
    def total(self) -> int:
        """Number of volumes."""
        return len(self._volumes)

    def rows(self) -> Iterator[Row]:
        """Go through all volumes and yield a row of each when it is done; one that fails never stops the others."""
        return side_by_side(self._one, self._volumes, self.job.concurrency)

    def _one(self, volume: Volume) -> Row:
        started = time.monotonic()
        try:
            job = self._job_of(volume)
            return self._without_work(volume, job) or self._worked(volume, job)
        except Exception as error:  # whatever it is, it is this volume's, and the others go on
            took = round(time.monotonic() - started, 3)
            return Row(volume.member.url, "failed", seconds=took, result=volume.result, error=_text(error))

    def _without_work(self, volume: Volume, job: SegmentJob) -> Row | None:
        """Return the row of a volume that is not worked on now; None of one that is."""
        blank = Row(volume.member.url, "waiting", result=volume.result)
        if volume.member.error is not None:
            return replace(blank, state="failed", error=volume.member.error)
        if self._is_known(volume, job, self._known.get(volume.result, {})):
            return self._row_before(volume)
        if not is_settled(volume.member, self.job.settle):
            return blank
        self._known[volume.result] = entry = self._roster.read().get(volume.result, {})
        return self._row_before(volume) if self._is_known(volume, job, entry) else None

    def _is_known(self, volume: Volume, job: SegmentJob, entry: Entry) -> bool:
        """Whether the same volume has been done with the same settings, and there is no reason to try it again."""
        if entry.get("identity") != volume.member.identity or entry.get("settings") != self._settings(job):
            return False
        if entry["row"]["state"] == "sealed":
            return volume.result in self._seals or bool(_seals([volume.result]))
        return not (entry["again"] or self.job.retry_failed)

    def _row_before(self, volume: Volume) -> Row:
        row = Row(**self._known[volume.result]["row"])
        return replace(row, state="unchanged" if row.state == "sealed" else row.state, seconds=0.0)

    def _worked(self, volume: Volume, job: SegmentJob) -> Row:
        member, started = volume.member, time.monotonic()
        row = Row(member.url, "failed", result=volume.result)
        entry = self._known.get(volume.result, {})
        stale = bool(entry.get("stale")) or entry.get("begun") not in (None, member.identity)
        found: Mapping[str, Any] = {}
        error: Exception | None = None
        try:
            task = self._task(volume, job, stale=stale)
            self._roster.enter(volume.result, {"begun": member.identity, "identity": None, "stale": stale})
            found = self._work(task)
        except RunBusyError as busy:
            self._roster.enter(volume.result, {"begun": entry.get("begun")})
            return replace(row, state="busy", error=_text(busy))
        except Exception as fault:  # whatever it is, it is this volume's, and the others go on
            error, found = fault, _status(volume.result)
        row = replace(
            row,
            state=_state(found, error),
            chunks=int(found.get("total", 0)),
            skipped=int(found.get("skipped", 0)),
            failed=int(found.get("failed", 0)),
            seconds=round(time.monotonic() - started, 3),
            error="" if error is None else _text(error),
        )
        known = {
            "identity": member.identity,
            "settings": self._settings(job),
            "stale": stale and row.state == "failed",
        }
        self._roster.enter(volume.result, known | {"again": _worth_another_try(error), "row": asdict(row)})
        return row

    def _task(self, volume: Volume, job: SegmentJob, *, stale: bool) -> VolumeTask:
        if not self.job.ingest:
            return VolumeTask(job, None, stale)
        folder = self.job.volumes or f"{self.job.output.rstrip('/')}/volumes"
        made = absolute(f"{folder.rstrip('/')}/{name_of(volume.result, ('.zarr',))}.zarr")
        self._make_room(volume, made)
        reading = {
            name: getattr(job, name) for name in ReadingFields.model_fields if name in IngestJob.model_fields
        }
        bring = IngestJob.model_validate(reading | {"source": volume.member.url, "output": made})
        plain = {name: field.get_default() for name, field in ReadingFields.model_fields.items()}
        return VolumeTask(
            job.model_copy(update=plain | {"input": made}), None if is_published(made) else bring, stale
        )

    def _make_room(self, volume: Volume, made: str) -> None:
        """Remove an ingested volume that was made of what the member was before, and note what it is made of now."""
        made_of = self._known.get(volume.result, {}).get("ingested")
        if made_of == volume.member.identity:
            return
        if made_of is not None:
            for place in (open_place(made), open_place(made).beside(".run")):
                if isinstance(place, LocalPlace):
                    shutil.rmtree(place.root, ignore_errors=True)
                for found in list(place.entries()):
                    place.delete(found.key)
        if isinstance(place := open_place(made), LocalPlace):
            place.root.parent.mkdir(parents=True, exist_ok=True)
        self._roster.enter(volume.result, {"ingested": volume.member.identity})

    def _job_of(self, volume: Volume) -> SegmentJob:
        shared = {name: getattr(self.job, name) for name in SegmentJob.model_fields}
        own = dict(volume.member.settings) | {"input": volume.member.url, "output": volume.result}
        try:
            return SegmentJob.model_validate(shared | own)
        except ValidationError as error:
            raise InputError(f"{volume.member.url}: {explain(error)}") from error

    def _settings(self, job: SegmentJob) -> str:
        """Return a digest of all that decides what becomes of a volume, beside the volume itself."""
        what = job.model_dump(mode="json", exclude=set(HOW))
        model = self._model if job.model == self.job.model else _model_identity(job.model)
        return fingerprint(what | {"model_identity": model, "ingest": self.job.ingest})


def collect(job: CollectionJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Segment every volume of an archive that is new or has changed; one that fails never stops the others.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        What :func:`pipeline.jobs.roster.summary` says; :func:`pipeline.jobs.roster.check_summary` raises where
        volumes failed.

    Raises:
        InputError: refused before any work.
    """
    told = listener or Silent()
    inner = told if job.concurrency == 1 else Silent()

    def work(task: VolumeTask) -> Mapping[str, Any]:
        if task.ingest is not None:
            ingest(task.ingest, listener=inner)
        return segment(task.job, stale=task.stale, listener=inner)

    collection, rows = Collection(job, work), []
    for row in collection.rows():
        rows.append(row)
        if row.state != "unchanged":
            told.note(f"{len(rows)} of {collection.total}: {row.volume}: {row.state} {row.error}".rstrip())
    return summary(job.output, rows)


def _seals(results: list[str]) -> set[str]:
    """Return those results that are finished."""
    if not results:
        return set()
    base = results[0].rpartition("/")[0]
    inside = [result for result in results if result.rpartition("/")[0] == base]
    stats = open_place(base).stats([f"{result[len(base) + 1 :]}.run/{SEAL}" for result in inside])
    return {result for result, stat in zip(inside, stats, strict=True) if stat is not None}


def _model_identity(model: str) -> str:
    try:
        return open_file(model).stat().identity
    except FileNotFoundError as error:
        raise InputError(f"model {model}: there is no such file") from error


def _status(result: str) -> Mapping[str, Any]:
    try:
        return status(result)
    except InputError:
        return {}


def _state(found: Mapping[str, Any], error: Exception | None) -> str:
    state = str(found.get("state", "failed"))
    return state if error is None or state == "partial" else "failed"


def _worth_another_try(error: Exception | None) -> bool:
    """Whether the same work might end otherwise: not where it was refused, or its chunks have failed."""
    return isinstance(error, DamageError) or not isinstance(error, InputError | FailedChunksError)


def _text(error: Exception) -> str:
    return f"{error}" if isinstance(error, InputError | FailedChunksError) else f"{type(error).__name__}: {error}"
