"""Bring an image of any format into OME-Zarr: the first step of the data's path as one function call."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from pipeline.config import IngestJob
from pipeline.errors import InputError, RunMismatchError
from pipeline.jobs.ingest_record import KIND
from pipeline.jobs.ingest_source import Copied, open_copied
from pipeline.jobs.ingestion import Ingestion
from pipeline.jobs.listener import Listener, Silent
from pipeline.run.folder import RunFolder
from pipeline.run.machine import this_machine
from pipeline.run.status import status
from pipeline.store import LocalPlace, absolute, open_place, same_place
from pipeline.volume.copying import plan_copy
from pipeline.volume.file_image import absolute_image, split_address
from pipeline.volume.info import info
from pipeline.volume.pyramid import Method
from pipeline.volume.shards import Tally

MIB = 1 << 20


def ingest(job: IngestJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Copy an image into an OME-Zarr volume, out of core; running it again resumes, and copies only what is lacking.

    Args:
        job: the settings.
        listener: who is told what is done, in MiB of voxels.

    Returns:
        ``source``, what :func:`pipeline.volume.info.info` says of the new volume, and ``ingest``: what this call did:
        ``seconds``, ``bytes`` of voxels that it copied, ``mb_per_s`` (millions of them a second; None of none),
        ``read_seconds`` and ``write_seconds`` (summed over the slabs in flight), ``resumed`` (slabs that an earlier
        call had copied).

    Raises:
        InputError: refused: the source cannot be read as asked, voxels have no class, or the output is no name of a
            Zarr store, lies in the source, has no folder to be made in, or belongs to something else.
        ChunkError: a file of the source is gone, or changed while it was read.
        EnvironmentFaultError: the machine or the store cannot go on; the run can be resumed.
    """
    return _ingest(job, listener or Silent(), stale=False)


def gone_on(output: str | Path, listener: Listener, *, stale: bool) -> dict[str, Any]:
    """Go on with the ingest of a volume, with the settings that it recorded; return the run's status.

    Args:
        output: the volume, ``OUT.zarr``.
        listener: who is told what is done.
        stale: copy again what changed since it was copied, even if the volume was finished.

    Raises:
        as :func:`ingest`
    """
    recorded = RunFolder(output).read()
    job = IngestJob.model_validate(recorded["settings"] | {"output": str(output)})
    _ingest(job, listener, stale=stale)
    return status(output)


def _ingest(job: IngestJob, listener: Listener, *, stale: bool) -> dict[str, Any]:
    started = time.monotonic()
    _check_output(job)
    copied = open_copied(job)
    try:
        run, resumed = copy_in(job, copied, listener, stale=stale)
    finally:
        copied.close()
    seconds = time.monotonic() - started
    did = {
        "seconds": round(seconds, 3),
        "bytes": run.copied,
        "mb_per_s": round(run.copied / seconds / 1e6, 3) if run.copied else None,
        "read_seconds": round(run.read, 3),
        "write_seconds": round(run.write, 3),
        "resumed": resumed,
    }
    return {"source": job.source, **info(job.output), "ingest": did}


def copy_in(job: IngestJob, copied: Copied, listener: Listener, *, stale: bool = False) -> tuple[Ingestion, int]:
    """Take the run of an open source through its phases; return it, and how many slabs were there before.

    Args:
        job: the settings; its output has been checked.
        copied: what its source has been opened as.
        listener: who is told what is done.
        stale: copy again what changed since it was copied, even if the volume was finished.

    Raises:
        as :func:`ingest`
    """
    method: Method = "mean" if copied.classes is None else "mode"
    plan = plan_copy(copied.source, shard=job.shard, pyramid=job.pyramid, method=method)
    run = Ingestion(job, copied, plan, job.threads or this_machine().cores)
    with run.opened(listener, stale=stale) as found:
        if found.sealed:
            listener.note(f"{job.output} is complete already: nothing to do")
        else:
            _carry_out(run, listener)
    return run, found.done


def _carry_out(run: Ingestion, listener: Listener) -> None:
    """Take a run through its phases."""
    tally = Tally(run.total_bytes, _Mebibytes(listener))
    tally.add(run.bytes_done())
    run.copy(tally)
    run.build_pyramid(tally)
    run.seal()
    run.publish()


class _Mebibytes:
    """Tells a listener of bytes in MiB; the phase begins when the total is known."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._begun = False

    def __call__(self, done: int, total: int) -> None:
        whole = -(-total // MIB)
        if not self._begun:
            self._listener.phase("ingest", whole, "MiB")
            self._begun = True
        self._listener.progress(whole if done >= total else done // MIB)


def _check_output(job: IngestJob) -> None:
    """Check that a volume can be made at the output.

    Raises:
        InputError: it cannot; says what to change.
    """
    output = job.output
    if not output.endswith(".zarr"):
        raise InputError(f"output {output}: the name of a volume ends in .zarr")
    for name in ("source", "like"):
        read = getattr(job, name)
        if read is not None and same_place(output, _solid(split_address(absolute_image(read))[0])):
            raise InputError(
                f"output {output}: is the {name}, holds it or lies in it ({read}); choose another place"
            )
    place = open_place(absolute(output))
    if isinstance(place, LocalPlace) and not place.root.parent.is_dir():
        raise InputError(f"output {output}: there is no folder {place.root.parent}; make it first")
    folder = RunFolder(place.url)
    if not folder.exists:
        if (isinstance(place, LocalPlace) and place.root.is_file()) or any(True for _ in place.entries()):
            raise RunMismatchError(
                f"output {output}: exists already, and no ingest made it; choose another output or remove it"
            )
    elif (kind := folder.read().get("kind")) != KIND:
        raise RunMismatchError(
            f"output {output}: belongs to a run of another kind ({kind}); choose another output, or remove it and"
            f" {folder.place.url}"
        )


def _solid(url: str) -> str:
    """Return the part of a pattern that is a folder: nothing behind it can be told before it is listed."""
    signs = [i for i in (url.find(sign) for sign in "*?[") if i >= 0]
    return url if not signs or Path(url).exists() else url[: min(signs)].rpartition("/")[0]
