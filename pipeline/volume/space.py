"""Where a volume's voxels lie in the world: axes, voxel size, unit and origin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pipeline.errors import VolumeError

SPATIAL = ("zyx", "yx")
"""The spatial axes that a volume may have, in this order."""


@dataclass(frozen=True, slots=True)
class Space:
    """The spatial axes of a volume and their place in the world.

    Attributes:
        axes: ``"yx"`` or ``"zyx"``.
        voxel_size: extent of a voxel along each axis, in ``unit``.
        translation: place of voxel 0 along each axis, in ``unit``.
        unit: name of the length unit as in OME-NGFF (``"micrometer"``), or None where it is unknown.
    """

    axes: str
    voxel_size: tuple[float, ...]
    translation: tuple[float, ...]
    unit: str | None = None

    def __post_init__(self) -> None:
        assert self.axes in SPATIAL, self
        assert len(self.voxel_size) == len(self.translation) == len(self.axes), self

    @classmethod
    def unscaled(cls, axes: str) -> Space:
        """Return a space of unit voxels at the origin, of unknown unit."""
        return cls(axes, (1.0,) * len(axes), (0.0,) * len(axes))

    def moved(self, start: Sequence[int]) -> Space:
        """Return the space of a box of this volume that begins at voxel ``start``."""
        origin = zip(self.translation, start, self.voxel_size, strict=True)
        return replace(self, translation=tuple(t + a * s for t, a, s in origin))

    def coarser(self, factors: Sequence[int]) -> Space:
        """Return the space after joining ``factors`` voxels along each axis; centres move by half a voxel."""
        pairs = list(zip(self.voxel_size, factors, strict=True))
        translation = tuple(t + (f - 1) / 2 * s for t, (s, f) in zip(self.translation, pairs, strict=True))
        return replace(self, voxel_size=tuple(s * f for s, f in pairs), translation=translation)


def check_axes(axes: str, ndim: int, *, where: str) -> str:
    """Return ``axes`` if they name an array of ``ndim`` axes that Overtile can read.

    Raises:
        VolumeError: unknown, doubled, missing or misordered axes.
    """
    axes = axes.lower()
    spatial = "".join(a for a in axes if a in "zyx")
    if len(axes) != ndim:
        raise VolumeError(f"{where}: axes {axes!r} name {len(axes)} axes, but the array has {ndim}")
    if set(axes) - set("tczyx") or len(set(axes)) != len(axes) or spatial not in SPATIAL:
        raise VolumeError(
            f"{where}: axes {axes!r} cannot be used; give each of c (channels), z, y, x at most once, with y before x"
            " and z (if any) before y, for example cyx, yxc, zyx or czyx"
        )
    return axes


def check_one_time(axes: str, shape: Sequence[int], *, where: str) -> None:
    """Raise VolumeError if an array of these axes has more than one time point."""
    count = shape[axes.index("t")] if "t" in axes else 1
    if count != 1:
        raise VolumeError(
            f"{where}: it has {count} time points, but a volume has one; make each a volume of its own,"
            " or say with --axes what the axis is, if it is not time"
        )
