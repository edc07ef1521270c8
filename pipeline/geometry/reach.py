"""What a network sees, per axis: the numbers from which every read box and every tile follows.

Along one axis a network maps an input of ``n`` voxels to ``n - shrink`` voxels, and output voxel 0 lies over
input voxel ``offset``::

    input    |----------------------- n ------------------------|
    output       offset |---------- n - shrink ---------|

Two properties make tiling exact. The *stride* ``s`` is the shift under which the network is equivariant: moving
the input by ``s`` moves the output by ``s`` (pooling by two, four times, gives 16; other shifts give other
voxels). The *halo* is how far beyond a core, whose edges lie on multiples of ``s``, the input must be real for
the core to come out as in the whole image. Padding inside the network invents values, so its influence counts.

The input length must be one of the *legal sizes*: ``minimum + k * stride``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Reach:
    """The reach of a network along one axis, in voxels.

    Attributes:
        stride: shift under which the network is equivariant.
        halo: voxels of real input needed before and after the output of a legal input (minimal). What is read
            around a tile's core is :attr:`before` and :meth:`after`, which also keep the phase and a legal length.
        offset: index of the input voxel below output voxel 0.
        shrink: input length minus output length.
        minimum: smallest legal input length; the others are ``minimum + k * stride``.
    """

    stride: int = 1
    halo: tuple[int, int] = (0, 0)
    offset: int = 0
    shrink: int = 0
    minimum: int = 1

    def __post_init__(self) -> None:
        assert self.stride >= 1, self
        assert min(self.halo) >= 0, self
        assert 0 <= self.offset <= self.shrink, self
        assert self.minimum > self.shrink, self

    @property
    def before(self) -> int:
        """Voxels read before a tile's core: the halo, rounded up so that the origin keeps the phase."""
        lacking = max(0, self.halo[0] - self.offset)
        return self.offset + _up(lacking, self.stride)

    def is_legal(self, length: int) -> bool:
        """Whether the network takes an input of ``length`` voxels."""
        return length >= self.minimum and (length - self.minimum) % self.stride == 0

    def input_length(self, core: int) -> int:
        """Length of the smallest legal input that gives ``core`` exact output voxels on the lattice."""
        needed = max(self.before + core + self.halo[1], self.minimum)
        return self.minimum + _up(needed - self.minimum, self.stride)

    def after(self, core: int) -> int:
        """Voxels read after a tile's core of ``core`` voxels, so that the input has a legal length."""
        return self.input_length(core) - core - self.before

    def symmetric(self) -> Reach:
        """Return the reach of the network and its mirror image together; the output must be centred."""
        assert 2 * self.offset == self.shrink, self
        return replace(self, halo=(max(self.halo),) * 2)

    @property
    def crop(self) -> int:
        """Output voxels in front of a tile's core, which are thrown away."""
        return self.before - self.offset


POINTWISE = Reach()
"""The reach along an axis that the network does not look along (each voxel stands for itself)."""


def _up(value: int, multiple: int) -> int:
    """Round ``value`` up to a multiple of ``multiple``."""
    return -(-value // multiple) * multiple
