"""Make a plan of a job: open what it names, check that everything fits, refuse early and clearly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import POINTWISE, Box, Grid, Reach, TileLayout
from pipeline.model.checkpoint import CheckpointHeader, digest, read_header
from pipeline.predict.cost import Memory
from pipeline.predict.output import OutputSpec
from pipeline.predict.plan import Plan
from pipeline.predict.sizes import sized
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
    header = read_header(job.model)
    reaches = _reaches(volume, header, job.model)
    if recorded:
        job = _adopt(job, recorded)
    region = _region(job, volume)
    output = _output(job, header)
    cluster, device = choose_workers(
        machine,
        device=job.device,
        workers=job.workers,
        threads=job.threads,
        memory_limit=job.memory_limit,
        address=job.scheduler,
    )
    precision = "float32" if job.precision == "auto" else job.precision
    draft = Plan(
        job, volume, header, digest(job.model), region, Grid(region.shape, region.shape),
        TileLayout(reaches, tuple(r.stride for r in reaches)), output,
        ArraySpec(region.shape, output.channels, np.dtype(output.dtype), region.shape, region.shape,
                  volume.space.moved(region.start)),
        1, precision, device, cluster, Memory(0, 0, 0, 0),
    )  # fmt: skip
    return sized(draft)


def _reaches(volume: Volume, header: CheckpointHeader, model: str) -> tuple[Reach, ...]:
    """Return the network's reach along each axis of the volume; checks that they fit each other."""
    wanted = header.architecture.in_channels
    if volume.channels != wanted:
        raise PlanError(
            f"{volume.url} has {volume.channels} channel(s) (axes {volume.axes}, shape {volume.array.shape}),"
            f" but {model} takes {wanted}; choose the model that was trained on such images"
        )
    axes = volume.space.axes
    if not axes.endswith(header.axes):
        raise PlanError(
            f"{volume.url} has the spatial axes {axes}, but {model} is a {len(header.axes)}-D network ({header.axes});"
            " a 3-D network needs a stack"
        )
    return (POINTWISE,) * (len(axes) - len(header.axes)) + header.architecture.reaches()


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
    outputs = header.architecture.classes
    if job.dtype is not None and job.kind != "probabilities":
        raise PlanError(f"--dtype {job.dtype} is for --kind probabilities; {job.kind} have their own")
    if job.kind == "labels" and outputs > 256:
        raise PlanError(f"{outputs} classes do not fit the class ids of a uint8 map; store --kind probabilities")
    raw = "float64" if job.precision == "float64" else "float32"
    dtype = {"labels": "uint8", "logits": raw, "probabilities": job.dtype or "uint8"}[job.kind]
    return OutputSpec(job.kind, dtype, outputs, header.threshold)


def _adopt(job: SegmentJob, recorded: Mapping[str, Any]) -> SegmentJob:
    """Fill in what the job leaves open from the plan of the run that is there."""
    updates: dict[str, Any] = {}
    if job.chunk is None and job.shard is None:
        updates = {"chunk": tuple(recorded["chunk"]), "shard": tuple(recorded["shard"])}
    if job.tile is None:
        updates["tile"] = tuple(recorded["tile"])
    if job.device == "auto":
        updates["device"] = recorded["device"]
    return job.model_copy(update=updates)
