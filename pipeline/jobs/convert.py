"""Convert a network of somebody else: from its weights, or its package, to one of our checkpoints."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import ConvertJob
from pipeline.errors import EnvironmentFaultError, InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.outputs import checkpoint_path
from pipeline.model.checkpoint import describe
from pipeline.model.constructors import allowed_packages, check_allowed
from pipeline.model.exactness import analyse
from pipeline.model.foreign.bioimageio import read_package
from pipeline.model.foreign.build import build
from pipeline.model.foreign.described import Described
from pipeline.model.foreign.guard import run_guarded
from pipeline.model.foreign.package import is_package, opened
from pipeline.model.foreign.states import check_file
from pipeline.run.machine import this_machine

_GIVEN = ("dims", "in_channels", "classes", "output_meaning", "mean", "std", "voxel_size", "unit", "threshold")
"""What a job may say of a network; it wins over its package."""


def convert(job: ConvertJob, *, listener: Listener | None = None) -> dict[str, Any]:
    """Make a checkpoint of a network of somebody else, with what is measured of it.

    What can be checked without running its code is checked first. The rest happens in a process of its own, which
    is ended when it takes too long or too much memory: the network is built, filled, measured, written to a
    temporary folder, read again, and compared with itself and with the package's reference output. Only then the
    checkpoint gets its name; one that is there already stays as it is until then.

    Args:
        job: the settings.
        listener: who is told what is noteworthy.

    Returns:
        What ``describe`` says of the checkpoint, and ``checkpoint`` (path), ``reference`` (largest absolute
        difference from the package's reference output, None without one) and ``notes``.

    Raises:
        InputError: refused; nothing was written.
        EnvironmentFaultError: the checkpoint cannot be written.
    """
    listener = listener or Silent()
    output = _output(job)
    with _described(job) as described, _folder(output) as folder:
        check_allowed(described.constructor, allowed_packages() | described.trust)
        check_file(described.weights, described.trust)
        listener.note(f"building and measuring {described.constructor}, for {job.time_limit:g} s at most")
        written = folder / output.name
        found = run_guarded(
            build_in_process,
            (described, written),
            seconds=job.time_limit,
            memory=job.memory_limit or this_machine().memory * 3 // 4,
        )
        for note in found["notes"]:
            listener.note(note)
        _place(written, output)
    return {"checkpoint": str(output), "reference": found["reference"], "notes": found["notes"]} | describe(output)


def build_in_process(argument: tuple[Described, Path]) -> dict[str, Any]:
    """Build a checkpoint with the real analysis; called in the process of its own."""
    described, target = argument
    return build(described, target, analyse=analyse)


def _output(job: ConvertJob) -> Path:
    output = checkpoint_path(job.output)
    if output.resolve() == Path(job.weights).resolve():
        raise InputError(f"output {job.output}: is the file of weights itself; choose another name")
    return output


@contextmanager
def _described(job: ConvertJob) -> Iterator[Described]:
    """Give what the job and the package say of the network; a package's files are there for as long."""
    path = Path(job.weights)
    if not is_package(path):
        yield _completed(job, _from_job(job))
        return
    if job.constructor is not None or job.arguments:
        raise InputError(
            f"constructor, arguments: the package {path} names its own; leave them out, or give its file of weights"
        )
    with opened(path) as description:
        found = read_package(
            description, trust=frozenset(job.trust), normalised=job.mean is not None, said=job.output_meaning
        )
        yield _completed(job, found)


def _from_job(job: ConvertJob) -> Described:
    if job.constructor is None:
        raise InputError(
            f"constructor: is needed for {job.weights}, which holds weights alone: module:callable, for example"
            " monai.networks.nets:UNet, and its arguments in the job file"
        )
    notes = () if job.mean else ("no mean and std were given: the network gets voxels as they are stored",)
    return Described(
        weights=Path(job.weights),
        constructor=job.constructor,
        arguments=job.arguments,
        trust=frozenset(job.trust),
        notes=notes,
    )


def _completed(job: ConvertJob, found: Described) -> Described:
    """Add what the job says, which wins."""
    said = {name: value for name in _GIVEN if (value := getattr(job, name)) is not None}
    if job.axes is not None:
        said["dims"] = len(job.axes)
    for name in ("dims", "in_channels"):
        there = getattr(found, name)
        if there is not None and said.get(name, there) != there:
            raise InputError(f"{name} {said[name]}: the package's network has {there}; leave {name} out")
    return replace(found, **said)


@contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """Give a temporary folder on the disk of the output, as near to it as there are folders."""
    near = next(parent for parent in output.absolute().parents if parent.exists())
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=near))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place(written: Path, output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        written.replace(output)
    except OSError as error:
        raise EnvironmentFaultError(f"The checkpoint {output} cannot be written: {error}.") from error
