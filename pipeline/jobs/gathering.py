"""Find the evaluations and runs that a table is made of: in folders of this machine, or named one by one."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import InputError
from pipeline.evaluation.record import METRICS, STATISTICS, Evaluation, read_evaluation
from pipeline.jobs.listener import Listener
from pipeline.run.folder import MAPS, RUN, SEGMENTATION, RunFolder
from pipeline.run.summary import RunSummary, summarise
from pipeline.store import PARTIAL, absolute, parse_address

ENDING = ".run"
"""How the folder of a run is called, behind the name of its result."""

_ZARR = frozenset({"zarr.json", ".zarray", ".zgroup"})
_EVALUATION = frozenset({METRICS, STATISTICS, STATISTICS + PARTIAL})


@dataclass(slots=True)
class Gathered:
    """What was found, each by its place.

    Attributes:
        evaluations: that can be read.
        runs: of ``overtile segment``, that can be read.
        broken: what cannot be read, and why.
        others: results of other kinds of runs (an ingest), which have no model and no metrics.
    """

    evaluations: list[Evaluation] = field(default_factory=list)
    runs: list[RunSummary] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def gather(sources: Sequence[str], *, tolerant: bool, listener: Listener) -> Gathered:
    """Read all evaluations and runs of the sources; the order of the sources does not matter.

    Args:
        sources: folders of evaluations, results, and folders that are searched for both.
        tolerant: whether what is broken is noted and passed over.
        listener: who is told what is done.

    Raises:
        InputError: a source is not there or holds nothing; or, unless tolerant, something in it is broken.
    """
    found = Gathered()
    places = sorted({place for source in sources for place in _places(source, found)})
    listener.phase("read", len(places), "evaluations and runs")
    for number, (kind, place) in enumerate(places, start=1):
        try:
            _READ[kind](place, found)
        except (InputError, OSError) as error:
            found.broken[place] = str(error)
        listener.progress(number, len(found.broken))
    if found.broken and not tolerant:
        raise InputError(_refusal(found.broken))
    return found


def _refusal(broken: dict[str, str]) -> str:
    told = [f"{why}" if place in why else f"{place}: {why}" for place, why in sorted(broken.items())]
    more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
    return (
        f"{len(told)} evaluation(s) or run(s) cannot be read: {'; '.join(told[:5])}{more}. Mend or remove them, or"
        " pass --broken list to have them named in the table"
    )


def _places(source: str, found: Gathered) -> Iterator[tuple[str, str]]:
    """Yield kind and place of everything that a source names or holds.

    Raises:
        InputError: it is not there, or holds nothing.
    """
    if not parse_address(source).is_local:
        if not RunFolder(source).exists:
            raise InputError(
                f"{source}: there is no run here; elsewhere than on this machine, name each result itself"
            )
        yield "run", absolute(source)
        return
    path = Path(absolute(source))
    output = path.with_name(path.name.removesuffix(ENDING)) if _is_run(path) else path
    if _is_run(path) or RunFolder(output).exists:
        yield "run", str(output)
        return
    if not path.is_dir() or _ZARR & set(os.listdir(path)):
        what = "is a volume without a run" if path.is_dir() else "is a file" if path.exists() else "is not there"
        raise InputError(f"{source}: {what}; name folders of evaluations, results, or folders that hold them")
    inside = list(_search(path, found))
    if not inside and not any(place.startswith(str(path)) for place in found.broken):
        raise InputError(f"{source}: holds no evaluation ({METRICS}) and no run (OUT.zarr{ENDING})")
    yield from inside


def _search(root: Path, found: Gathered) -> Iterator[tuple[str, str]]:
    """Yield what lies below a folder, behind links too; neither results nor the folders of runs are looked into."""

    def unlisted(error: OSError) -> None:
        found.broken[str(error.filename)] = f"cannot be listed ({error})"

    seen: set[Path] = set()
    for name, folders, files in os.walk(root, onerror=unlisted, followlinks=True):
        folder = Path(name).resolve()
        if folder in seen:  # a link that leads back
            folders.clear()
            continue
        seen.add(folder)
        runs = [each for each in folders if _is_run(folder / each)]
        if _EVALUATION & set(files) or MAPS + ENDING in runs:
            yield "evaluation", str(folder)
        for each in sorted(set(runs) - {MAPS + ENDING}):
            yield "run", str(folder / each.removesuffix(ENDING))
        folders[:] = [] if _ZARR & set(files) else sorted(set(folders) - set(runs))


def _is_run(path: Path) -> bool:
    """Whether a folder is that of a run: by what is in it, or by its name alone."""
    named = path.name.endswith(ENDING) and path.name != ENDING
    return named and (path.name.endswith(f".zarr{ENDING}") or (path / RUN).is_file())


def _read_evaluation(place: str, found: Gathered) -> None:
    run = RunFolder(Path(place) / MAPS)
    if run.exists and not run.is_sealed:
        raise InputError(f"{place}: the evaluation is not complete; `overtile rerun {place}` goes on with it")
    found.evaluations.append(read_evaluation(Path(place)))


def _read_run(place: str, found: Gathered) -> None:
    folder = RunFolder(place)
    if folder.read().get("kind", SEGMENTATION) != SEGMENTATION:
        found.others.append(place)
    else:
        found.runs.append(summarise(folder))


_READ = {"evaluation": _read_evaluation, "run": _read_run}
