"""Measure a prediction against a target: what is compared, what is measured, and who does it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config.cluster import ClusterFields
from pipeline.config.values import Bytes, Names, Numbers, Positive, Ranges, Voxels

Holes = Literal["error", "background", "skip"]


class EvaluateJob(ClusterFields):
    """Measure a prediction against a target."""

    prediction: str = Field(
        description="class ids or probabilities, as `overtile segment` stores them; or object ids"
    )
    target: str = Field(description="class ids (or object ids) of the same voxels")
    out: str | None = Field(
        None,
        description="folder for metrics.json, the statistics of each chunk and the run; nothing is kept without",
    )
    region: Ranges | None = Field(
        None, description="part that is compared, spatial axes, in the prediction's voxels: 0:1000,500:2500"
    )
    level: int = Field(0, ge=0, description="resolution level of the prediction; 0 is the finest")
    target_level: int = Field(0, ge=0, description="resolution level of the target")
    classes: Names | None = Field(
        None, description="names of the class ids: background,cell; the prediction's own otherwise"
    )
    ignore: int | None = Field(None, description="target value that is not counted")
    holes: Holes = Field(
        "error",
        description="what a stored chunk that is missing means: a fault; its fill value (of the target alone); or skip,"
        " to leave its voxels out, count and name them",
    )
    within: str | None = Field(
        None, description="compare only where this mask is not 0: a mask volume, or polygons (.geojson, .gpkg)"
    )
    groups: str | None = Field(
        None,
        description="also measure each of these areas: polygons (.geojson, .gpkg), or a volume of the ids of areas, of"
        " the prediction's shape",
    )
    group_attribute: str | None = Field(
        None, description="attribute of the polygons that tells their area; QuPath's class otherwise"
    )
    probabilities: bool | None = Field(
        None,
        description="whether the prediction's channels are probabilities of the classes; known of results of segment",
    )
    threshold: float = Field(
        0.5, gt=0, lt=1, description="probability from which a prediction of one channel says class 1"
    )
    instances: bool = Field(
        False, description="both are ids of objects: match them, and compare how space is divided"
    )
    iou: Numbers = Field((0.5, 0.75, 0.9), description="IoU above which two objects match")
    boundary: Numbers | None = Field(
        None,
        description="measure outlines, too: distances within which edges count as met, in the unit of the voxel size:"
        " 1,2.5",
    )
    boundary_width: Positive = Field(2, description="width of the outline of boundary IoU, in voxels")
    boundary_bound: float | None = Field(
        None,
        gt=0,
        description="greatest distance of edges that is told from others; 5 times the greatest of --boundary, and 10"
        " voxels at least, if left out",
    )
    isbi: int | None = Field(
        None,
        ge=0,
        description="class id of the interior of cells, the others are membranes: the metrics of ISBI 2012, by slices",
    )
    resamples: int = Field(
        2000, ge=0, le=100_000, description="resamples of chunks for intervals of 95 %; 0 for no intervals"
    )
    chunk: Voxels | None = Field(
        None,
        description="voxels of a chunk, the unit of work: 2048,2048; the prediction's stored shard if left out",
    )
    threads: Positive = Field(2, description="chunks that are compared at once in this process")
    workers: Positive | None = Field(
        None, description="worker processes on this machine, in place of threads of this process"
    )
    memory_limit: Bytes | None = Field(None, description="memory of a worker: 4GiB")
    retries: int = Field(
        2,
        ge=0,
        le=20,
        description="further tries where a store did not answer; other failures get one, and 0 means none",
    )

    @property
    def on_workers(self) -> bool:
        """Whether processes of a cluster compare, and not threads of this one."""
        return self.workers is not None or self.scheduler is not None or self.cluster != "local"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.iou or not all(0 <= each < 1 for each in self.iou):
            raise ValueError(f"iou {self.iou}: give numbers from 0 up to, but without, 1: 0.5,0.75")
        if self.boundary is not None and (not self.boundary or min(self.boundary) < 0):
            raise ValueError(f"boundary {self.boundary}: give distances from 0: 1,2.5")
        if self.boundary_bound is not None and max(self.boundary or (0,)) > self.boundary_bound:
            raise ValueError(f"boundary_bound {self.boundary_bound:g} is less than a distance of boundary")
        if self.instances and self.isbi is not None:
            raise ValueError("instances and isbi exclude each other: isbi makes segments of classes")
        if self.instances and self.probabilities:
            raise ValueError("instances and probabilities exclude each other: objects are ids")
        if self.isbi is not None and (self.ignore is not None or self.within is not None or self.holes == "skip"):
            raise ValueError("isbi knows no ignored voxels: leave ignore, within and holes: skip out")
        if self.group_attribute is not None and self.groups is None:
            raise ValueError("group_attribute is of the polygons of groups; name them")
        return self
