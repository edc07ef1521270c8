"""What a network does with real numbers, against what was derived of it: the proof, and the net below it.

* Two calls give the same, and an image comes out the same whatever else is in its batch.
* The crop test: a tile, cut on the stride's lattice with the halo around it, gives the voxels of the whole. Along
  one axis at a time, with the others short. In float64 and with weights drawn anew (trained ones may
  hide what a layer sees) to a tolerance: this proves the structure, unmasks what depends on where a voxel lies or how
  long the input is (coordinate channels, position embeddings, interpolation to a fixed size), and finds a larger
  stride or halo where the bounds were too small. In float32 and with the network's own weights and the arithmetic of
  a run: what differs then is at most rounding (see docs/exactness.md for the operations that round by place).
* Of a heavy network, for which float64 takes minutes, the structure is tried in float32 first, with drawn weights and
  with what lies outside the tile made :data:`LOUD` times as large. What no bit of many thousands shows then is not
  there: a voxel beyond the halo would be seen at 1e-12 of its neighbours, and what shifts all values by 1e-9 turns
  the rounding of some. Where a bit differs, which an operation may do that rounds by place, float64 decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

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
"""Operations of a whole from which one tile must do as a test, in float32 if no bit differs there."""
LOUD = 2.0**20
"""How many times as large the voxels outside a tile are in that test."""
LARGER = (1, 2, 4, 8, 16)
"""By how many strides the halo is tried larger, and how many times larger the stride, when a crop test fails."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A tile inside a whole along one axis: input ``start`` to ``stop``; ``core`` voxels of it are kept."""

    start: int
    stop: int
    core: int

    def of(self, whole: Tensor, along: int) -> Tensor:
        """Return the tile, a view of the whole."""
        return whole.narrow(along, self.start, self.stop - self.start)


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
        heavy: operations of a whole above which it is a heavy network's.
    """

    def __init__(self, model: nn.Module, ghost: Ghost, reaches: Sequence[Reach], *, heavy: int = HEAVY) -> None:
        self._heavy = heavy
        self._ghost = ghost
        self._sides = [_legal(reach, BESIDE) for reach in reaches]
        if ghost.output(self._sides) is None:
            self._sides = [reach.minimum for reach in reaches]
        longest = [cuts(reach)[0] for reach in reaches]
        for axis, length in enumerate(longest):
            check_memory(ghost, self._shape(axis, length), 1)
        check_memory(ghost, self._sides, 2)
        self._own = Real(model, ghost.dims, torch.float32)
        self._model = model

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
        """Whether tiles give the voxels of the whole with drawn weights: in every bit, or in float64 to a tolerance."""
        if self._is_heavy(axis, reach) and self.agrees(axis, reach):
            return True
        return self._worst(self._probe, axis, reach) <= TOLERANCE[self._probe.dtype]

    def bits(self, axis: int, reach: Reach) -> float:
        """Return by how much a tile differs from the whole in float32 with the own weights (0: in no bit)."""
        return self._worst(self._own, axis, reach)

    def agrees(self, axis: int, reach: Reach) -> bool:
        """Whether no bit differs in float32, with drawn weights and loud voxels outside the tile."""
        try:
            return self._worst(self._drawn, axis, reach, outside=LOUD) == 0
        except (RuntimeError, TypeError, ValueError):
            return False  # such as a network that drawn weights do not suit: float64 says more

    def _worst(self, model: Real, axis: int, reach: Reach, *, outside: float = 1) -> float:
        """Return the largest difference of a tile from the whole, whose voxels outside the tile are scaled."""
        length, tiles = cuts(reach)
        if self._ghost.output(self._shape(axis, length)) is None:
            return float("inf")
        if self._is_heavy(axis, reach):
            tiles = tiles[:1]
        whole, along = noise(self._ghost.in_channels, self._shape(axis, length), seed=2), axis + 2
        if outside != 1:
            inner, whole = whole, whole * outside
            for tile in tiles:
                tile.of(whole, along).copy_(tile.of(inner, along))
        wanted = model(whole)
        return max(
            difference(
                model(tile.of(whole, along)).narrow(along, reach.crop, tile.core),
                wanted.narrow(along, tile.start + reach.crop, tile.core),
            )
            for tile in tiles
        )

    def _is_heavy(self, axis: int, reach: Reach) -> bool:
        return operations(self._ghost, self._shape(axis, cuts(reach)[0])) > self._heavy

    def _shape(self, axis: int, length: int) -> list[int]:
        return [length if a == axis else n for a, n in enumerate(self._sides)]

    @cached_property
    def _drawn(self) -> Real:
        """The network in float32 with drawn weights."""
        return Real(self._model, self._ghost.dims, torch.float32, seed=0)

    @cached_property
    def _probe(self) -> Real:
        """The network in float64 with drawn weights; with its own, or in float32, where it fails otherwise."""
        x: Tensor = noise(self._ghost.in_channels, self._sides, seed=3)
        for dtype, seed in ((torch.float64, 0), (torch.float64, None), (torch.float32, None)):
            made = Real(self._model, self._ghost.dims, dtype, seed=seed)
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
