"""Where the result of each volume of a collection lies: by the naming rule, and never two in one place."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config import CollectionJob
from pipeline.errors import InputError
from pipeline.jobs.archive import Member, find_members, name_of, would_take
from pipeline.store import absolute


@dataclass(frozen=True, slots=True)
class Volume:
    """A member of an archive, and the address of its result."""

    member: Member
    result: str


def check_apart(job: CollectionJob) -> None:
    """Refuse results that would be taken for volumes at the next time.

    Raises:
        InputError: they would.
    """
    for folder in (job.output, job.volumes or job.output):
        if would_take(job, f"{absolute(folder)}/result.zarr"):
            raise InputError(
                f"output {folder}: results there would be taken for volumes of {job.input}; choose a folder outside of"
                " it, or --accept without .zarr"
            )


def name_results(job: CollectionJob) -> list[Volume]:
    """Return all volumes, each with the place of its result.

    Raises:
        InputError: two of them would have the same result.
    """
    found: dict[str, Volume] = {}
    for member in find_members(job):
        own = member.settings.get("output")
        name = str(own) if own else job.naming.format_map(_naming(member.path, job.accept))
        place = name if own and ("/" in name) else f"{job.output.rstrip('/')}/{name}"
        result = absolute(f"{place.removesuffix('.zarr')}.zarr")
        if result in found:
            raise InputError(
                f"{found[result].member.url} and {member.url}: both have the result {result}; give --naming '{{path}}',"
                " or a column `output` in the manifest"
            )
        found[result] = Volume(member, result)
    return list(found.values())


def _naming(path: str, accept: tuple[str, ...]) -> dict[str, str]:
    *folders, _ = path.split("/")
    name = name_of(path, accept)
    return {"name": name, "folder": folders[-1] if folders else "", "path": "-".join([*folders, name])}
