"""What an evaluation and a table of many runs keep of one run: who made it, of what, how, and what became of it."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from pipeline.errors import InputError
from pipeline.run.folder import RunFolder
from pipeline.run.status import status
from pipeline.store import absolute

COUNTS = ("total", "done", "failed", "skipped", "pending")
"""Numbers of chunks that are kept."""


class RunSummary(BaseModel):
    """One run, by its folder alone.

    Attributes:
        id: of the run, wherever it is moved to.
        output: address of the result.
        fingerprint: digest of everything that decides the bytes.
        state: ``incomplete``, ``partial`` or ``sealed``.
        root: digest of the whole result; None while it is not sealed.
        created: when it began.
        sealed: when it was sealed; None while it is not.
        input: address of the image.
        model: address of the checkpoint.
        model_digest: digest of the checkpoint.
        settings: the job.
        workers: how many were planned.
        chunks: how many there are (``total``), and how many are in each state.
        voxels: of the chunks that are done.
        seconds: a phase, summed over workers.
        seams: what is known of them, see :func:`pipeline.run.seams.seams`; None where nothing is.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    output: str
    fingerprint: str
    state: str
    root: str | None = None
    created: AwareDatetime | None = None
    sealed: AwareDatetime | None = None
    input: str
    model: str
    model_digest: str
    settings: dict[str, Any]
    workers: int = Field(ge=1)
    chunks: dict[str, int]
    voxels: int = Field(ge=0)
    seconds: dict[str, float]
    seams: dict[str, Any] | None = None

    @property
    def elapsed(self) -> float | None:
        """Seconds from the beginning to the seal, pauses included; None while it is not sealed."""
        return (self.sealed - self.created).total_seconds() if self.sealed and self.created else None

    @property
    def network_seconds(self) -> float:
        """Seconds that the network would have taken alone, on all workers at once."""
        return self.seconds.get("compute", 0.0) / self.workers


def summarise(folder: RunFolder) -> RunSummary:
    """Return what is kept of a run of ``overtile segment``.

    Raises:
        InputError: there is no run, it is of another kind, or its record lacks something.
    """
    recorded = folder.read_segmentation()
    output = absolute(folder.output.url)
    try:
        found = status(output)
        settings = recorded["settings"]
        return RunSummary(
            id=recorded["write"],
            output=output,
            fingerprint=recorded["fingerprint"],
            state=found["state"],
            root=(found["seal"] or {}).get("root"),
            created=recorded.get("created"),
            sealed=(found["seal"] or {}).get("sealed"),
            input=absolute(settings["input"]),
            model=absolute(settings["model"]),
            model_digest=recorded["identity"]["model"]["digest"],
            settings=settings,
            workers=recorded["plan"]["workers"],
            chunks={name: found[name] for name in COUNTS},
            voxels=found["voxels"],
            seconds=found["seconds"],
            seams=found["seams"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{folder.place.url}: the run's record lacks something ({type(error).__name__}: {error}); it was written"
            " by another version, or damaged"
        ) from error
