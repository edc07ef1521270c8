"""Plan a segmentation as it would be carried out: with what a run that is there already has settled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import InputError, RunMismatchError
from pipeline.jobs.masking import with_skipped
from pipeline.predict.plan import Plan
from pipeline.predict.planner import make_plan
from pipeline.run.fingerprint import differences
from pipeline.run.folder import RunFolder
from pipeline.run.machine import Machine, this_machine
from pipeline.run.tls import check_cluster
from pipeline.store import LocalPlace, absolute, open_place, same_place
from pipeline.volume.file_image import split_address

REPLACEABLE = frozenset({"model", "numeric"})
"""Parts of a run's identity that a rerun of what is stale may replace: the chunks stay what and where they are."""


def plan(job: SegmentJob, *, machine: Machine | None = None, replacing: frozenset[str] = frozenset()) -> Plan:
    """Plan a segmentation without doing any of it; writes nothing, imports no torch.

    Args:
        job: the settings.
        machine: what to plan for; None for this one.
        replacing: parts of the recorded run's identity that may be others now.

    Raises:
        InputError: the job cannot be done as asked, or the output belongs to another run; says what to change.
    """
    check_output(job)
    folder = RunFolder(job.output)
    recorded = folder.read_segmentation() if folder.exists else None
    if recorded is None and any(True for _ in folder.output.entries()):
        raise RunMismatchError(
            f"{job.output}: exists, but no run of Overtile made it; choose another output, or remove it"
        )
    made = make_plan(job, machine or this_machine(), recorded["plan"] if recorded else None)
    check_cluster(made.cluster)
    if recorded is not None and differing_parts(recorded["identity"], made.identity) - replacing:
        found = differences(recorded["identity"], made.identity)
        raise RunMismatchError(
            f"{job.output}: belongs to another run; choose another output, or remove it and {folder.place.url}."
            f" What differs: {'; '.join(found)}"
        )
    return with_skipped(made, folder)


def differing_parts(recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> set[str]:
    """Return the names of the parts in which two identities differ."""
    both = {*recorded, *asked}
    return {part for part in both if differences({part: recorded.get(part)}, {part: asked.get(part)})}


def check_output(job: SegmentJob) -> None:
    """Check that the output is apart from what the job reads.

    Raises:
        InputError: the output is, holds or lies in the input or the model, or is no name of a Zarr store.
    """
    sources = {"input": split_address(job.input)[0], "model": job.model}
    if job.mask not in ("auto", "none"):
        sources["mask"] = split_address(job.mask)[0]
    for name, source in sources.items():
        if same_place(job.output, source):
            raise InputError(
                f"output {job.output}: is the {name}, holds it or lies in it ({absolute(source)}); choose another place"
            )
    if not job.output.endswith(".zarr"):
        raise InputError(f"output {job.output}: the name of a result ends in .zarr")
    place = open_place(absolute(job.output))
    if isinstance(place, LocalPlace) and not place.root.parent.is_dir():
        raise InputError(f"output {job.output}: there is no folder {place.root.parent}; make it first")
