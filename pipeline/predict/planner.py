"""Make a plan of a job: open what it names, check that everything fits, refuse early and clearly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config import SegmentJob
from pipeline.errors import PlanError, VolumeError
from pipeline.geometry import Box, Grid, Layout, TileLayout
from pipeline.model.checkpoint import CheckpointHeader, digest, read_header
from pipeline.predict.cost import Memory
from pipeline.predict.output import OutputSpec
from pipeline.predict.plan import Plan
from pipeline.predict.sizes import sized
from pipeline.predict.tiling import Tiling, blend_layout, choose_tiling
from pipeline.run.cluster_spec import choose_workers
from pipeline.run.machine import Machine
from pipeline.volume import ArraySpec, Volume, open_volume


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
    volume = open_volume(job.input, level=job.level, axes=job.axes)
    check_holes(volume, job.holes)
    header = read_header(job.model)
    if recorded:
        job = _adopt(job, recorded)
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
    )
    precision = "float32" if job.precision == "auto" else job.precision
    draft = Plan(
        job, volume, header, digest(job.model), region, Grid(region.shape, region.shape),
        _draft_layout(job, volume, tiling), tiling, output,
        ArraySpec(region.shape, output.channels, np.dtype(output.dtype), region.shape, region.shape,
                  volume.space.moved(region.start)),
        1, precision, device, cluster, Memory(0, 0, 0, 0),
    )  # fmt: skip
    return sized(draft)


def check_holes(volume: Volume, holes: str) -> None:
    """Raise VolumeError where missing chunks are errors and missing inner chunks of shards could not be told."""
    if holes == "error":
        try:
            _ = volume.indices.form
        except VolumeError as error:
            raise VolumeError(f"{volume.url}: {error}") from error


def _draft_layout(job: SegmentJob, volume: Volume, tiling: Tiling) -> Layout:
    """Return the blended tiles, which depend on the job alone, or the smallest exact ones."""
    if tiling.weighting is not None:
        _check_axes(job, volume)
        return blend_layout(job, volume.space.axes, tiling.reaches)
    return TileLayout(tiling.reaches, tuple(r.stride for r in tiling.reaches))


def _check_axes(job: SegmentJob, volume: Volume) -> None:
    for name in ("tile", "overlap"):
        asked = getattr(job, name)
        if asked is not None and len(asked) != len(volume.shape):
            raise PlanError(
                f"--{name} {','.join(map(str, asked))} has {len(asked)} axes, the volume {volume.box.ndim}"
            )


def _region(job: SegmentJob, volume: Volume) -> Box:
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
    return OutputSpec(job.kind, dtype, outputs, header.threshold, network.output)


def _adopt(job: SegmentJob, recorded: Mapping[str, Any]) -> SegmentJob:
    """Fill in what the job leaves open from the plan of the run that is there."""
    updates: dict[str, Any] = {}
    if job.chunk is None and job.shard is None:
        updates = {"chunk": tuple(recorded["chunk"]), "shard": tuple(recorded["shard"])}
    if job.tile is None:
        updates["tile"] = tuple(recorded["tile"])
        if job.overlap is None and recorded["overlap"] is not None:
            updates["overlap"] = tuple(recorded["overlap"])
    if job.device == "auto":
        updates["device"] = recorded["device"]
    return job.model_copy(update=updates)
