"""Overtile: exact, resumable segmentation of volumes that fit in no memory.

The public names; each is imported from its home when it is first used, so that planning and looking at runs
never pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import EvaluateJob, IngestJob, Pair, SegmentJob, TrainJob
    from pipeline.errors import OvertileError
    from pipeline.jobs.planning import plan
    from pipeline.jobs.segment import rerun, segment
    from pipeline.run.status import status
    from pipeline.run.verify import verify

_HOMES = {
    "EvaluateJob": "pipeline.config",
    "IngestJob": "pipeline.config",
    "OvertileError": "pipeline.errors",
    "Pair": "pipeline.config",
    "SegmentJob": "pipeline.config",
    "TrainJob": "pipeline.config",
    "plan": "pipeline.jobs.planning",
    "rerun": "pipeline.jobs.segment",
    "segment": "pipeline.jobs.segment",
    "status": "pipeline.run.status",
    "verify": "pipeline.run.verify",
}

__all__ = [
    "EvaluateJob",
    "IngestJob",
    "OvertileError",
    "Pair",
    "SegmentJob",
    "TrainJob",
    "plan",
    "rerun",
    "segment",
    "status",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
