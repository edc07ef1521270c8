"""Where on Earth a result lies: its input's georeference, in the voxels and the region that were segmented."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.predict.plan import Plan
from pipeline.volume.geo import georeference_attributes


def place_attributes(plan: Plan) -> dict[str, Any]:
    """Return the attributes that say where a result lies; none where the input does not say it.

    Raises:
        VolumeError: the input's georeference is damaged.
    """
    geo = plan.volume.geo
    if geo is None:
        return {}
    moved = replace(geo.shifted(plan.region.start), nodata=None)
    return georeference_attributes(moved, shape=plan.grid.shape)
