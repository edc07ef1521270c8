"""Bring an image of any format into OME-Zarr: the first step of the data's path as one function call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import IngestJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.volume.copying import ingest as copy_in
from pipeline.volume.info import info
from pipeline.volume.sources import Reading, open_source
from pipeline.volume.sources.hdf5 import split_dataset

MIB = 1 << 20


def ingest(job: IngestJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Copy an image into an OME-Zarr volume, out of core; after an interruption, running it again resumes.

    Args:
        job: the settings.
        listener: who is told what is done, in MiB of voxels.

    Returns:
        ``source``, and what :func:`pipeline.volume.info.info` says of the new volume.

    Raises:
        InputError: refused: the source cannot be read as asked, or the output exists already, is no name of a Zarr
            store, lies in the source, or has no folder to be made in.
    """
    output = _check_output(job)
    with open_source(
        job.source,
        Reading(axes=job.axes, voxel_size=job.voxel_size, unit=job.unit, level=job.level, holes=job.holes),
    ) as source:
        copy_in(
            source,
            output,
            shard=job.shard,
            pyramid=job.pyramid,
            threads=job.threads,
            progress=_Mebibytes(listener or Silent()),
            classes=job.classes,
            values=job.values,
            threshold=job.threshold,
        )
    return {"source": job.source, **info(output)}


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


def _check_output(job: IngestJob) -> Path:
    """Return the output's path, if a volume can be made there."""
    output, source = Path(job.output), split_dataset(job.source)[0].resolve()
    target = output.resolve()
    if output.suffix != ".zarr":
        raise InputError(f"output {output}: the name of a volume ends in .zarr")
    if target == source or target in source.parents or source in target.parents:
        raise InputError(
            f"output {output}: is the source, holds it or lies in it ({source}); choose another place"
        )
    if not target.parent.is_dir():
        raise InputError(f"output {output}: there is no folder {target.parent}; make it first")
    return output
