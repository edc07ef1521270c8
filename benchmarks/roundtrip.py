"""One file through everything: ingest, info, compare, segment, export, read back. Any difference ends it loudly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from rasterio.crs import CRS

import pipeline
from benchmarks.readback import CHECKS, Expected, Voxels, same, same_voxels
from pipeline.config import ExportJob, IngestJob, SegmentJob
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import CheckpointHeader, Normalisation
from pipeline.model.unet import UNet
from pipeline.model.weights import save_checkpoint

CLASSES = ("background", "one", "two")


@dataclass(frozen=True)
class Truth:
    """What a format's reference library reads of a file.

    Attributes:
        voxels: ``(c, [z,] y, x)``.
        voxel_size: along each spatial axis.
        unit: of the voxel size, by its name in OME-NGFF; None where the file says none.
        crs: coordinate reference system; None of an image without a place.
        transform: ``(a, b, c, d, e, f)``; None without a place.
        nodata: value of voxels without a measurement; None where all have one.
    """

    voxels: Voxels
    voxel_size: tuple[float, ...]
    unit: str | None
    crs: CRS | None = None
    transform: tuple[float, ...] | None = None
    nodata: float | None = None


@dataclass(frozen=True)
class Case:
    """A file, what is said of it, what the reference library reads of it, and what its result is exported as.

    Attributes:
        name: of the file, for people.
        source: its address.
        truth: reads it with the reference library.
        exports: endings.
        said: settings of the jobs that read it.
    """

    name: str
    source: str
    truth: Callable[[], Truth]
    exports: tuple[str, ...]
    said: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Passed:
    """What was compared, and found equal.

    Attributes:
        name: of the file.
        voxels: number of voxels of the ingested image, all channels.
        metadata: names of the metadata.
        exports: endings.
    """

    name: str
    voxels: int
    metadata: tuple[str, ...]
    exports: tuple[str, ...]


def round_trip(case: Case, place: Path, *, segment: Callable[[SegmentJob], Any] = pipeline.segment) -> Passed:
    """Take a file through everything; it is segmented twice, as it is and from its copy in Zarr.

    Args:
        case: the file.
        place: empty folder for all that is made.
        segment: runs the main job.

    Raises:
        Different: a voxel, or something that is said of the voxels, came back otherwise.
    """
    truth = case.truth()
    image, result = place / "image.zarr", place / "result.zarr"
    compare_metadata(f"{case.name}, as it is", pipeline.info(case.source, **case.said), truth)
    pipeline.ingest(IngestJob.model_validate({"source": case.source, "output": str(image), **case.said}))
    stored = np.asarray(zarr.open_array(str(image / "0"), mode="r")[...])
    same_voxels(
        f"{case.name}, ingested", stored if stored.ndim == truth.voxels.ndim else stored[None], truth.voxels
    )
    metadata = compare_metadata(case.name, pipeline.info(image), truth)
    model = _model(place, truth)
    segment(_job(str(image), place / "of-copy.zarr", model))
    segment(_job(case.source, result, model, **case.said))
    expected = _expected(result, truth)
    copied = _expected(place / "of-copy.zarr", truth)
    same_voxels(f"{case.name}, segmented from the file and from its copy", expected.levels[0], copied.levels[0])
    same(f"{case.name}, several classes found", len(np.unique(expected.levels[0])) > 1, True)
    for ending in case.exports:
        target = place / f"out{ending}"
        pipeline.export(
            ExportJob(result=str(result), target=str(target), ngff="0.4" if ending == ".zarr" else None)
        )
        CHECKS[ending](target, expected)
    return Passed(case.name, truth.voxels.size, metadata, case.exports)


def _job(source: str, output: Path, model: Path, **said: Any) -> SegmentJob:
    settings = {"input": source, "output": str(output), "model": str(model), "workers": 1}
    return SegmentJob.model_validate({**settings, **said})


def compare_metadata(name: str, found: Mapping[str, Any], truth: Truth) -> tuple[str, ...]:
    """Compare what a volume says of itself with the truth; return the names of what was compared."""
    same(f"{name}, voxel size", tuple(found["voxel_size"]), truth.voxel_size)
    same(f"{name}, unit", found["unit"], truth.unit)
    if truth.crs is None:
        same(f"{name}, georeference", found["georeference"], None)
        return ("voxel size", "unit")
    geo = found["georeference"]
    same(f"{name}, CRS", CRS.from_user_input(geo["crs"]), truth.crs)
    same(f"{name}, transform", tuple(geo["transform"]), truth.transform)
    same(f"{name}, nodata", geo["nodata"], truth.nodata)
    return ("voxel size", "unit", "CRS", "transform", "nodata")


def _model(place: Path, truth: Truth) -> Path:
    """Save a network of random weights for so many channels and axes, normalised to the voxels."""
    channels, dims = truth.voxels.shape[0], truth.voxels.ndim - 1
    flat = truth.voxels.reshape(channels, -1).astype(np.float64)
    architecture = UNetArchitecture(
        in_channels=channels, classes=len(CLASSES), dims=dims, depth=3, width=4, padding="same"
    )
    header = CheckpointHeader(
        architecture=architecture,
        normalisation=Normalisation(mean=tuple(flat.mean(axis=1)), std=tuple(np.maximum(flat.std(axis=1), 1))),
        classes=CLASSES,
        axes="zyx"[-dims:],
    )
    torch.manual_seed(0)
    save_checkpoint(place / "model.safetensors", UNet(architecture), header)
    return place / "model.safetensors"


def _expected(result: Path, truth: Truth) -> Expected:
    """Return what exports of a result must hold."""
    count = len(pipeline.info(result)["levels"])
    levels = tuple(np.asarray(zarr.open_array(str(result / str(k)), mode="r")[...]) for k in range(count))
    return Expected(levels, truth.voxel_size, truth.unit, truth.crs, truth.transform)
