"""What a network does with real numbers, against what was derived of it: the proof, and the net below it.

* Two calls give the same, and an image comes out the same whatever else is in its batch.
* The crop test: a tile, cut on the stride's lattice with the halo around it, gives the voxels of the whole. Along
  one axis at a time, with the others short. In float64 and with weights drawn anew (trained ones may
  hide what a layer sees) to a tolerance: this proves the structure, unmasks what depends on where a voxel lies or how
  long the input is (coordinate channels, position embeddings, interpolation to a fixed size), and finds a larger
  stride or halo where the bounds were too small. In float32 and with the network's own weights and the arithmetic of
  a run: what differs then is at most rounding (see docs/exactness.md for the operations that round by place).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.geometry.reach import Reach
from pipeline.model.exactness.costs import operations
from pipeline.model.exactness.ghost import Ghost
from pipeline.model.exactness.numbers import Real, check_memory, check_output, difference, noise
from pipeline.model.exactness.sizes import AXES

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}
ROUNDING = 1e-4
"""Relative difference in float32 that rounding explains."""
BESIDE = 16
"""Voxels along the axes beside the one under test, at least: less could be padding alone."""
HEAVY = 10**10
"""Operations of a whole from which one tile must do as a test."""
LARGER = (1, 2, 4, 8, 16)
"""By how many strides the halo is tried larger, and how many times larger the stride, when a crop test fails."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A tile inside a whole along one axis: input ``start`` to ``stop``; ``core`` voxels of it are kept."""

    start: int
    stop: int
    core: int


def cuts(reach: Reach) -> tuple[int, list[Cut]]:
    """Return the length of a whole, and tiles of two lengths in it that the whole surrounds."""
    core = reach.stride * -(-16 // reach.stride)
    tiles = [
        Cut(k * reach.stride, k * reach.stride + reach.input_length(c), c) for k, c in ((1, core), (3, 2 * core))
    ]
    return _legal(reach, max(tile.stop for tile in tiles) + reach.stride), tiles


class Behaviour:
    """A network under test.

    Args:
        model: the network.
        ghost: its copy on shapes alone.
        reaches: what was derived, for every axis; its lengths hold in any case.
    """

    def __init__(self, model: nn.Module, ghost: Ghost, reaches: Sequence[Reach]) -> None:
        self._ghost = ghost
        self._sides = [_legal(reach, BESIDE) for reach in reaches]
        if ghost.output(self._sides) is None:
            self._sides = [reach.minimum for reach in reaches]
        longest = [cuts(reach)[0] for reach in reaches]
        for axis, length in enumerate(longest):
            check_memory(ghost, self._shape(axis, length), 1)
        check_memory(ghost, self._sides, 2)
        self._own = Real(model, ghost.dims, torch.float32)
        self._probe = self._exact_copy(model)

    def instabilities(self) -> list[str]:
        """Return sentences about randomness and about images that influence each other.

        Raises:
            ModelError: if the network fails, or gives NaN or infinity.
        """
        images = noise(self._ghost.in_channels, self._sides, seed=1, batch=2)
        alone = check_output(self._own, images[:1])
        if difference(check_output(self._own, images[:1]), alone):
            return [
                "The network gives other values at a second call: something in it is random. Call eval() on it, or"
                " take the randomness out."
            ]
        if difference(check_output(self._own, images)[:1], alone) > ROUNDING:
            return [
                "The result of an image depends on the others in its batch: call eval() on the network, or segment in"
                " blend mode."
            ]
        return []

    def confirmed(self, axis: int, reach: Reach) -> Reach | None:
        """Return the reach that the crop test confirms: the given one, or a larger one; None if none does."""
        return next((r for r in _larger(reach) if self.fits(axis, r)), None)

    def fits(self, axis: int, reach: Reach) -> bool:
        """Whether tiles give the voxels of the whole, to a tolerance, with drawn weights."""
        return self._worst(self._probe, axis, reach) <= TOLERANCE[self._probe.dtype]

    def bits(self, axis: int, reach: Reach) -> float:
        """Return by how much a tile differs from the whole in float32 with the own weights (0: in no bit)."""
        return self._worst(self._own, axis, reach)

    def _worst(self, model: Real, axis: int, reach: Reach) -> float:
        length, tiles = cuts(reach)
        if self._ghost.output(self._shape(axis, length)) is None:
            return float("inf")
        if operations(self._ghost, self._shape(axis, length)) > HEAVY:
            tiles = tiles[:1]
        whole = noise(self._ghost.in_channels, self._shape(axis, length), seed=2)
        wanted, along = model(whole), axis + 2
        return max(
            difference(
                model(whole.narrow(along, tile.start, tile.stop - tile.start)).narrow(
                    along, reach.crop, tile.core
                ),
                wanted.narrow(along, tile.start + reach.crop, tile.core),
            )
            for tile in tiles
        )

    def _shape(self, axis: int, length: int) -> list[int]:
        return [length if a == axis else n for a, n in enumerate(self._sides)]

    def _exact_copy(self, model: nn.Module) -> Real:
        """Return the network in float64 with drawn weights; with its own, or in float32, where it fails otherwise."""
        x: Tensor = noise(self._ghost.in_channels, self._sides, seed=3)
        for dtype, seed in ((torch.float64, 0), (torch.float64, None), (torch.float32, None)):
            made = Real(model, self._ghost.dims, dtype, seed=seed)
            try:
                if bool(torch.isfinite(made(x)).all()):
                    return made
            except (RuntimeError, TypeError, ValueError):
                continue  # such as a network with constants of its own dtype
        return self._own


def unstable(axis: int, dims: int, error: float) -> str:
    """Return the sentence for a network that amplifies rounding."""
    return (
        f"In float32 a tile differs from the whole along {AXES[dims][axis]} by {error:.1g} of the largest value, though"
        " not in float64: the network amplifies rounding; segment in blend mode, or in float64."
    )


def unfit(axis: int, dims: int) -> str:
    """Return the sentence for a network whose tiles differ from the whole for no reason that has a name."""
    return (
        f"A tile does not give the voxels of the whole along {AXES[dims][axis]}: the output depends on where a voxel"
        " lies in the input, or on how long the input is (coordinate channels, position embeddings, interpolation to"
        " a fixed size): take that out, or segment in blend mode."
    )


def _legal(reach: Reach, length: int) -> int:
    """Return the smallest legal length that is not below ``length``."""
    return reach.minimum + max(0, -(-(length - reach.minimum) // reach.stride)) * reach.stride


def _larger(reach: Reach) -> Iterator[Reach]:
    """Yield the reach, then ones of a larger halo, then ones of a larger stride."""
    yield reach
    for factor in LARGER:
        more = factor * reach.stride
        yield replace(reach, halo=(reach.halo[0] + more, reach.halo[1] + more))
    for factor in LARGER[1:]:
        yield replace(reach, stride=factor * reach.stride)
