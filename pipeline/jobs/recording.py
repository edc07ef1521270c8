"""What a run records of itself when it begins, and what each worker process is given to do."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Any

from pipeline.jobs.sealing import now
from pipeline.predict.forward import EngineSpec
from pipeline.predict.plan import Plan
from pipeline.predict.work import SegmentWork, SourceSpec
from pipeline.run.status import MASK
from pipeline.store import absolute
from pipeline.volume.file_image import absolute_image
from pipeline.volume.mask.stored import MaskSpec

ARRAY = "0"
"""Name of the array that chunks are written to: the finest level."""


def run_details(plan: Plan) -> dict[str, Any]:
    """Return what a run records beside its identity, JSON-ready."""
    return {
        "kind": "segmentation",
        "array": ARRAY,
        "grid": {"shape": list(plan.grid.shape), "chunk": list(plan.grid.chunk)},
        "settings": plan.job.model_dump(mode="json") | _absolute_paths(plan),
        "plan": plan.describe(),
        "classes": list(plan.header.classes),
        "versions": {name: _version(name) for name in ("overtile", "torch", "zarr", "distributed", "numpy")}
        | {"python": platform.python_version()},
        "created": now(),
    }


def segment_work(plan: Plan) -> SegmentWork:
    """Return the description of the work that each worker process gets."""
    paths = _absolute_paths(plan)
    source = SourceSpec(plan.resolution.spec(paths["input"]), plan.region.start)
    engine = EngineSpec(
        paths["model"],
        plan.model_digest,
        plan.precision,
        plan.device,
        plan.batch,
        plan.cluster.threads,
        plan.tiling.turns,
        plan.tiling.weighting,
    )
    array = f"{paths['output']}/{ARRAY}"
    mask = MaskSpec(f"{paths['output']}.run/{MASK}", plan.volume.shape) if plan.mask else None
    return SegmentWork(
        plan.fingerprint, source, array, plan.grid, plan.layout, engine, plan.output, mask, plan.nodata
    )


def _absolute_paths(plan: Plan) -> dict[str, str]:
    job = plan.job
    paths = {"input": absolute_image(job.input), "model": absolute(job.model), "output": absolute(job.output)}
    return paths if job.mask in ("auto", "none") else paths | {"mask": absolute_image(job.mask)}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
