"""The main job, and a try of a checkpoint on a part of a volume."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.config.cluster import ClusterFields
from pipeline.config.reading import ReadingFields
from pipeline.config.values import (
    Bytes,
    Device,
    Kind,
    Mode,
    Overlap,
    Positive,
    Precision,
    Ranges,
    SeamLimit,
    Turns,
    Voxels,
)
from pipeline.volume.sources.units import parse_pixel_size


class SegmentJob(ClusterFields, ReadingFields):
    """Segment a volume: the main job."""

    input: str = Field(description="image to segment: Zarr, slide, GeoTIFF, HDF5 dataset, folder of slices ...")
    output: str = Field(description="result, OUT.zarr; its run is kept beside it, in OUT.zarr.run")
    model: str = Field(description="checkpoint (.safetensors)")
    pixel_size: str | None = Field(
        None,
        description="size of the pixels that the network sees: 0.5um, 0.5,0.4um, or model for the size that it was"
        " trained on; the level of that size is taken, or one resampled. any takes --level as it is, where model and"
        " image differ",
    )
    region: Ranges | None = Field(
        None, description="part of the input, spatial axes: 0:1000,500:2500; in voxels of what the network sees"
    )
    mask: str = Field(
        "none",
        min_length=1,
        description="what is segmented of it: auto (tissue of a slide, data of a raster or stack), or a mask volume or"
        " polygons (.geojson, .gpkg); outside is background",
    )
    kind: Kind = Field("labels", description="what to store: class ids, probabilities or the network's raw output")
    dtype: Literal["uint8", "float32"] | None = Field(
        None, description="how to store probabilities: uint8 is round(255 p), the default, or float32"
    )
    chunk: Voxels | None = Field(None, description="voxels of a chunk, the unit of work: 2048,2048")
    shard: Voxels | None = Field(None, description="voxels of a stored shard; a chunk is a whole multiple of it")
    tile: Voxels | None = Field(None, description="voxels that a network input yields; a multiple of the stride")
    batch: Positive | None = Field(
        None, description="network inputs at a time on a GPU; a CPU takes them one by one"
    )
    mode: Mode = Field(
        "auto", description="exact tiles, or overlapping ones, blended; auto is exact wherever the network can be"
    )
    blend: Literal["gaussian", "mean"] | None = Field(
        None, description="weights of overlapping tiles; gaussian where none are named"
    )
    overlap: Overlap | None = Field(
        None, description="voxels that blended tiles share: 64,64; a quarter of the tile where left out"
    )
    tta: Turns = Field(
        "none",
        description="average over flips, or over all flips and right-angle turns",
        json_schema_extra={"flag": "all"},
    )
    precision: Precision = Field("auto", description="arithmetic of the network; auto is float32")
    device: Device = Field("auto", description="where the network runs; auto takes the GPUs that there are")
    workers: Positive | None = Field(None, description="worker processes on this machine; one a GPU at most")
    threads: Positive | None = Field(None, description="threads of the network in each worker")
    memory_limit: Bytes | None = Field(None, description="memory of a worker: 4GiB")
    retries: int = Field(
        2,
        ge=0,
        le=20,
        description="further tries where a store did not answer; other failures get one, and 0 means none",
    )
    deadline: float | None = Field(
        None, gt=0, description="seconds that a chunk may take before its worker counts as hung"
    )
    accept_failures: int = Field(
        0, ge=0, description="publish the result, as partial, with up to so many failed chunks as holes"
    )
    seam_limit: SeamLimit = Field(
        0.52,
        description="share of the places nearby, from 0.5 to 1, that a border has to stand out from for the run to be"
        " flagged; 1 flags none",
    )
    pyramid: bool = Field(True, description="store coarser levels of the result for viewers")

    @field_validator("pixel_size")
    @classmethod
    def _known_size(cls, text: str | None) -> str | None:
        if text not in (None, "model", "any"):
            parse_pixel_size(text)
        return text


class CheckJob(ReadingFields):
    """Try a checkpoint on a part of a volume, whole and tiled."""

    model: str = Field(description="checkpoint (.safetensors)")
    input: str = Field(description="image to try it on, of any format that segment reads")
    region: Ranges | None = Field(
        None, description="the part, spatial axes: 0:1000,500:2500; a corner if left out"
    )
    precision: Precision = Field("auto", description="arithmetic of the network; auto is float32")
    device: Device = Field("auto", description="where the network runs")
