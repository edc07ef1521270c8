"""Settle chunk, shard and tile: what the job says, and otherwise the least work that fits the memory limit."""

from __future__ import annotations

import math
from dataclasses import replace

from pipeline.errors import PlanError
from pipeline.geometry import BlendLayout, Grid, Layout, TileLayout
from pipeline.predict.choose import WORTH, candidate_tiles, default_batch, work_of
from pipeline.predict.cost import (
    BASE_MEMORY,
    ITEMSIZE,
    Memory,
    averaging_memory,
    largest_shape,
    network_memory,
    window_memory,
)
from pipeline.predict.plan import Plan
from pipeline.run.cluster_spec import CHUNKS_AT_ONCE
from pipeline.volume import default_shard, inner_chunk

STACK_SHARD = (16, 1024, 1024)
"""Default shard for a 2-D network on a stack: wide in the plane, where the halo is."""

CHUNK_WORTH = 1.1
"""A chunk smaller than the default must save at least this factor of work a voxel: it reads more halo."""

ALONE = 1.3
"""What small tiles cost more when the network takes them one by one (measured: up to 1.5 times)."""

LIMIT_SHARE = 0.95
"""Share of the memory limit that a worker may use before it is replaced."""


def sized(draft: Plan) -> Plan:
    """Choose chunk, shard and tile: what the job says, and otherwise what fits the memory limit."""
    budget = int(draft.cluster.memory_limit * LIMIT_SHARE)
    best: Plan | None = None
    smallest: Plan | None = None
    for chunk in _chunks(draft):
        shard = _shard(draft, chunk)
        array = replace(draft.array, shard=shard, inner=inner_chunk(shard))
        plan = replace(draft, grid=Grid(draft.region.shape, chunk), array=array)
        fitting, smallest = _best_tile(plan, budget)
        if fitting is not None and (
            best is None or _work_per_voxel(fitting) * CHUNK_WORTH < _work_per_voxel(best)
        ):
            best = fitting
    if best is not None:
        return best
    assert smallest is not None
    mebibytes = -(-int(smallest.memory.peak / LIMIT_SHARE) // (1 << 20))
    raise PlanError(
        f"no tile fits: a worker of {draft.cluster.memory_limit / (1 << 20):.0f} MiB is too small even for tiles of"
        f" {_text(smallest.layout.tile)} in chunks of {_text(smallest.grid.chunk)} voxels; give --memory-limit"
        f" {mebibytes}MiB or more" + (", or a smaller --chunk or --tile" if _can_be_smaller(draft) else "")
    )


def _can_be_smaller(plan: Plan) -> bool:
    """Whether the job, and not the memory, settles the chunk or the tile."""
    return bool(plan.job.chunk or plan.job.tile) or isinstance(plan.layout, BlendLayout)


def _work_per_voxel(plan: Plan) -> float:
    """Return the operations a voxel; small tiles one by one count as more, for they keep the cores waiting."""
    architecture = plan.header.architecture
    operations = work_of(architecture, plan.layout, plan.grid) / plan.region.size
    alone = plan.batch == 1 < default_batch(plan.layout, architecture.dims)
    return operations * (ALONE if alone else 1.0)


def _largest_core(plan: Plan) -> tuple[int, ...]:
    """Return the voxels that a chunk writes at most: less than a chunk, where the region is smaller."""
    return tuple(min(c, n) for c, n in zip(plan.grid.chunk, plan.region.shape, strict=True))


def _chunks(draft: Plan) -> list[tuple[int, ...]]:
    """Return the chunks to try: the job's, or the default and smaller ones."""
    shape, job = draft.region.shape, draft.job
    for name in ("chunk", "shard", "tile"):
        asked = getattr(job, name)
        if asked is not None and len(asked) != len(shape):
            raise PlanError(f"--{name} {_text(asked)} has {len(asked)} axes, the volume {len(shape)}")
    if job.chunk is not None:
        return [job.chunk]
    if job.shard is not None:
        return [job.shard]
    if len(shape) > len(draft.header.axes):
        usual = tuple(min(s, n) for s, n in zip(STACK_SHARD, shape, strict=True))
    else:
        usual = default_shard(shape)
    smaller = [tuple(max(64, c // k) if c > 64 else c for c in usual) for k in (2, 4, 8)]
    return list(dict.fromkeys([usual, *smaller]))


def _shard(draft: Plan, chunk: tuple[int, ...]) -> tuple[int, ...]:
    shard = draft.job.shard or chunk
    if any(c % s for c, s in zip(chunk, shard, strict=True)):
        raise PlanError(
            f"--chunk {_text(chunk)} is not a whole multiple of the shard {_text(shard)}: two chunks would write to"
            " one shard and lose each other's voxels; make it a multiple, or leave --shard out"
        )
    return shard


def _best_tile(plan: Plan, budget: int) -> tuple[Plan | None, Plan]:
    """Return the plan with the tile that does the least work within the budget, and the one that needs least."""
    reaches, dims = plan.layout.reaches, len(plan.header.axes)
    if isinstance(plan.layout, BlendLayout):
        plans = [replace(plan, batch=1, memory=_memory(plan, plan.layout, 1))]
    else:
        tiles = [_checked_tile(plan)] if plan.job.tile else candidate_tiles(_largest_core(plan), reaches, dims)
        plans = [made for tile in tiles for made in _with_tile(plan, tile)]
    least = min(plans, key=lambda p: p.memory.peak)
    fitting = sorted((p for p in plans if p.memory.peak <= budget), key=lambda p: p.memory.peak)
    best: Plan | None = None
    best_work = 0.0
    for candidate in fitting:
        work = _work_per_voxel(candidate)
        if best is None or work * WORTH < best_work:
            best, best_work = candidate, work
    return best, least


def _checked_tile(plan: Plan) -> tuple[int, ...]:
    tile = plan.job.tile
    assert tile is not None
    for t, reach, axis in zip(tile, plan.layout.reaches, plan.volume.space.axes, strict=True):
        if t % reach.stride:
            below, above = t // reach.stride * reach.stride, -(-t // reach.stride) * reach.stride
            raise PlanError(
                f"--tile {t} along {axis} is no multiple of the network's stride {reach.stride}: its pooling would"
                f" fall on other voxels in each tile, and the result would not be the whole image's; use"
                f" {f'{below} or {above}' if below else above}"
            )
    flat = len(tile) - len(plan.header.axes)
    if any(t != 1 for t in tile[:flat]):
        raise PlanError(f"--tile {_text(tile)}: a 2-D network takes slices one by one; give 1 along z")
    return tile


def _with_tile(plan: Plan, tile: tuple[int, ...]) -> list[Plan]:
    """Return the plan with a tile: in the job's batches, or one by one and in the batches that suit it."""
    layout = TileLayout(plan.layout.reaches, tile)
    usual = default_batch(layout, plan.header.architecture.dims) if plan.device == "cuda" else 1
    batches = [plan.job.batch] if plan.job.batch else sorted({1, usual})
    return [replace(plan, layout=layout, batch=b, memory=_memory(plan, layout, b)) for b in batches]


COPIES = 3
"""Weights in memory: as they are loaded, as the network holds them, and in the form that its arithmetic needs."""


def _memory(plan: Plan, layout: Layout, batch: int) -> Memory:
    architecture = plan.header.architecture
    shown = largest_shape(plan.grid, layout)
    return Memory(
        BASE_MEMORY[plan.device] + plan.volume.open_bytes,
        COPIES * architecture.parameters() * ITEMSIZE[plan.precision],
        network_memory(architecture, layout, precision=plan.precision, batch=batch),
        window_memory(
            math.prod(shown),
            math.prod(_largest_core(plan)),
            input_bytes=plan.input_voxel_bytes,
            output_bytes=plan.output_voxel_bytes,
            in_hand=CHUNKS_AT_ONCE,
        )
        + _mask_bytes(plan, shown)
        + CHUNKS_AT_ONCE * plan.volume.read_bytes(shown)
        + averaging_memory(plan.output, layout, plan.tiling, core=math.prod(_largest_core(plan)), batch=batch),
    )


def _mask_bytes(plan: Plan, shown: tuple[int, ...]) -> int:
    """Return the bytes of what chunks hold of a mask: spread over a core, and over a read box where NaN is no data."""
    if plan.mask is None:
        return 0
    a_chunk = math.prod(_largest_core(plan)) + (math.prod(shown) if plan.nodata else 0)
    return CHUNKS_AT_ONCE * a_chunk


def _text(voxels: tuple[int, ...]) -> str:
    return ",".join(map(str, voxels))
