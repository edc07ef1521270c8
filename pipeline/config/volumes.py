"""Jobs on volumes: bring an image in, say what it is."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.reading import ReadingFields
from pipeline.config.values import Names, Positive, Voxels


class IngestJob(ReadingFields):
    """Bring an image into OME-Zarr."""

    source: str = Field(
        description="image of any format, folder or pattern of slices, Zarr; here or at s3://, https:// ...; or"
        " polygons, with --like"
    )
    output: str = Field(description="volume to make, OUT.zarr; its run is kept beside it, in OUT.zarr.run")
    like: str | None = Field(None, description="image whose grid the source's polygons are drawn on, as class ids")
    attribute: str | None = Field(None, description="attribute of the polygons that tells their class")
    layer: str | None = Field(None, description="layer of the polygons, of a file that has several")
    shard: Voxels | None = Field(None, description="voxels of a stored shard: 2048,2048")
    classes: Names | None = Field(
        None, description="names of the class ids, if it is a class map: background,cell"
    )
    values: dict[int, int] | None = Field(None, description="class id of each value of the source")
    threshold: float | None = Field(
        None, description="make class 1 of all values above this, class 0 of the others"
    )
    threads: Positive | None = Field(
        None, description="threads that decode and encode; as many as there are cores if left out"
    )
    retries: int = Field(
        2,
        ge=0,
        le=20,
        description="further tries where a store did not answer; other failures get one, and 0 means none",
    )
    pyramid: bool = Field(True, description="store coarser levels too")


class InfoJob(ReadingFields):
    """Say what an image is."""

    path: str = Field(description="Zarr array, OME-Zarr image, or image file of any format that is read")
