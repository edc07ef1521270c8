"""What an ingest copies: an image of any format, a class map made of one, or polygons drawn on an image's grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config import IngestJob, reading_of
from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.volume.file_image import FileImage, absolute_image, open_image
from pipeline.volume.image import Identities, Image
from pipeline.volume.sources import open_source
from pipeline.volume.sources.channels import ChannelSource
from pipeline.volume.sources.reading import DEFAULT
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.values import map_values
from pipeline.volume.sources.vectors import Like, VectorSource, open_vectors
from pipeline.volume.sources.zarrs import VolumeSource

POLYGONS = (".geojson", ".gpkg", ".fgb", ".shp")
"""Endings of files of polygons, which are no image until there is a grid to draw them on."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What is copied, and what is known of the files that it comes from.

    Attributes:
        source: gives the voxels.
        image: the same files as they lie there, to know them again by.
        classes: names of the class ids; None of an image.
    """

    source: Source
    image: Image
    classes: tuple[str, ...] | None

    def seen(self, box: Box) -> tuple[str, ...]:
        """Return short digests of the identities of all files that a read of a box depends on.

        Raises:
            ChunkError: one of them is gone, or changed since it was opened.
        """
        return self.image.look(box).seen

    def identities(self) -> Identities:
        """Return what all files are now."""
        return self.image.identities()

    def close(self) -> None:
        """Let go of open files."""
        self.source.close()


def open_copied(job: IngestJob) -> Copied:
    """Open what a job copies.

    Raises:
        InputError: it cannot be read as asked; settings that do not fit each other.
    """
    if job.like is not None:
        return _open_polygons(job, job.like)
    _check_no_polygons(job)
    raw = open_source(job.source, reading_of(job))
    whole = raw.whole if isinstance(raw, ChannelSource) else raw
    image = whole.volume if isinstance(whole, VolumeSource) else FileImage(job.source, raw, reading_of(job))
    try:
        return as_copied(job, raw, image)
    except InputError:
        raw.close()
        raise


def as_copied(job: IngestJob, source: Source, image: Image) -> Copied:
    """Return what is copied of an open image: its voxels, or the class ids that the job makes of them.

    Raises:
        VolumeError: no class ids can be made of it.
    """
    if job.classes is None and job.values is None and job.threshold is None:
        return Copied(source, image, None)
    mapped = map_values(source, classes=job.classes, values=job.values, threshold=job.threshold)
    return Copied(mapped, image, tuple(job.classes or (f"class {i}" for i in range(mapped.count))))


def describe_source(job: IngestJob) -> dict[str, Any]:
    """Return what decides which voxels are copied, JSON-ready: the address, and all that is said of it."""
    reading = reading_of(job)
    said = {name: getattr(reading, name) for name in type(reading).__slots__}
    chosen = {name: value for name, value in said.items() if value != getattr(DEFAULT, name)}
    described: dict[str, Any] = {
        "url": absolute_image(job.source),
        "reading": {name: list(v) if isinstance(v, tuple) else v for name, v in chosen.items()},
    }
    if job.like is not None:
        described["polygons"] = {
            "like": absolute_image(job.like),
            "attribute": job.attribute,
            "layer": job.layer,
        }
    if job.values is not None:
        described["values"] = {str(value): class_id for value, class_id in sorted(job.values.items())}
    if job.threshold is not None:
        described["threshold"] = job.threshold
    return described


def _open_polygons(job: IngestJob, like: str) -> Copied:
    if job.values is not None or job.threshold is not None:
        raise InputError("--like draws polygons, which have no values: leave values and --threshold out")
    grid = open_image(like, reading_of(job))
    try:
        if len(grid.shape) != 2:
            raise InputError(f"--like {like}: it has {len(grid.shape)} spatial axes; polygons are drawn on two")
        factors = grid.scale or (1.0, 1.0)
        shape = Like((grid.shape[0], grid.shape[1]), grid.space, grid.geo, (factors[0], factors[1]))
    finally:
        grid.close()
    table = None if job.classes is None else {name: i for i, name in enumerate(job.classes)}
    source = open_vectors(job.source, shape, attribute=job.attribute, classes=table, layer=job.layer)
    if job.classes is not None and not source.ids.all():
        raise InputError(
            f"--classes {','.join(job.classes)}: polygons of class {job.classes[0]!r} would be the background, id 0;"
            f" name that first: --classes background,{','.join(job.classes)}"
        )
    return Copied(source, FileImage(job.source, source), _names(source, job.classes))


def _names(source: VectorSource, given: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of polygons' class ids; class 0 is where no polygon is."""
    known: Mapping[int, str] = {i: name for name, i in source.classes.items()} or {1: "polygon"}
    names = given or tuple(known.get(i, "background") for i in range(max(known) + 1))
    if max(source.ids) >= len(names):
        raise InputError(
            f"--classes {','.join(names)}: polygons without a class are of id 1; name the background and them"
        )
    return names


def _check_no_polygons(job: IngestJob) -> None:
    if job.attribute is not None or job.layer is not None:
        raise InputError(
            "--attribute and --layer are for polygons, which need --like IMAGE: whose grid they are of"
        )
    if job.source.lower().endswith(POLYGONS):
        raise InputError(
            f"{job.source}: polygons become voxels on the grid of an image; say which: --like image.zarr"
        )
