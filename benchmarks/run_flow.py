"""One measured process: a job as a flow run. `python -m benchmarks.run_flow JOB REGIONS` prints moments as JSON."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from flows import segment
from pipeline.config import SegmentJob

IMPORTED = time.time()


def main(job: str, regions: str) -> None:
    """Run the job; prints when it was imported, when its work began and ended, and when the flow returned."""
    moments = [IMPORTED]
    carry_out = segment.carry_out

    def timed(*arguments: Any, **settings: Any) -> dict[str, Any]:
        moments.append(time.time())
        found = carry_out(*arguments, **settings)
        moments.append(time.time())
        return found

    segment.carry_out = timed
    segment.segment_flow(SegmentJob.model_validate_json(job), regions=int(regions))
    print(json.dumps([*moments, time.time()]))


if __name__ == "__main__":
    main(*sys.argv[1:])
