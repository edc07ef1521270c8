"""One run of the main job as the tasks of a flow run share it: opened once, worked on in regions, closed at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from flows.artifacts import FlowListener, show_link, show_markdown, show_table
from flows.events import announce
from flows.failures import show_failures
from flows.limits import gpu_slot
from flows.logs import log
from flows.texts import facts, seam_rows
from pipeline.config import SegmentJob
from pipeline.errors import FailedChunksError, InputError, OvertileError, RunBusyError
from pipeline.jobs.planning import REPLACEABLE, plan
from pipeline.jobs.reporting import report
from pipeline.jobs.segmentation import Segmentation
from pipeline.reporting.overview import legend, overview
from pipeline.run.dispatch import Dispatcher
from pipeline.run.folder import RunFolder
from pipeline.run.status import status
from pipeline.run.verify import Verification

REGION_SECONDS = 30.0
"""Predicted work that a region has at least; a task run costs 25 ms and 20 kB of the server's database."""

MOST_REGIONS = 256
"""Regions of a run at most: the server loses task runs when thousands come at once."""

REGIONS_AT_ONCE = 4
"""Regions that are worked on at a time; they share the workers."""


def region_count(seconds: float, chunks: int) -> int:
    """Return into how many regions to split a run.

    Args:
        seconds: predicted time of the whole run.
        chunks: number of chunks; a region has at least one.
    """
    return max(1, min(int(seconds / REGION_SECONDS), MOST_REGIONS, chunks))


