"""The plan: everything that a segmentation will do, settled and checked before any work, without torch.

A plan can be printed, sized and refused. It decides the grid of chunks, the tiles, the memory and the
fingerprint; carrying it out is a matter of time.
"""

from __future__ import annotations

import importlib.metadata
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import SegmentJob
from pipeline.geometry import BlendLayout, Box, Grid, Layout
from pipeline.model.checkpoint import CheckpointHeader
from pipeline.predict.cost import GIGAFLOPS, GPU_GIGAFLOPS, Memory, decoded_voxels, tile_count
from pipeline.predict.masked import PlannedMask
from pipeline.predict.nodata import NoData
from pipeline.predict.output import OutputSpec
from pipeline.predict.resolution import Resolution
from pipeline.predict.tiling import Tiling
from pipeline.run.cluster_spec import ClusterSpec
from pipeline.run.fingerprint import fingerprint
from pipeline.volume import ArraySpec
from pipeline.volume.file_image import absolute_image
from pipeline.volume.image import Image

ALGORITHM = 1
"""Raised when a new version of Overtile gives other bytes for the same job."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a segmentation will do.

    Attributes:
        job: the settings, with what was left open filled in.
        volume: the input, in the voxels that the network sees.
        resolution: which ones these are, and how they are read.
        header: of the checkpoint.
        model_digest: of the checkpoint's bytes.
        region: the part of the input that is segmented, in its voxels.
        grid: chunks of the output; output voxel 0 is the region's first.
        layout: tiles of the network, in the input's voxels.
        tiling: how they become the whole.
        output: what is stored.
        array: how it is stored.
        batch: network inputs at a time.
        precision: arithmetic of the network.
        device: where it runs.
        cluster: the workers.
        memory: predicted peak of a worker.
        mask: what restricts it to a part of the image; None where nothing does.
    """

    job: SegmentJob
    volume: Image
    resolution: Resolution
    header: CheckpointHeader
    model_digest: str
    region: Box
    grid: Grid
    layout: Layout
    tiling: Tiling
    output: OutputSpec
    array: ArraySpec
    batch: int
    precision: str
    device: str
    cluster: ClusterSpec
    memory: Memory
    mask: PlannedMask | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides the bytes of the result; JSON-ready."""
        reaches = self.layout.reaches
        return {
            "algorithm": ALGORITHM,
            "input": self._input_identity,
            **({"mask": self.mask.identity} if self.mask else {}),
            "model": {"digest": self.model_digest},
            "tiles": {
                "tile": list(self.layout.tile),
                "halo": [list(r.halo) for r in reaches],
                "stride": [r.stride for r in reaches],
                "blend": self.tiling.weighting,
                "overlap": self.overlap,
                "tta": self.job.tta,
            },
            "output": {
                "kind": self.output.kind,
                "dtype": self.output.dtype,
                "chunk": list(self.grid.chunk),
                "shard": list(self.array.shard),
                "inner": list(self.array.inner),
            },
            "numeric": {
                "device": self.device,
                "precision": self.precision,
                "torch": importlib.metadata.version("torch"),
            },
        }

    @property
    def _input_identity(self) -> dict[str, Any]:
        """What decides which voxels the network sees; what is not used is left out, as runs had it before."""
        found: dict[str, Any] = {
            "path": absolute_image(self.volume.url),
            "axes": self.volume.axes,
            "level": self.volume.level,
            "array": fingerprint(self.volume.metadata),
            "region": str(self.region),
            "holes": self.job.holes,
        }
        if self.resolution.factors is not None:
            found["resolution"] = list(self.resolution.factors)
        if self.job.voxel_size is not None:
            found["space"] = [list(self.volume.space.voxel_size), self.volume.space.unit]
        return found

    @property
    def nodata(self) -> NoData | None:
        """What stands in for NaN, where the mask found out that NaN is no data; None where NaN is an error."""
        geo = self.volume.geo
        by_nan = geo is not None and geo.nodata is not None and math.isnan(geo.nodata)
        if self.job.mask != "auto" or not by_nan or self.volume.dtype.kind != "f":
            return None
        return NoData(self.header.normalisation.mean)

    @property
    def fingerprint(self) -> str:
        """Digest of :attr:`identity`."""
        return fingerprint(self.identity)

    def describe(self) -> dict[str, Any]:
        """Return the plan for people and scripts, JSON-ready; sizes in voxels and bytes, time in seconds."""
        axes = self.volume.space.axes
        decoded = decoded_voxels(self.grid, self.layout, self.region.start, self.volume)
        resolution = self.resolution.describe(self.volume)
        tiles = tile_count(self.grid, self.layout, self.region.start)
        shape = self.layout.input_shape[-len(self.header.axes) :]
        operations = tiles * len(self.tiling.turns) * self.header.architecture.operations(shape)
        share = self.mask.computed(len(self.grid)) if self.mask else 1.0
        operations = round(operations * share)
        return {
            "input": {"url": self.volume.url, "shape": list(self.volume.shape), "channels": self.volume.channels,
                      "dtype": self.volume.dtype.name, "axes": axes, "level": self.volume.level},
            "output": {"url": self.job.output, "kind": self.output.kind, "dtype": self.output.dtype,
                       "shape": list(self.array.stored_shape)},
            "resolution": resolution,
            "region": str(self.region),
            "voxels": self.region.size,
            "chunks": len(self.grid),
            "mask": self.mask.describe(len(self.grid)) if self.mask else None,
            "chunk": list(self.grid.chunk),
            "shard": list(self.array.shard),
            "tile": list(self.layout.tile),
            "tile_input": list(self.layout.input_shape),
            "tiles": round(tiles * share),
            "batch": self.batch,
            "halo": {a: list(r.halo) for a, r in zip(axes, self.layout.reaches, strict=True)},
            "stride": {a: r.stride for a, r in zip(axes, self.layout.reaches, strict=True)},
            "exact": self.overlap is None,
            "reasons": list(self.header.architecture.reasons),
            "blend": self.tiling.weighting,
            "overlap": self.overlap,
            "tta": self.job.tta,
            "precision": self.precision,
            "device": self.device,
            "workers": self.cluster.workers,
            "threads": self.cluster.threads,
            "bytes_read": round(decoded * share) * self.input_voxel_bytes,
            "bytes_written": round(self.region.size * share) * self.output_voxel_bytes,
            "read_amplification": round(decoded / (self.region.size * math.prod(resolution["factor"])), 3),
            "operations": operations,
            "memory": {"peak": self.memory.peak, "base": self.memory.base, "weights": self.memory.weights,
                       "network": self.memory.network, "windows": self.memory.windows},
            "memory_limit": self.cluster.memory_limit,
            "seconds": round(self.seconds(operations), 1),
            "fingerprint": self.fingerprint,
        }  # fmt: skip

    @property
    def overlap(self) -> list[int] | None:
        """Voxels that tiles share along each axis; None where they are exact."""
        return list(self.layout.overlap) if isinstance(self.layout, BlendLayout) else None

    @property
    def input_voxel_bytes(self) -> int:
        """Bytes of an input voxel, all channels."""
        return self.volume.channels * self.volume.dtype.itemsize

    @property
    def output_voxel_bytes(self) -> int:
        """Bytes of a stored voxel, all channels."""
        return (self.output.channels or 1) * np.dtype(self.output.dtype).itemsize

    def seconds(self, operations: int) -> float:
        """Return a rough time for so many operations of the network, by nominal rates."""
        if self.device == "cuda":
            rate = GPU_GIGAFLOPS[self.precision] * self.cluster.workers
        else:
            rate = GIGAFLOPS[self.precision] * self.cluster.workers * (self.cluster.threads or 1)
        return operations / (rate * 1e9)
