"""Compare variants of one training: the same data, the same seeds, the same held-out regions."""

from pipeline.jobs.comparing.compare import compare
from pipeline.jobs.comparing.plan import Comparison, begin
from pipeline.jobs.comparing.summary import summarise_all
from pipeline.jobs.comparing.trial import Trial, run_trial

__all__ = ["Comparison", "Trial", "begin", "compare", "run_trial", "summarise_all"]