class Session:
    """The run that a flow run's tasks work on.

    A plain class, so that Prefect passes it from task to task as it is and looks at nothing inside. What the tasks
    return is small and JSON-ready. Regions are numbered from 1.

    Args:
        job: the settings.
        regions: into how many regions the run is split; None for as many as its work is worth.
        stale: whether to compute chunks again that were made from an input or a model that has changed since.

    Attributes:
        regions: into how many regions the run is split; known when it is planned.
    """

    def __init__(self, job: SegmentJob, *, regions: int | None = None, stale: bool = False) -> None:
        self.regions = 0
        self._stale = stale and RunFolder(job.output).exists
        self._worked = False
        self._wanted = regions
        self._job = job
        self._stack = ExitStack()
        self._run: Segmentation
        self._parts: list[range]
        self._dispatcher: Dispatcher
        self._found: Verification
        self._fault: Exception | None = None
        self._interrupted = False

    def __enter__(self) -> Self:
        self._listener = self._stack.enter_context(FlowListener("segment", self._job.output))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        refused = isinstance(error, RunBusyError)  # the run is not over: another process is at it
        if (isinstance(error, Exception) and not refused) or (error is None and self._worked):
            announce(self._job.output, self._found_out(), error)
        self._stack.__exit__(kind, error, trace)

    def plan(self) -> dict[str, Any]:
        """Settle everything that will be done; returns the plan as ``overtile plan --json`` prints it.

        Raises:
            InputError: refused; nothing was written.
        """
        made = plan(self._job, replacing=REPLACEABLE if self._stale else frozenset())
        described = made.describe()
        self._run = Segmentation(made, self._listener)
        self._parts = made.grid.regions(self._wanted or region_count(described["seconds"], len(made.grid)))
        self.regions = len(self._parts)
        return described

    def prepare(self) -> bool:
        """Begin or resume the run and keep it open until the session ends; returns whether there is work left.

        Raises:
            RunMismatchError: the output belongs to another run, or another process is writing to it.
        """
        found = self._stack.enter_context(self._run.opened(stale=self._stale))
        if found.lost:
            self._listener.note(f"{found.lost} finished chunks are gone from the store; they are computed again")
        if found.stale:
            self._listener.note(f"{len(found.stale)} finished chunks are stale; they are computed again")
        if found.sealed:
            self._listener.note(f"{self._run.output} is complete already: nothing to do")
        self._worked = not found.sealed
        return self._worked

    @property
    def masked(self) -> bool:
        """Whether a mask restricts the run to a part of the image."""
        return self._run.plan.mask is not None

    def make_mask(self) -> dict[str, Any]:
        """Make the mask, or check the one that is there, and skip what it leaves out; shows how much that is.

        Raises:
            RunMismatchError: the mask is another one than the run began with.
            VolumeError: no foreground can be told.
        """
        self._run.make_mask()
        found = self.status()
        told = {name: found[name] for name in ("total", "skipped", "skipped_share")}
        said = {name: found["mask"][name] for name in ("kind", "method", "reason", "foreground")}
        skipped = f"{told['skipped']:,} of {told['total']:,} chunks are skipped · {self._job.output}"
        show_markdown("segment-mask", facts(self._job.output, said | told), skipped)
        return said | told

    def lacking(self) -> list[int]:
        """Return the numbers of the regions that have chunks which are neither done nor skipped."""
        ledger = self._run.ledger
        return [n for n, part in enumerate(self._parts, start=1) if len(ledger.lacking(part))]

    @contextmanager
    def workers(self) -> Iterator[None]:
        """Have the workers that :meth:`predict` needs; they end with the block. GPUs are waited for."""
        callers = min(REGIONS_AT_ONCE, len(self.lacking()) or 1)
        made = self._run.plan
        with gpu_slot(made.device), self._run.workers(callers=callers) as self._dispatcher:
            self._listener.follow(
                voxels=made.region.size / len(made.grid),
                picture=self._picture,
            )
            try:
                yield
            except BaseException:
                self._interrupted = True
                raise

    def _picture(self) -> tuple[str, str]:
        states = self._run.ledger.states()
        return overview(states, self._run.plan.grid.counts), legend(states)

    def predict(self, region: int) -> None:
        """Process what a region lacks.

        Raises:
            FailedChunksError: all of the region was tried, and some chunks failed.
            EnvironmentFaultError: the machine cannot go on.
            OvertileError: the work was stopped before the region's end.
        """
        part, ledger = self._parts[region - 1], self._run.ledger
        try:
            failed = self._run.predict(self._dispatcher, part).failed
        except Exception as fault:
            if not self._interrupted:  # else the workers were taken away on purpose
                self._fault = self._fault or fault
                raise
            failed = ()
        name, left = f"region {region} of {self.regions}", len(ledger.lacking(part))
        if failed:
            position = "/".join(map(str, self._run.plan.grid.position(failed[0])))
            raise FailedChunksError(
                f"{name}: {len(failed)} of {len(part)} chunks failed, the first one is {position}:"
                f" {ledger.failures[failed[0]].error}"
            )
        if left:
            raise OvertileError(f"{name}: stopped, {left} of {len(part)} chunks are pending; run again to go on")

    def check(self) -> None:
        """Say in truth what became of all regions; shows the chunks that failed.

        Raises:
            FailedChunksError: some chunks are neither done nor skipped.
            OvertileError: what stopped the work, if something did.
        """
        if self._fault is not None:
            raise self._fault
        try:
            self._run.check_complete()
        except FailedChunksError:
            show_failures(self.status(), self._job.input)
            raise

    def verify(self) -> dict[str, Any]:
        """Compare every stored byte with the ledger.

        Raises:
            DamageError: something is missing, damaged or foreign; running again repairs it.
        """
        self._found = self._run.verify()
        return self._found.to_json()

    def build_pyramid(self) -> None:
        """Make the coarser levels."""
        self._run.build_pyramid()

    def seal(self) -> str:
        """Write the seal, and show the seams if there are some; returns the digest of the whole result."""
        self._run.seal(self._found)
        seams = self.status()["seams"] or {}
        if seams.get("flagged"):
            show_table("segment-seams", seam_rows(seams), f"The result has seams · {self._job.output}")
        return self._found.root

    def publish(self) -> None:
        """Let viewers see the result."""
        self._run.publish()

    def conclude(self) -> None:
        """Raise FailedChunksError where the result was published with holes; shows the chunks that failed."""
        try:
            self._run.conclude()
        except FailedChunksError:
            show_failures(self.status(), self._job.input)
            raise

    def report(self) -> None:
        """Make the run's page and show where it is; a page that cannot be made is no reason to fail."""
        try:
            page = report(self._job.output)
        except Exception as error:  # whatever it is, the result is sealed
            log.warning("the report cannot be made (%s: %s)", type(error).__name__, error)
        else:
            show_link("segment-report", page, "The report")

    def _found_out(self) -> dict[str, Any]:
        """Return the run's status; nothing where there is no run."""
        try:
            return self.status()
        except (InputError, OSError):
            return {}

    def status(self) -> dict[str, Any]:
        """Return the run's status, as :func:`pipeline.status` gives it."""
        return status(self._job.output)
