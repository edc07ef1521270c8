"""Choose channels of an image: what the option ``bands`` makes of any source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.geo import Georeference
from pipeline.volume.sources.source import Source
from pipeline.volume.space import Space


@runtime_checkable
class Selecting(Protocol):
    """A source whose file stores its channels apart, so that it reads only the chosen ones."""

    def select(self, indices: tuple[int, ...]) -> Source:
        """Return the source of some channels, counted from 0; it takes the place of this one."""
        ...


@dataclass(slots=True, eq=False)
class ChannelSource(Source):
    """Some channels of another source, which reads them all.

    Attributes:
        whole: the other source; closed with this one.
        indices: its channels, counted from 0.
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    whole: Source
    indices: tuple[int, ...]
    geo: Georeference | None = field()  # these four are not the defaults that Source has
    levels: int = field()
    files: tuple[str, ...] = field()
    channel_names: tuple[str, ...] | None = field()

    def files_below(self, box: Box) -> tuple[str, ...]:
        """Return the files that a read of a box depends on."""
        return self.whole.files_below(box)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, [z,] y, x)``, the chosen channels."""
        return self.whole.read(box)[list(self.indices)]

    def where(self, voxel: Sequence[int]) -> str:
        """Say where a voxel is."""
        return self.whole.where(voxel)

    def close(self) -> None:
        """Close the whole source."""
        self.whole.close()


def select_channels(source: Source, bands: Sequence[int] | None) -> Source:
    """Return the source of some channels of another one, which it takes the place of.

    One channel gives an image without a channel axis, as a file of one band does. A channel may be named more than
    once: ``1,1,1`` makes a grey image one that a network of three channels takes.

    Args:
        source: any image; closed if the channels are refused.
        bands: numbers of channels, counted from 1, in the order in which they are wanted; None for the source as it is.

    Raises:
        VolumeError: no channels, or a number that is none of a channel.
    """
    if bands is None:
        return source
    count = source.channels or 1
    wrong = [band for band in bands if not 1 <= band <= count]
    if wrong or not bands:
        source.close()
        what = f"there is no band {wrong[0]}" if wrong else "no band is named"
        raise VolumeError(
            f"{source.name}: {what}; it has {count} band(s), counted from 1: give --bands 1 to {count}"
        )
    indices = tuple(int(band) - 1 for band in bands)
    if indices == tuple(range(count)):
        return source
    return source.select(indices) if isinstance(source, Selecting) else _wrapped(source, indices)


def chosen_names(names: tuple[str, ...] | None, indices: Sequence[int]) -> tuple[str, ...] | None:
    """Return the names of chosen channels; None where they have none."""
    return None if names is None else tuple(names[i] for i in indices)


def _wrapped(source: Source, indices: tuple[int, ...]) -> ChannelSource:
    return ChannelSource(
        name=source.name,
        shape=source.shape,
        channels=len(indices) if len(indices) > 1 else None,
        dtype=source.dtype,
        space=source.space,
        slab=source.slab,
        whole=source,
        indices=indices,
        geo=source.geo,
        levels=source.levels,
        files=source.files,
        channel_names=chosen_names(source.channel_names, indices),
    )
