"""One measured process: a job by itself. `python -m benchmarks.run_bare JOB` prints moments as JSON."""

from __future__ import annotations

import json
import sys
import time

from pipeline.config import SegmentJob
from pipeline.jobs.reporting import report
from pipeline.jobs.segment import segment

IMPORTED = time.time()


def main(job: str) -> None:
    """Run the job and make its page; prints moments as `benchmarks.run_flow` does."""
    given = SegmentJob.model_validate_json(job)
    segment(given)
    report(given.output)
    print(json.dumps([IMPORTED, IMPORTED, time.time(), time.time()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
