"""A whole archive: the settings of the main job, shared by all volumes, and which volumes there are."""

from __future__ import annotations

import string
from typing import Annotated, Self

from pydantic import Field, model_validator

from pipeline.config.segment import SegmentJob
from pipeline.config.values import Names

NAME_FIELDS = ("name", "folder", "path")
"""What a naming rule may name: the volume's own name, that of its folder, its path below the source."""

SUFFIXES = (
    *(".zarr", ".ome.zarr", ".tif", ".tiff", ".ome.tif", ".ome.tiff", ".svs", ".ndpi", ".mrxs", ".scn", ".bif"),
    *(".vrt", ".jp2", ".png", ".jpg", ".jpeg", ".npy"),
)
"""Names of volumes and images end in one of these, where nothing else is said."""


class CollectionJob(SegmentJob):
    """Segment every volume of an archive, each one as a run of its own; the other settings are shared by all."""

    input: str = Field(
        description="archive: a folder, a pattern ('scans/**/*.svs'), an object-store prefix, or a manifest (.csv,"
        " .parquet) with a column `path` and a column for each setting that differs between volumes"
    )
    output: str = Field(description="folder or prefix for the results, and for collection.json, the list of them")
    naming: str = Field(
        "{name}", description="name of a result, without .zarr; of {name}, {folder} and {path} of its volume"
    )
    accept: Names = Field(SUFFIXES, description="how names of volumes end; others are passed over: .svs,.zarr")
    concurrency: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="volumes at a time; each one shares the machine, or has workers of its own by --scheduler"
    )
    settle: float = Field(
        60.0,
        ge=0,
        description="seconds for which a file must have stayed as it is; else it is left for the next time",
    )
    retry_failed: bool = Field(
        False, description="try volumes again that were refused or lack chunks, and have not changed since"
    )
    ingest: bool = Field(False, description="bring each volume into OME-Zarr first, and segment that")
    volumes: str | None = Field(
        None, description="folder or prefix for what --ingest makes; OUTPUT/volumes where left out"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        try:
            named = [name for _, name, _, _ in string.Formatter().parse(self.naming) if name is not None]
        except ValueError as error:
            raise ValueError(f"naming {self.naming!r}: {error}") from error
        unknown = sorted(set(named) - set(NAME_FIELDS))
        if unknown or not set(named) & {"name", "path"}:
            raise ValueError(f"naming {self.naming!r}: needs {{name}} or {{path}}, and knows {{folder}} besides")
        if self.volumes is not None and not self.ingest:
            raise ValueError("volumes is where --ingest puts what it makes; give both")
        return self
