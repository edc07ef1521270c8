"""Try a checkpoint on a part of the user's own image: whole at once, and cut in several ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config import CheckJob, ReadingFields, SegmentJob, reading_of
from pipeline.errors import InputError
from pipeline.geometry import BlendLayout, Reach
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.segmentation import Segmentation
from pipeline.model.checkpoint import read_header
from pipeline.predict.plan import Plan
from pipeline.predict.planner import make_plan
from pipeline.run.machine import this_machine
from pipeline.volume.file_image import open_image

USUAL_CORNER = {True: {2: 512, 3: 64}, False: {2: 768, 3: 160}}
"""Voxels of the corner along an axis, for exact tiles and for blended ones, by the network's dimensions."""

CUTS = ((2, 3), (3, 2), (5, 4))
"""Into how many chunks, and tiles, an axis is cut: odd ones on purpose, which do not fit each other."""

Voxels = npt.NDArray[Any]


def check_model(job: CheckJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Run a network over a part of a volume, whole and tiled, and compare; nothing is written.

    Args:
        job: the settings.
        listener: who is told what is done.

    Returns:
        ``model``, ``input``, ``region``, ``exact`` (what the checkpoint says), ``holds`` (whether what it says was
        seen: exact tiles equal the whole to the last bit; blended ones each other), and ``cuts``: chunk, tile,
        number of tiles, and how the result differs from that of the whole (``differing`` voxels, the ``largest``
        difference of raw output, voxels whose ``classes`` differ) and from the first cut (``from_first``, voxels).

    Raises:
        InputError: the model and the volume do not fit each other, or the region is too large for the memory.
    """
    told = listener or Silent()
    base = _base(job)
    exact = read_header(job.model).architecture.exact
    cuts = [_cut(base, chunks, tiles) for chunks, tiles in CUTS]
    told.phase("check", 1 + len(cuts), "runs")
    whole = _whole(base)
    told.progress(1)
    rows, first = [], None
    for number, plan in enumerate(cuts, start=2):
        found = _run(plan)
        first = found if first is None else first
        rows.append(_row(plan, found, whole, first))
        told.progress(number)
    holds = all(not row["differing" if exact else "from_first"] for row in rows)
    return {
        "model": job.model,
        "input": job.input,
        "region": str(base.region),
        "exact": exact,
        "reasons": list(base.header.architecture.reasons),
        "holds": holds,
        "cuts": rows,
    }


def _base(job: CheckJob) -> Plan:
    """Return the plan of the whole part as one chunk."""
    image = open_image(job.input, reading_of(job))
    header = read_header(job.model)
    network = header.architecture
    flat = len(image.shape) - network.dims
    usual = (1,) * flat + (USUAL_CORNER[network.exact][network.dims],) * network.dims
    region = job.region or tuple((0, min(n, u)) for n, u in zip(image.shape, usual, strict=False))
    image.close()
    fields = ("input", "model", "precision", "device", *ReadingFields.model_fields)
    shared = {name: getattr(job, name) for name in fields} | {"pixel_size": "any"}
    kind = "labels" if network.output == "classes" else "logits"
    asked = SegmentJob.model_validate(
        shared | {"region": region, "kind": kind, "output": "check.zarr", "workers": 1}
    )
    plan = make_plan(asked, this_machine())
    return replace(plan, job=asked.model_copy(update={"chunk": plan.region.shape, "shard": None}))


def _cut(base: Plan, chunks: int, tiles: int) -> Plan:
    """Return the plan with every axis cut into so many chunks and, if tiles are exact, so many tiles."""
    shape = base.region.shape
    settings: dict[str, Any] = {"chunk": tuple(-(-n // chunks) for n in shape)}
    if not isinstance(base.layout, BlendLayout):
        dims = base.header.architecture.dims
        lengths = [-(-n // tiles) for n in shape]
        settings["tile"] = (1,) * (len(shape) - dims) + _aligned(lengths, base)[-dims:]
    return make_plan(base.job.model_copy(update=settings), this_machine())


def _aligned(lengths: Sequence[int], plan: Plan) -> tuple[int, ...]:
    return tuple(-(-n // r.stride) * r.stride for n, r in zip(lengths, plan.layout.reaches, strict=True))


def _whole(base: Plan) -> Voxels:
    """Return what the network says when it sees the part, and what lies around it, at once."""
    dims = base.header.architecture.dims
    reaches, blended = base.layout.reaches, isinstance(base.layout, BlendLayout)
    lengths = base.region.shape if blended else base.region.align(base.layout.strides).shape
    tile = tuple(_up(n, reach) if blended else n for n, reach in zip(lengths, reaches, strict=True))
    settings: dict[str, Any] = {"tile": (1,) * (len(tile) - dims) + tile[-dims:]}
    if blended:
        settings["overlap"] = (0,) * len(tile)
    plan = make_plan(base.job.model_copy(update=settings), this_machine())
    return _run(_anchored(plan) if blended else plan)


def _up(length: int, reach: Reach) -> int:
    """Return what the smallest legal input yields that yields ``length`` voxels."""
    lacking = max(length, reach.stride) + reach.shrink - reach.minimum
    return reach.minimum + max(0, -(-lacking // reach.stride)) * reach.stride - reach.shrink


def _anchored(plan: Plan) -> Plan:
    """Return a plan of one blended tile a slice, over a region that may begin anywhere."""
    layout = plan.layout
    assert isinstance(layout, BlendLayout)
    if all(a % t == 0 for a, t in zip(plan.region.start, layout.tile, strict=True)):
        return plan
    raise InputError(
        f"region {plan.region}: tiles of a network that is not exact lie where the volume's voxel 0 puts them, so a"
        f" whole part can only begin at multiples of {layout.tile}; give a --region that begins at 0"
    )


def _run(plan: Plan) -> Voxels:
    """Return a plan's result, chunk by chunk, without storing it."""
    processor = Segmentation(plan, Silent()).work().open(plan.cluster.threads or 1)
    channels = plan.output.channels
    result = np.zeros((*(() if channels is None else (channels,)), *plan.region.shape), plan.output.dtype)
    for chunk in range(len(plan.grid)):
        found = processor.predict(chunk)[0]
        result[processor.stored_box(chunk).slices] = found.voxels
    return result


def _row(plan: Plan, found: Voxels, whole: Voxels, first: Voxels) -> dict[str, Any]:
    apart = np.abs(found.astype(np.float64) - whole.astype(np.float64))
    classes = [v if plan.output.channels is None else plan.output.class_of(v) for v in (found, whole)]
    return {
        "chunk": list(plan.grid.chunk),
        "tile": list(plan.layout.tile),
        "tiles": sum(plan.layout.count(core.shift(plan.region.start)) for core in plan.grid.cores()),
        "differing": int((apart > 0).sum()),
        "largest": float(apart.max()),
        "classes": int((classes[0] != classes[1]).sum()),
        "from_first": int((found != first).sum()),
    }
