"""The mask of a run: made once, kept beside the result, and what it says of the chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ChunkError, RunMismatchError, VolumeError
from pipeline.predict.masked import PlannedMask
from pipeline.predict.plan import Plan
from pipeline.run.folder import RunFolder
from pipeline.run.status import MASK
from pipeline.store import Place
from pipeline.volume.mask.foreground import digest
from pipeline.volume.mask.stored import Area, Survey, read_facts, store_mask, survey, survey_stored

CHEAP = 256 << 20
"""Bytes that a plan reads at most to find out what a mask leaves; see ``overtile plan``."""


def with_skipped(plan: Plan, folder: RunFolder) -> Plan:
    """Return a plan that knows how many chunks its mask skips, where that is known or cheap to find out.

    Raises:
        VolumeError: no foreground can be told.
        StoreError: what the mask is made of cannot be read.
    """
    mask = plan.mask
    if mask is None:
        return plan
    facts = read_facts(folder.place.at(MASK))
    if facts is not None and facts["chunks"] == len(plan.grid):
        skipped = int(facts["skipped"])
    elif mask.foreground.nbytes <= CHEAP:
        skipped = int((~survey(mask.foreground, _area(plan)).chunks).sum())
    else:
        return plan
    return replace(plan, mask=replace(mask, skipped=skipped))


def settle_mask(
    plan: Plan, folder: RunFolder, skipped: npt.NDArray[np.bool_], *, note: Callable[[str], None]
) -> Survey:
    """Make the mask of a run, or check the one that it has; it is durable when this returns.

    Args:
        plan: of the run; has a mask.
        folder: of the run; the caller holds its lease.
        skipped: chunks that the ledger calls skipped.
        note: told what the user may not expect.

    Returns:
        What the mask says.

    Raises:
        RunMismatchError: the mask is another one than chunks were skipped by: the image changed.
        VolumeError: no foreground can be told.
        StoreError: what the mask is made of cannot be read, or the mask not be stored.
    """
    mask = plan.mask
    assert mask is not None
    place, area = folder.place.at(MASK), _area(plan)
    facts, seen = read_facts(place), _seen(plan, mask)
    if facts is not None and facts["seen"] == seen:
        found = _stored(place, area)
        if found is not None and found.digest == facts["digest"]:
            return found
        note(f"{place.url}: is damaged, and is made again")
    if facts is not None or skipped.any():
        found = survey(mask.foreground, area)
        if (facts is not None and found.digest != facts["digest"]) or (skipped & found.chunks).any():
            raise RunMismatchError(
                f"{place.url}: the image has changed since the mask was made, so that the mask is another one now;"
                " bring the image back, or segment it to another output"
            )
    return store_mask(place, mask.foreground, area, facts={"seen": seen})


def _area(plan: Plan) -> Area:
    return Area(plan.volume.shape, plan.region, plan.grid)


def _stored(place: Place, area: Area) -> Survey | None:
    """Return what a stored mask says; None where it is damaged."""
    try:
        return survey_stored(place, area)
    except (ChunkError, VolumeError):
        return None


def _seen(plan: Plan, mask: PlannedMask) -> str | None:
    """Return a digest of what the image is stored in now, if the mask is made of it."""
    if mask.foreground.kind != "auto":
        return None
    found: Any = plan.volume.identities().digests(plan.volume.box)
    return digest(found)
