"""Plan a segmentation as it would be carried out: with what a run that is there already has settled."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import SegmentJob
from pipeline.errors import InputError, RunMismatchError
from pipeline.predict.plan import Plan
from pipeline.predict.planner import make_plan
from pipeline.run.fingerprint import differences
from pipeline.run.folder import RunFolder
from pipeline.run.machine import Machine, this_machine


def plan(job: SegmentJob, *, machine: Machine | None = None) -> Plan:
    """Plan a segmentation without doing any of it; writes nothing, imports no torch.

    Raises:
        InputError: the job cannot be done as asked, or the output belongs to another run; says what to change.
    """
    output = check_output(job)
    folder = RunFolder(output)
    recorded = folder.read() if folder.exists else None
    if recorded is None and output.exists():
        raise RunMismatchError(
            f"{output}: exists, but no run of Overtile made it; choose another output, or remove it"
        )
    made = make_plan(job, machine or this_machine(), recorded["plan"] if recorded else None)
    if recorded is not None and recorded["fingerprint"] != made.fingerprint:
        found = differences(recorded["identity"], made.identity)
        raise RunMismatchError(
            f"{output}: belongs to another run; choose another output, or remove it and {folder.path}."
            f" What differs: {'; '.join(found)}"
        )
    return made


def check_output(job: SegmentJob) -> Path:
    """Return the output's path, if it is apart from what the job reads.

    Raises:
        InputError: the output is, holds or lies in the input or the model, or is no name of a Zarr store.
    """
    output = Path(job.output)
    target = output.resolve()
    for name, source in (("input", Path(job.input).resolve()), ("model", Path(job.model).resolve())):
        if target == source or target in source.parents or source in target.parents:
            raise InputError(
                f"output {output}: is the {name}, holds it or lies in it ({source}); choose another place"
            )
    if output.suffix != ".zarr":
        raise InputError(f"output {output}: the name of a result ends in .zarr")
    if not target.parent.is_dir():
        raise InputError(f"output {output}: there is no folder {target.parent}; make it first")
    return output
