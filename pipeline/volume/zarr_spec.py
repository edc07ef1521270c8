"""How a Zarr is opened for a network to look at: apart from the other formats, whose libraries it does not need."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline.errors import VolumeError
from pipeline.volume.opening import open_volume
from pipeline.volume.sources.reading import Reading, override
from pipeline.volume.volume import Volume


@dataclass(frozen=True, slots=True)
class ZarrSpec:
    """How a Zarr is opened; small and picklable.

    Attributes:
        url: its address.
        reading: what the user says of it.
    """

    url: str
    reading: Reading

    def open(self) -> Volume:
        """Open it.

        Raises:
            VolumeError: it cannot be opened, or what the user says does not fit it.
            InputError: an address of another form.
            StoreError: the store does not answer.
        """
        reading = self.reading
        for name, told in (("crs", reading.crs), ("warp", reading.warp)):
            if told not in (None, "none"):
                raise VolumeError(f"{self.url}: --{name} is for raster files, and this is a Zarr; leave it out")
        volume = open_volume(self.url, level=reading.level, axes=reading.axes, holes=reading.holes)
        space = override(volume.space, reading, name=volume.url)
        return replace(volume, space=space, bands=_checked_bands(reading.bands, volume.channels, volume.url))


def _checked_bands(bands: tuple[int, ...] | None, count: int, name: str) -> tuple[int, ...]:
    """Return the channels that are read, counted from 0; none for all."""
    wrong = [band for band in bands or () if not 1 <= band <= count]
    if wrong:
        raise VolumeError(
            f"{name}: there is no band {wrong[0]}; it has {count} band(s), counted from 1: give --bands 1 to {count}"
        )
    return tuple(band - 1 for band in bands or ())
