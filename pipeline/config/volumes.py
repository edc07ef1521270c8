"""Jobs on volumes: bring an image in, measure a prediction."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.values import Holes, Job, Names, Positive, Ranges, Size, Voxels


class IngestJob(Job):
    """Bring an image into OME-Zarr."""

    source: str = Field(description="image, folder or glob of slices, .npy file, or Zarr")
    output: str = Field(description="volume to make, OUT.zarr")
    axes: str | None = Field(None, description="names of the source's axes (zyx, cyx, yxc ...), where it has none")
    level: int = Field(0, ge=0, description="resolution level of the source; 0 is the finest")
    voxel_size: Size | None = Field(None, description="extent of a voxel along each spatial axis: 0.5,0.5")
    unit: str | None = Field(None, description="unit of the voxel size, as OME-NGFF names it: micrometer")
    holes: Holes = Field("error", description="what a stored chunk that is missing from a Zarr source means")
    shard: Voxels | None = Field(None, description="voxels of a stored shard: 2048,2048")
    classes: Names | None = Field(
        None, description="names of the class ids, if it is a class map: background,cell"
    )
    values: dict[int, int] | None = Field(None, description="class id of each value of the source")
    threshold: float | None = Field(
        None, description="make class 1 of all values above this, class 0 of the others"
    )
    threads: Positive = Field(2, description="shards that are copied at once")
    pyramid: bool = Field(True, description="store coarser levels too")


class EvaluateJob(Job):
    """Measure a prediction against a target."""

    prediction: str = Field(description="class ids, as `overtile segment` stores them")
    target: str = Field(description="class ids, of the same shape")
    out: str | None = Field(None, description="folder for metrics.json and the statistics of each chunk")
    region: Ranges | None = Field(None, description="part of both, spatial axes: 0:1000,500:2500")
    classes: Names | None = Field(
        None, description="names of the class ids: background,cell; the prediction's own otherwise"
    )
    ignore: int | None = Field(None, description="target value that is not counted")
    holes: Holes = Field("error", description="what a stored chunk that is missing from the target means")
    threads: Positive = Field(2, description="chunks that are compared at once")
