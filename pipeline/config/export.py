"""The job that writes a result for other programs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.values import Holes, Job, Names, Positive


class ExportJob(Job):
    """Write a result for other programs; the target's ending names the format."""

    result: str = Field(description="result, class map or volume, in Zarr")
    target: str = Field(description="file or OME-Zarr to write, on this machine; its ending names the format")
    simplify: float | None = Field(
        None, gt=0, description="polygons: voxels of the result by which boundaries may move; exact if left out"
    )
    min_size: Positive | None = Field(None, description="polygons: leave out specks, regions of fewer voxels")
    classes: Names | None = Field(None, description="names of the class ids: background,cell; else the result's")
    object_type: Literal["annotation", "detection"] = Field(
        "annotation", description=".geojson: what QuPath takes polygons for"
    )
    ngff: Literal["0.4", "0.5"] | None = Field(None, description=".zarr: version of OME-NGFF, 0.5 if left out")
    holes: Holes = Field("error", description="what chunks that failed, or are missing, are")
    threads: Positive = Field(2, description="chunks at work at once")
