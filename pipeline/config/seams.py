"""Measure the seams of a volume, whoever made it."""

from __future__ import annotations

from pydantic import Field

from pipeline.config.reading import ReadingFields
from pipeline.config.values import Kind, SeamLimit, Voxels


class SeamsJob(ReadingFields):
    """Measure the seams of a volume."""

    volume: str = Field(
        description="a result of `overtile segment`, or a prediction that other software made, of any format"
    )
    chunk: Voxels | None = Field(
        None, description="voxels between the borders that are looked at: 512,512; a run's own where there is one"
    )
    tile: Voxels | None = Field(
        None,
        description="voxels between borders of tiles, where they are other ones; a run's own where there is one",
    )
    stride: Voxels | None = Field(
        None,
        description="stride of the network along each axis; 16 where left out, and a run's own where there is one",
    )
    kind: Kind | None = Field(
        None,
        description="what the volume holds; a run's own, or labels where the values are whole numbers, and else"
        " probabilities",
    )
    seam_limit: SeamLimit = Field(0.52, description="share of the places nearby from which a seam counts")
