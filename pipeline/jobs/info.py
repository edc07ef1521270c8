"""Say what an image is, whatever it is stored in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import InfoJob, ReadingFields, load_job, reading_of
from pipeline.errors import InputError
from pipeline.volume.file_image import is_zarr
from pipeline.volume.file_info import file_info
from pipeline.volume.info import info as volume_info


def info(path: str | Path, **said: Any) -> dict[str, Any]:
    """Return a description of a Zarr volume or of an image file, made of strings, numbers, lists and None.

    Args:
        path: a Zarr array, an OME-Zarr image, or a file of any format that can be segmented.
        said: what the file leaves open, by the fields of :class:`pipeline.config.ReadingFields`: ``level=1``,
            ``axes="zyx"``, ``crs="EPSG:32618"`` ...

    Raises:
        VolumeError: it cannot be opened.
        InputError: a field that is none; an address of another form; a format whose extra is not installed.
        StoreError: the store does not answer.
    """
    job = load_job(InfoJob, {"path": str(path), **said})
    if is_zarr(job.path):
        _check_zarr(job)
        return volume_info(job.path, level=job.level, axes=job.axes)
    return file_info(job.path, reading_of(job))


def _check_zarr(job: InfoJob) -> None:
    """Refuse what is said of a Zarr that would change nothing of its description."""
    for name, field in ReadingFields.model_fields.items():
        if name not in ("level", "axes") and getattr(job, name) != field.default:
            raise InputError(
                f"--{name.replace('_', '-')}: {job.path} is a Zarr, and described as it is; leave it out"
            )
