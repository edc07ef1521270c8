"""What an ingest records of itself when it begins: who it is, and what else is worth keeping."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from pipeline.config import IngestJob
from pipeline.jobs.ingest_source import Copied, describe_source
from pipeline.jobs.sealing import now
from pipeline.store import absolute
from pipeline.volume.copying import FINEST, CopyPlan
from pipeline.volume.file_image import absolute_image

KIND = "ingest"
"""What a run of this kind calls itself in its record."""

ALGORITHM = 1
"""Version of what decides the stored bytes beside the settings."""


def identity(job: IngestJob, copied: Copied, plan: CopyPlan) -> dict[str, Any]:
    """Return everything that decides the bytes of the result but the files' content, which each chunk knows."""
    spec = plan.spec
    return {
        "kind": KIND,
        "algorithm": ALGORITHM,
        "source": describe_source(job),
        "layout": {
            "axes": spec.axes,
            "shape": list(spec.shape),
            "channels": spec.channels,
            "dtype": spec.dtype.name,
            "shard": list(spec.shard),
            "slab": list(plan.slab),
        },
        "space": {
            "voxel_size": list(spec.space.voxel_size),
            "translation": list(spec.space.translation),
            "unit": spec.space.unit,
        },
        "classes": None if copied.classes is None else list(copied.classes),
        "pyramid": job.pyramid,
    }


def run_details(job: IngestJob, copied: Copied, plan: CopyPlan) -> dict[str, Any]:
    """Return what a run records beside its identity, JSON-ready."""
    settings = job.model_dump(mode="json")
    settings |= {name: absolute_image(settings[name]) for name in ("source", "like") if settings[name] is not None}
    return {
        "kind": KIND,
        "array": FINEST,
        "grid": {"shape": list(plan.grid.shape), "chunk": list(plan.grid.chunk)},
        "settings": settings | {"output": absolute(job.output)},
        "classes": list(copied.classes or ()),
        "versions": {name: importlib.metadata.version(name) for name in ("overtile", "zarr", "numpy")}
        | {"python": platform.python_version()},
        "created": now(),
    }
