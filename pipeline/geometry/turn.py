"""Flips and right-angle turns in the plane: what training shows a network, and what test-time averaging asks it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Turn:
    """A flip of some axes after an exchange of the last two; together they make every flip and right-angle turn.

    Attributes:
        exchange: whether y and x are exchanged first.
        flips: whether each spatial axis is then flipped.
    """

    exchange: bool
    flips: tuple[bool, ...]

    @classmethod
    def every(cls, dims: int, *, exchange: bool) -> Iterator[Turn]:
        """Yield every turn of ``dims`` axes, the plain one first: ``2 ** dims``, twice as many with exchanges."""
        for exchanged in (False, True) if exchange else (False,):
            for flips in product((False, True), repeat=dims):
                yield cls(exchanged, flips)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is turned."""
        return not (self.exchange or any(self.flips))

    @property
    def flipped(self) -> tuple[int, ...]:
        """The axes that are flipped, counted from the last one (-1)."""
        return tuple(axis - len(self.flips) for axis, flip in enumerate(self.flips) if flip)

    def apply(self, voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return an array whose last axes are the spatial ones turned, as a view."""
        turned = voxels.swapaxes(-1, -2) if self.exchange else voxels
        steps = [slice(None, None, -1) if flip else slice(None) for flip in self.flips]
        return turned[..., *steps]
