"""What a user says of an image beside its name: the fields of every job that opens one, and the value they become."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.values import Holes, Job, Size, Voxels
from pipeline.volume.sources.reading import Reading


class ReadingFields(Job):
    """How an image is to be read, where its file leaves something open."""

    axes: str | None = Field(
        None, description="names of the image's stored axes (zyx, cyx, yxc ...), where it has none"
    )
    level: int = Field(0, ge=0, description="resolution level of the image; 0 is the finest")
    voxel_size: Size | None = Field(
        None, description="extent of a voxel along each spatial axis, in place of what the image says: 0.5,0.5"
    )
    unit: str | None = Field(None, description="unit of the voxel size: um, nm, mm, m ...; with --voxel-size")
    holes: Holes = Field(
        "error", description="what a stored chunk that is missing from the image means: a fault, or its fill value"
    )
    bands: Voxels | None = Field(
        None, description="channels to read, in this order, counted from 1: 3,2,1; all where left out"
    )
    crs: str | None = Field(
        None,
        description="coordinate reference system of a raster that does not tell it (EPSG:32618), or none to read it"
        " as an image without one",
    )
    snap: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        1e-3, description="most that a file of a mosaic may lie off the grid of the first one, in voxels"
    )
    warp: str | None = Field(
        None,
        description="coordinate reference system that rasters are brought to (EPSG:32618), or first for the grid of"
        " the first file; files that differ are refused where left out",
    )
    resampling: Literal["nearest", "bilinear", "cubic", "average", "mode"] = Field(
        "nearest", description="how voxels are made where rasters are warped, as GDAL names it"
    )


def reading_of(job: ReadingFields) -> Reading:
    """Return what a job says of its image, as the value that travels to whoever opens it."""
    return Reading(**{name: getattr(job, name) for name in ReadingFields.model_fields})
