"""The main job without Dask: its real phases, plan, network and ledger, with the chunks processed in this thread."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import SegmentJob
from pipeline.errors import EnvironmentFaultError, OvertileError, StoreError
from pipeline.jobs.listener import Silent
from pipeline.jobs.planning import plan
from pipeline.jobs.recording import ARRAY
from pipeline.jobs.segmentation import Segmentation
from pipeline.run.dispatch import Outcome
from pipeline.run.folder import RunFolder
from pipeline.run.journal import replay
from pipeline.run.ledger import Ledger
from pipeline.run.records import DONE, FAILED, Record
from pipeline.run.verify import verify
from pipeline.run.work import Processor
from pipeline.store import PARTIAL, Place, open_place

Hook = Callable[[int], None]
"""Called with a chunk's number before it is processed; may raise."""


class InlineDispatcher:
    """Processes chunks one after the other; an error of the machine stops it, any other is its chunk's."""

    def __init__(self, processor: Processor, ledger: Ledger, before: Hook | None = None) -> None:
        self._processor = processor
        self._ledger = ledger
        self._before = before or (lambda chunk: None)

    def process(self, chunks: range) -> Outcome:
        return self.process_listed([int(c) for c in self._ledger.lacking(chunks)])

    def process_listed(self, chunks: Sequence[int]) -> Outcome:
        for chunk in chunks:
            self._before(chunk)
            self._ledger.append([self._attempt(chunk)])
        return Outcome(len(chunks), tuple(c for c in chunks if self._ledger.state(c) == FAILED))

    def _attempt(self, chunk: int) -> Record:
        attempt = self._ledger.attempts(chunk) + 1
        try:
            return Record(chunk, DONE, attempt, self._processor.process(chunk))
        except (OSError, StoreError) as error:
            raise EnvironmentFaultError(f"stopped: {error}. What is done is kept; run again to resume") from error
        except Exception as error:
            return Record(chunk, FAILED, attempt, error=str(error), kind=type(error).__name__)


class Inline(Segmentation):
    """The main job's phases, with chunks processed in this thread."""

    before: Hook | None = None

    @contextmanager
    def workers(self, *, callers: int = 1) -> Iterator[InlineDispatcher]:  # type: ignore[override]
        yield InlineDispatcher(self.work().open(1), self.ledger, self.before)


def drive(job: SegmentJob, *, before: Hook | None = None) -> None:
    """Take a run through its phases as ``pipeline.jobs.segment`` does; running it again resumes."""
    run = Inline(plan(job), Silent())
    run.before = before
    with run.opened() as found:
        if found.sealed:
            return
        run.make_mask()
        if len(run.ledger.lacking()):
            with run.workers() as dispatcher:
                run.predict(dispatcher)  # type: ignore[arg-type]
        run.check_complete()
        verified = run.verify()
        run.build_pyramid()
        run.seal(verified)
        run.publish()


def tiny_job(root: Path, output: str | Path, **settings: Any) -> SegmentJob:
    """Return a job of 2 x 2 chunks over ``root/image.zarr`` with ``root/model.safetensors``."""
    return SegmentJob.model_validate(
        {
            "input": str(root / "image.zarr"),
            "output": str(output),
            "model": str(root / "model.safetensors"),
            "chunk": (32, 32),
            "tile": (32, 32),
            "workers": 1,
            "pyramid": False,
            **settings,
        }
    )


@dataclass(frozen=True)
class Finding:
    """What there is to say of an output: is it finished, and what is its root digest?"""

    state: str
    root: str
    published: bool


def look(output: str | Path) -> Finding:
    """Look at an output as a stranger would, and check what must hold at any time.

    No chunk is claimed done whose stored bytes are not those that were claimed, nothing foreign is stored, and what
    carries a finished image's attributes is sealed or partial, and whole.
    """
    folder = RunFolder(output)
    published = is_image(open_place(output))
    if not folder.exists:
        assert not published
        return Finding("none", "", published)
    found = verify(output)
    claims = {r.chunk for r in replay(folder.journal) if r is not None and r.state == DONE}
    if claims:
        assert not found.damaged, found
        assert not found.missing, found
        assert not found.foreign, found
    if folder.state != "incomplete":
        assert found.incomplete == 0
        assert found.sealed_root == found.root
    if published:
        assert folder.state != "incomplete"
    return Finding(folder.state, found.root, published)


def is_image(place: Place) -> bool:
    """Whether a store carries a finished image's attributes."""
    try:
        return "ome" in json.loads(place.get("zarr.json")).get("attributes", {})
    except FileNotFoundError:
        return False


def stored(output: str | Path) -> dict[str, bytes]:
    """Return the stored chunks of an output, without what was left half written."""
    place = open_place(output).at(ARRAY)
    keys = [entry.key for entry in place.entries("c") if not entry.key.endswith(PARTIAL)]
    return {key: place.get(key) for key in keys}


REFUSALS = (OvertileError, OSError)
"""What a run may end with when something fails beneath it: never another kind of error, and never nothing."""
