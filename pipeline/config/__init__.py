"""The job models: the one source of the command line's options, the flows' parameters and the server's forms.

A job is loose at the edge (``"2048,2048"``, ``"4GiB"``, ``"0:1000,500:2500"``) and strict inside: frozen, typed,
and every key that it does not know is refused with the nearest one that it does.
"""

from pipeline.config.aggregate import AggregateJob
from pipeline.config.collection import CollectionJob
from pipeline.config.compare import CompareJob
from pipeline.config.evaluate import EvaluateJob
from pipeline.config.export import ExportJob
from pipeline.config.load import explain, load_job
from pipeline.config.models import ConvertJob
from pipeline.config.reading import ReadingFields, reading_of
from pipeline.config.seams import SeamsJob
from pipeline.config.segment import CheckJob, SegmentJob
from pipeline.config.training import Augmentation, Elastic, Pair, Split, TrainJob
from pipeline.config.values import Job
from pipeline.config.volumes import InfoJob, IngestJob

__all__ = [
    "AggregateJob",
    "Augmentation",
    "CheckJob",
    "CollectionJob",
    "CompareJob",
    "ConvertJob",
    "Elastic",
    "EvaluateJob",
    "ExportJob",
    "InfoJob",
    "IngestJob",
    "Job",
    "Pair",
    "ReadingFields",
    "SeamsJob",
    "SegmentJob",
    "Split",
    "TrainJob",
    "explain",
    "load_job",
    "reading_of",
]
