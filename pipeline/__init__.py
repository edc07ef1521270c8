"""Overtile: exact, resumable segmentation of volumes that fit in no memory.

The public names; each is imported from its home when it is first used, so that planning and looking at runs
never pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config import (
        AggregateJob,
        CheckJob,
        CollectionJob,
        CompareJob,
        ConvertJob,
        EvaluateJob,
        ExportJob,
        IngestJob,
        Pair,
        SeamsJob,
        SegmentJob,
        TrainJob,
    )
    from pipeline.errors import OvertileError
    from pipeline.jobs.aggregation import aggregate
    from pipeline.jobs.check import check_model
    from pipeline.jobs.collection import collect
    from pipeline.jobs.comparing import compare
    from pipeline.jobs.convert import convert
    from pipeline.jobs.evaluation import evaluate
    from pipeline.jobs.export import export
    from pipeline.jobs.info import info
    from pipeline.jobs.ingest import ingest
    from pipeline.jobs.planning import plan
    from pipeline.jobs.replay import replay
    from pipeline.jobs.reporting import report
    from pipeline.jobs.rerun import rerun
    from pipeline.jobs.seams import seams
    from pipeline.jobs.segment import segment
    from pipeline.jobs.training import train
    from pipeline.run.repair import repair
    from pipeline.run.status import status
    from pipeline.run.verify import verify

_HOMES = {
    "AggregateJob": "pipeline.config",
    "CheckJob": "pipeline.config",
    "CollectionJob": "pipeline.config",
    "CompareJob": "pipeline.config",
    "ConvertJob": "pipeline.config",
    "EvaluateJob": "pipeline.config",
    "ExportJob": "pipeline.config",
    "IngestJob": "pipeline.config",
    "OvertileError": "pipeline.errors",
    "Pair": "pipeline.config",
    "SeamsJob": "pipeline.config",
    "SegmentJob": "pipeline.config",
    "TrainJob": "pipeline.config",
    "aggregate": "pipeline.jobs.aggregation",
    "check_model": "pipeline.jobs.check",
    "collect": "pipeline.jobs.collection",
    "compare": "pipeline.jobs.comparing",
    "convert": "pipeline.jobs.convert",
    "evaluate": "pipeline.jobs.evaluation",
    "export": "pipeline.jobs.export",
    "info": "pipeline.jobs.info",
    "ingest": "pipeline.jobs.ingest",
    "plan": "pipeline.jobs.planning",
    "repair": "pipeline.run.repair",
    "replay": "pipeline.jobs.replay",
    "report": "pipeline.jobs.reporting",
    "rerun": "pipeline.jobs.rerun",
    "seams": "pipeline.jobs.seams",
    "segment": "pipeline.jobs.segment",
    "status": "pipeline.run.status",
    "train": "pipeline.jobs.training",
    "verify": "pipeline.run.verify",
}

__all__ = [
    "AggregateJob",
    "CheckJob",
    "CollectionJob",
    "CompareJob",
    "ConvertJob",
    "EvaluateJob",
    "ExportJob",
    "IngestJob",
    "OvertileError",
    "Pair",
    "SeamsJob",
    "SegmentJob",
    "TrainJob",
    "aggregate",
    "check_model",
    "collect",
    "compare",
    "convert",
    "evaluate",
    "export",
    "info",
    "ingest",
    "plan",
    "repair",
    "replay",
    "report",
    "rerun",
    "seams",
    "segment",
    "status",
    "train",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
