"""Seams: measured when a run is verified, of the voxels that are decoded there; or of any volume that is there already.

A run keeps what was found in its seal, and beside it, in ``OUT.zarr.run/seams.npz``, a map on the grid of chunks:
``strips`` and ``signs``, each ``(fine and broad, [z,] y, x)``; a chunk's share is ½ + signs / (2 strips).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import SeamsJob, reading_of
from pipeline.errors import InputError
from pipeline.evaluation.seam_survey import SeamSurvey, Subject
from pipeline.geometry import BlendLayout, Box, Grid, Layout, Reach, TileLayout
from pipeline.jobs.listener import Listener, Silent
from pipeline.reporting.recorded import parse_box
from pipeline.run.folder import RunFolder
from pipeline.run.seams import SEAMS
from pipeline.run.status import MASK
from pipeline.volume.file_image import is_zarr, open_image
from pipeline.volume.image import Image
from pipeline.volume.mask.stored import Stored

READERS, AT_ONCE = 2, 64
"""Chunks of a volume that are read at once, and those that wait for it."""

USUAL_STRIDE = 16
"""Stride of a network that nothing is known of: any smaller power of two divides it."""

Bits = npt.NDArray[np.bool_]


def seams(job: SeamsJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Measure the seams of a volume, whoever made it.

    Returns:
        What :func:`described` tells.

    Raises:
        InputError: the volume cannot be opened, or its values are no such prediction; what is to be looked at is not
            said, and there is no run that says it.
        MissingChunkError, InputDamageError: a chunk of it is missing, or does not decode.
    """
    told, image = listener or Silent(), open_image(job.volume, reading_of(job))
    subject = _subject(job, image)
    survey, total = SeamSurvey(subject), len(subject.grid)
    told.phase("seams", total, "chunks")

    def look(chunk: int) -> None:
        core = subject.grid.core(chunk)
        survey.add(chunk, _finite(image.read(core), f"{job.volume}: chunk {core}"))

    with ThreadPoolExecutor(READERS) as pool:
        for first in range(0, total, AT_ONCE):
            stop = min(total, first + AT_ONCE)
            list(pool.map(look, range(first, stop)))
            told.progress(stop)
    return described(survey, job.seam_limit)


def described(survey: SeamSurvey, limit: float) -> dict[str, Any]:
    """Return what was found, JSON-ready.

    Returns:
        ``flagged``, ``limit``, ``significance``, ``flagged_by`` (the contrasts that show a seam), ``contrasts`` (all,
        the clearest first), ``unmeasured`` (borders of which nothing can be told, and why), and ``profile`` (the mean
        gap at borders and beside them).
    """
    return {**survey.finding(limit).to_json(), "profile": survey.profile()}


def keep_seams(folder: RunFolder, survey: SeamSurvey, *, limit: float, root: str) -> dict[str, Any]:
    """Store the map of a run's seams, in one step, and return what the seal keeps, as :func:`described`.

    Args:
        folder: the run.
        survey: what was found.
        limit: share from which a seam counts.
        root: digest of the result that it is of.
    """
    strips, signs = survey.map()
    stream = io.BytesIO()
    np.savez_compressed(stream, strips=strips, signs=signs, root=np.array(root))
    folder.place.put(SEAMS, stream.getvalue())
    return described(survey, limit)


def recorded_subject(folder: RunFolder) -> Subject:
    """Return what is to be measured of a run's result, as it was recorded.

    Raises:
        InputError: there is no run of this kind.
        VolumeError: its mask is not there.
    """
    recorded = folder.read_segmentation()
    plan, shape = recorded["plan"], tuple(recorded["grid"]["shape"])
    stored = plan["output"]["shape"]
    channels = math.prod(stored[: len(stored) - len(shape)])
    return Subject(
        grid=Grid(shape, tuple(recorded["grid"]["chunk"])),
        axes="".join(plan["stride"]),
        kind=plan["output"]["kind"],
        voxel_bytes=channels * np.dtype(plan["output"]["dtype"]).itemsize,
        strides=tuple(plan["stride"].values()),
        layout=_layout(plan),
        origin=parse_box(plan["region"]).start,
        inside=_foreground(folder, recorded),
    )


def _layout(plan: Mapping[str, Any]) -> Layout:
    """Return the tiles of a recorded plan, as far as they say where tiles meet."""
    tile, strides = tuple(plan["tile"]), tuple(plan["stride"].values())
    if plan["overlap"] is not None:
        return BlendLayout((Reach(),) * len(tile), tile, tuple(plan["overlap"]))
    return TileLayout(tuple(Reach(stride=stride) for stride in strides), tile)


def _foreground(folder: RunFolder, recorded: Mapping[str, Any]) -> Callable[[Box], Bits] | None:
    """Return what says which voxels of a result a mask has left; None where there is no mask."""
    if recorded["settings"].get("mask", "none") == "none":
        return None
    plan = recorded["plan"]
    stored, origin = Stored(folder.place.at(MASK), tuple(plan["input"]["shape"])), parse_box(plan["region"]).start
    return lambda box: stored.of_image(box.shift(origin))


def _subject(job: SeamsJob, image: Image) -> Subject:
    """Return what a job asks to be measured: what it says, or what the volume's run recorded."""
    if job.chunk is None:
        return _own_subject(job)
    axes = image.space.axes
    for name in ("chunk", "tile", "stride"):
        asked = getattr(job, name)
        if asked is not None and len(asked) != len(axes):
            raise InputError(
                f"--{name}: {len(asked)} numbers for a volume with the axes {','.join(axes)}; give each"
            )
    kind = job.kind or ("probabilities" if image.dtype.kind == "f" else "labels")
    if kind == "labels" and (image.dtype.kind not in "iub" or image.channels > 1):
        raise InputError(
            f"--kind labels: {job.volume} has {image.channels} channel(s) of {image.dtype}; labels are whole numbers in"
            " one channel. Give --kind probabilities or logits"
        )
    strides = job.stride or (USUAL_STRIDE,) * len(axes)
    layout = TileLayout((Reach(),) * len(axes), job.tile) if job.tile else None
    size = image.channels * image.dtype.itemsize
    return Subject(Grid(image.shape, job.chunk), axes, kind, size, strides, layout, (0,) * len(axes))


def _own_subject(job: SeamsJob) -> Subject:
    """Return what the run of a volume recorded.

    Raises:
        InputError: there is none, or the job says something that only a foreign volume needs.
    """
    for name in ("tile", "stride", "kind"):
        if getattr(job, name) is not None:
            raise InputError(
                f"--{name} goes with --chunk; without it, everything is as the volume's run recorded it"
            )
    if not is_zarr(job.volume) or not (folder := RunFolder(job.volume)).exists:
        raise InputError(
            f"{job.volume}: there is no run beside it that says where chunks and tiles meet; give --chunk (512,512),"
            " and --tile where tiles are smaller"
        )
    return recorded_subject(folder)


def _finite(voxels: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise InputError(f"{where} has NaN or infinity, which no prediction should; seams cannot be measured")
    return voxels
