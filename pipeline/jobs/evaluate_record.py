"""What an evaluation records of itself when it begins, and which workers it gets."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from pipeline.config import EvaluateJob
from pipeline.config.cluster import load_cluster
from pipeline.evaluation.plan import EvaluationPlan
from pipeline.jobs.sealing import now
from pipeline.run.cluster_spec import ClusterSpec, choose_workers, tls_of
from pipeline.run.folder import EVALUATION
from pipeline.run.machine import this_machine
from pipeline.store import absolute
from pipeline.volume.file_image import absolute_image

OUTSIDE = "outside of what is compared"
"""Why a chunk is skipped that the region, or the other volume, does not reach."""


def run_details(plan: EvaluationPlan, out: Path) -> dict[str, Any]:
    """Return what a run records beside its identity, JSON-ready."""
    settings = plan.job.model_dump(mode="json") | {"out": str(out.resolve())}
    settings |= {name: absolute(settings[name]) for name in ("prediction", "target")}
    settings |= {
        name: absolute_image(settings[name]) for name in ("within", "groups") if settings[name] is not None
    }
    return {
        "kind": EVALUATION,
        "array": None,
        "grid": {"shape": list(plan.grid.shape), "chunk": list(plan.grid.chunk)},
        "settings": settings,
        "classes": list(plan.pair.names or ()),
        "versions": {name: importlib.metadata.version(name) for name in ("overtile", "zarr", "numpy", "scipy")}
        | {"python": platform.python_version()},
        "created": now(),
    }


def cluster_of(job: EvaluateJob) -> ClusterSpec:
    """Return the workers that a job asks for.

    Raises:
        PlanError: more than there are, or workers asked of a cluster that has its own.
    """
    machine = this_machine()
    spec, _ = choose_workers(
        machine,
        device="cpu",
        workers=job.workers,
        threads=1,
        memory_limit=job.memory_limit,
        address=job.scheduler,
        site=load_cluster(job.cluster),
        tls=tls_of(job),
    )
    return spec
