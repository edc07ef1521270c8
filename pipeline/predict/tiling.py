"""Settle how tiles become the whole: exactly where the network can be, blended where it cannot; in which turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import POINTWISE, BlendLayout, Reach, Turn, Weighting
from pipeline.model.checkpoint import CheckpointHeader
from pipeline.volume.image import Image

USUAL_INPUT = {2: 512, 3: 128}
"""Voxels of a blended tile's input along an axis, by the network's dimensions. It must not depend on the chunk, the
memory or the machine, because the result depends on it."""

SHARED = 4
"""Blended tiles share a quarter of themselves with each neighbour."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How tiles become the whole.

    Attributes:
        reaches: the network's reach along each spatial axis of the volume, turns included.
        weighting: weights of overlapping tiles; None where tiles are exact.
        turns: the network's answer is the mean over these.
    """

    reaches: tuple[Reach, ...]
    weighting: Weighting | None
    turns: tuple[Turn, ...]


def choose_tiling(job: SegmentJob, volume: Image, header: CheckpointHeader) -> Tiling:
    """Return how tiles become the whole; checks that volume and network fit each other.

    Raises:
        PlanError: they do not; exact tiles are asked of a network that cannot be exact, or turns of one that sees
            the axes differently; an option is for the other mode.
    """
    _check_volume(job.model, volume, header)
    network = header.architecture
    if job.mode == "exact" and not network.exact:
        raise PlanError(
            f"--mode exact: {job.model} cannot be tiled exactly: {' '.join(network.reasons)} Leave --mode out, and"
            " overlapping tiles are blended"
        )
    blended = job.mode == "blend" or not network.exact
    if blended:
        _check_blend(job)
    for name, given in (("overlap", job.overlap), ("blend", job.blend)):
        if given is not None and not blended:
            raise PlanError(
                f"--{name} is for blended tiles; these are exact and need none. Add --mode blend for it"
            )
    reaches = _turnable(job.tta, network.reaches())
    flat = len(volume.space.axes) - len(header.axes)
    weighting: Weighting | None = (job.blend or "gaussian") if blended else None
    return Tiling((POINTWISE,) * flat + reaches, weighting, _turns(job.tta, network.dims))


def blend_layout(job: SegmentJob, axes: str, reaches: Sequence[Reach]) -> BlendLayout:
    """Return the overlapping tiles of a job: those that it asks for, or the usual ones.

    Args:
        job: the settings.
        axes: names of the volume's spatial axes.
        reaches: the network's reach along each of them.

    Raises:
        PlanError: the network does not take such tiles, or the overlap leaves its stride.
    """
    dims = sum(reach is not POINTWISE for reach in reaches)
    tiles, overlaps = [], []
    for index, (axis, reach) in enumerate(zip(axes, reaches, strict=True)):
        if reach is POINTWISE:
            tile, overlap = 1, 0
        else:
            tile = (
                _checked_tile(job.tile[index], axis, reach) if job.tile else _usual_tile(USUAL_INPUT[dims], reach)
            )
            overlap = (
                _checked_overlap(job.overlap[index], tile, axis, reach) if job.overlap else _usual(tile, reach)
            )
        tiles.append(tile)
        overlaps.append(overlap)
    return BlendLayout(tuple(reaches), tuple(tiles), tuple(overlaps))


def _check_volume(model: str, volume: Image, header: CheckpointHeader) -> None:
    wanted = header.architecture.in_channels
    if volume.channels != wanted:
        raise PlanError(
            f"{volume.url} has {volume.channels} channel(s) (axes {volume.axes}, shape {volume.shape}),"
            f" but {model} takes {wanted}; choose the model that was trained on such images"
        )
    axes = volume.space.axes
    if not axes.endswith(header.axes):
        raise PlanError(
            f"{volume.url} has the spatial axes {axes}, but {model} is a {len(header.axes)}-D network ({header.axes});"
            " a 3-D network needs a stack"
        )


def _check_blend(job: SegmentJob) -> None:
    """Refuse what would make a blended result depend on how the work is shared out."""
    if job.batch not in (None, 1):
        raise PlanError(
            f"--batch {job.batch}: blended tiles are taken one by one, so that no tile's result can depend on its"
            " neighbours in a batch; leave --batch out"
        )
    if job.threads not in (None, 1):
        raise PlanError(
            f"--threads {job.threads}: blended tiles run in one thread a worker, because sums over a whole tile depend"
            " on the number of threads; leave --threads out, and there will be a worker for each core"
        )


def _turnable(tta: str, reaches: tuple[Reach, ...]) -> tuple[Reach, ...]:
    """Return the reaches of the network and its turned selves together."""
    if tta == "none":
        return reaches
    for reach in reaches:
        if reach.shrink % 2:
            raise PlanError(
                f"--tta {tta}: the network's output is {reach.shrink} voxels shorter than its input, an odd number;"
                " turned, it would lie half a voxel beside; leave --tta out"
            )
    found = tuple(reach.symmetric() for reach in reaches)
    if tta == "flips":
        return found
    y, x = found[-2:]
    if replace(y, halo=(0, 0)) != replace(x, halo=(0, 0)):
        raise PlanError(
            f"--tta all: the network treats y and x differently (strides {y.stride} and {x.stride}, sizes from"
            f" {y.minimum} and {x.minimum}), so it cannot be turned; use --tta flips"
        )
    both = replace(y, halo=(max(*y.halo, *x.halo),) * 2)
    return (*found[:-2], both, both)


def _turns(tta: str, dims: int) -> tuple[Turn, ...]:
    every = tuple(Turn.every(dims, exchange=tta == "all"))
    return every[:1] if tta == "none" else every


def _usual_tile(length: int, reach: Reach) -> int:
    """Return what the largest legal input of at most ``length`` voxels yields, two strides at least."""
    least = (
        reach.minimum + -(-max(0, reach.shrink + 2 * reach.stride - reach.minimum) // reach.stride) * reach.stride
    )
    steps = max(0, length - least) // reach.stride
    return least + steps * reach.stride - reach.shrink


def _usual(tile: int, reach: Reach) -> int:
    """Return the usual overlap: the step is a multiple of the stride."""
    step = max(reach.stride, (tile - tile // SHARED) // reach.stride * reach.stride)
    return tile - step


def _checked_tile(tile: int, axis: str, reach: Reach) -> int:
    if not reach.is_legal(tile + reach.shrink) or tile < reach.stride:
        least = _usual_tile(0, reach)
        below = least + max(0, tile - least) // reach.stride * reach.stride
        raise PlanError(
            f"--tile {tile} along {axis}: the network yields no such tile; use {below} or {below + reach.stride}"
        )
    return tile


def _checked_overlap(overlap: int, tile: int, axis: str, reach: Reach) -> int:
    step = tile - overlap
    if step < 1 or step % reach.stride:
        steps = {max(1, step // reach.stride) * reach.stride, (max(0, step) // reach.stride + 1) * reach.stride}
        offered = " or ".join(str(tile - s) for s in sorted(steps) if s <= tile)
        raise PlanError(
            f"--overlap {overlap} along {axis}: tiles of {tile} would step by {step}, no multiple of the network's"
            f" stride {reach.stride}; use {offered}"
        )
    return overlap
