"""Where on Earth a result lies: its input's georeference, at the level and region that were segmented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.predict.plan import Plan
from pipeline.store import open_place
from pipeline.volume import open_volume
from pipeline.volume.geo import georeference_attributes, read_georeference
from pipeline.volume.state import read_attributes


def place_attributes(plan: Plan) -> dict[str, Any]:
    """Return the attributes that say where a result lies; none where the input does not say it.

    Raises:
        VolumeError: the input's georeference is damaged.
    """
    volume = plan.volume
    geo = read_georeference(read_attributes(open_place(volume.url)))
    if geo is None:
        return {}
    finest = volume.space if volume.level == 0 else open_volume(volume.url, axes=plan.job.axes).space
    factors = [size / first for size, first in zip(volume.space.voxel_size, finest.voxel_size, strict=True)]
    moved = replace(geo.scaled(factors).shifted(plan.region.start), nodata=None)
    return georeference_attributes(moved, shape=plan.grid.shape)
