"""The mask of a plan: what ``--mask`` names, settled and checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import PlanError
from pipeline.geometry import Box
from pipeline.predict.resolution import Resolution
from pipeline.volume.image import Image
from pipeline.volume.mask.auto import open_foreground
from pipeline.volume.mask.foreground import Foreground, Subject

LATER = "known when the mask is made"
"""What a plan says of a mask that would cost much to find out."""


@dataclass(frozen=True, slots=True)
class PlannedMask:
    """What restricts a segmentation to a part of the image.

    Attributes:
        foreground: which voxels are segmented; nothing of it is read yet.
        identity: what decides it, found out once.
        skipped: chunks without foreground; None while that is not known.
    """

    foreground: Foreground
    identity: dict[str, Any]
    skipped: int | None = None

    def describe(self, chunks: int) -> dict[str, Any]:
        """Return what a plan tells of it, JSON-ready.

        Args:
            chunks: of the grid.

        Returns:
            ``kind``, ``shape``, ``reason``; ``skipped`` chunks and their ``share``, or None and ``known``: when.
        """
        if self.skipped is None:
            known: dict[str, Any] = {"skipped": None, "share": None, "known": LATER}
        else:
            known = {"skipped": self.skipped, "share": round(self.skipped / chunks, 4), "known": "now"}
        shape = list(self.foreground.shape)
        return {"kind": self.foreground.kind, "shape": shape, "reason": self.foreground.reason, **known}

    def computed(self, chunks: int) -> float:
        """Return the share of so many chunks that are computed; 1 while it is not known."""
        return 1.0 - (self.skipped or 0) / chunks


def plan_mask(job: SegmentJob, image: Image, resolution: Resolution, region: Box) -> PlannedMask | None:
    """Open the mask that a job names; None where it names none.

    Args:
        job: the settings.
        image: what is segmented.
        resolution: how it is read.
        region: the part of it that is segmented.

    Raises:
        PlanError: raw output is asked for, of which no value means background.
        InputError: the mask cannot be opened, or does not lie over the image.
    """
    if job.mask == "none":
        return None
    if job.kind == "logits":
        raise PlanError(
            "--mask with --kind logits: no value of a network's raw output means background; store --kind"
            " probabilities or labels, or leave the mask out"
        )
    foreground = open_foreground(job.mask, Subject(image, region, job.input, resolution.reading))
    return PlannedMask(foreground, foreground.identity)
