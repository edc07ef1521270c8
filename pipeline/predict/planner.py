"""Make a plan of a job: open what it names, check that everything fits, refuse early and clearly."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.config import SegmentJob
from pipeline.config.cluster import load_cluster
from pipeline.errors import PlanError
from pipeline.geometry import Box, Grid, Layout, TileLayout
from pipeline.model.checkpoint import CheckpointHeader, digest, read_header
from pipeline.predict.cost import Memory, decoded_voxels, read_voxels
from pipeline.predict.masked import plan_mask
from pipeline.predict.output import OutputSpec
from pipeline.predict.plan import Plan
from pipeline.predict.resolution import settle_resolution
from pipeline.predict.sizes import sized
from pipeline.predict.tiling import Tiling, blend_layout, choose_tiling
from pipeline.run.cluster_spec import choose_workers, tls_of
from pipeline.run.machine import Machine
from pipeline.volume import ArraySpec
from pipeline.volume.image import Image

MOST_DECODED = 16
"""Most times that the voxels of a file are decoded: beyond, an ingest, which decodes them once, pays."""


def make_plan(job: SegmentJob, machine: Machine, recorded: Mapping[str, Any] | None = None) -> Plan:
    """Plan a segmentation.

    Args:
        job: the settings.
        machine: what this machine has.
        recorded: the plan of the run that is there already, if one is; what the job leaves open (chunk, shard, tile,
            device) is taken from it, so that a run is resumed as it was begun.

    Raises:
        InputError: the input, the model or the settings cannot be used; says what to change.
    """
    header = read_header(job.model)
    if recorded:
        job = _adopt(job, recorded)
    resolution, volume = settle_resolution(job, header)
    volume.check_holes()
    tiling = choose_tiling(job, volume, header)
    region = _region(job, volume)
    output = _output(job, header)
    cluster, device = choose_workers(
        machine,
        device=job.device,
        workers=job.workers,
        threads=job.threads if tiling.weighting is None else 1,
        memory_limit=job.memory_limit,
        address=job.scheduler,
        site=load_cluster(job.cluster),
        tls=tls_of(job),
    )
    precision = "float32" if job.precision == "auto" else job.precision
    draft = Plan(
        job, volume, resolution, header, digest(job.model), region, Grid(region.shape, region.shape),
        _draft_layout(job, volume, tiling), tiling, output,
        ArraySpec(region.shape, output.channels, np.dtype(output.dtype), region.shape, region.shape,
                  volume.space.moved(region.start)),
        1, precision, device, cluster, Memory(0, 0, 0, 0),
    )  # fmt: skip
    plan = sized(replace(draft, mask=plan_mask(job, volume, resolution, region)))
    _check_pieces(plan)
    return plan


def _check_pieces(plan: Plan) -> None:
    """Refuse a file whose pieces are so large that the chunks would decode them again and again."""
    image, start = plan.volume, plan.region.start
    decoded = decoded_voxels(plan.grid, plan.layout, start, image)
    once = decoded_voxels(Grid(plan.region.shape, plan.region.shape), plan.layout, start, image)
    shown = read_voxels(plan.grid, plan.layout, start, image.shape)
    read = shown * math.prod(plan.resolution.factors or (1.0,))
    times = min(decoded / once, decoded / read)  # of each voxel; of each that is read, halo included
    if times > MOST_DECODED:
        raise PlanError(
            f"{image.url}: it is decoded in pieces of {','.join(map(str, image.pieces))} voxels, so that chunks of"
            f" {','.join(map(str, plan.grid.chunk))} voxels would decode it {times:.0f} times over, and at most"
            f" {MOST_DECODED} times are worth it; `overtile ingest` it into a Zarr first, or give a larger --chunk"
        )


def _draft_layout(job: SegmentJob, volume: Image, tiling: Tiling) -> Layout:
    """Return the blended tiles, which depend on the job alone, or the smallest exact ones."""
    if tiling.weighting is not None:
        _check_axes(job, volume)
        return blend_layout(job, volume.space.axes, tiling.reaches)
    return TileLayout(tiling.reaches, tuple(r.stride for r in tiling.reaches))


def _check_axes(job: SegmentJob, volume: Image) -> None:
    for name in ("tile", "overlap"):
        asked = getattr(job, name)
        if asked is not None and len(asked) != len(volume.shape):
            raise PlanError(
                f"--{name} {','.join(map(str, asked))} has {len(asked)} axes, the volume {volume.box.ndim}"
            )


def _region(job: SegmentJob, volume: Image) -> Box:
    """Return the asked part of the volume, or all of it."""
    if job.region is None:
        return volume.box
    axes = volume.space.axes
    if len(job.region) != len(axes):
        raise PlanError(f"--region has {len(job.region)} ranges, but the volume has the axes {','.join(axes)}")
    pairs = [(a or 0, n if b is None else b) for (a, b), n in zip(job.region, volume.shape, strict=True)]
    for (a, b), n, axis in zip(pairs, volume.shape, axes, strict=True):
        if not 0 <= a < b <= n:
            raise PlanError(f"--region {a}:{b} along {axis} is not inside the volume's 0:{n}")
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def _output(job: SegmentJob, header: CheckpointHeader) -> OutputSpec:
    network = header.architecture
    outputs = len(header.classes) if network.output == "classes" else network.classes
    if network.output == "classes" and job.kind != "labels":
        raise PlanError(f"--kind {job.kind}: {job.model} gives class ids and nothing else; use --kind labels")
    if job.dtype is not None and job.kind != "probabilities":
        raise PlanError(f"--dtype {job.dtype} is for --kind probabilities; {job.kind} have their own")
    if job.kind == "labels" and outputs > 256:
        raise PlanError(f"{outputs} classes do not fit the class ids of a uint8 map; store --kind probabilities")
    raw = "float64" if job.precision == "float64" else "float32"
    dtype = {"labels": "uint8", "logits": raw, "probabilities": job.dtype or "uint8"}[job.kind]
    return OutputSpec(job.kind, dtype, outputs, header.threshold, network.output, header.temperature)


def _adopt(job: SegmentJob, recorded: Mapping[str, Any]) -> SegmentJob:
    """Fill in what the job leaves open from the plan of the run that is there."""
    updates: dict[str, Any] = {}
    if job.chunk is None and job.shard is None:
        updates = {"chunk": tuple(recorded["chunk"]), "shard": tuple(recorded["shard"])}
    if job.tile is None:
        updates["tile"] = tuple(recorded["tile"])
        if job.overlap is None and recorded["overlap"] is not None:
            updates["overlap"] = tuple(recorded["overlap"])
    if job.pixel_size is None and "resolution" not in recorded:  # begun before sizes were compared
        updates["pixel_size"] = "any"
    if job.device == "auto":
        updates["device"] = recorded["device"]
    return job.model_copy(update=updates)
