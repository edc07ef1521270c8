"""The run's folder, ``OUT.zarr.run/``: who this run is, who may write to it, and whether it is sealed.

It lies beside the store and not in it, so that a copy of the result carries no state along, and a result whose
run is unfinished is recognised as such.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RunMismatchError
from pipeline.run.fingerprint import differences, fingerprint
from pipeline.run.lease import Lease, hold
from pipeline.run.objects import OBJECTS
from pipeline.store import Place, open_place

FORMAT = "overtile-run/1"

RUN, SEAL = "run.json", "seal.json"

SEGMENTATION, EVALUATION = "segmentation", "evaluation"
"""What the runs of these jobs call themselves, among the kinds of runs."""

MAPS = "statistics.zarr"
"""Name of an evaluation's result, in the folder that it writes to."""

PARTIAL, SEALED = "partial", "sealed"
"""States of a finished run: with failed chunks that were accepted, and with none."""

_EXPECTED: Mapping[str, Mapping[str, type]] = {
    RUN: {"format": str, "fingerprint": str, "identity": dict},
    SEAL: {"root": str, "state": str},
}
"""What a file of a run must hold at least."""


def result_in(named: str | Path) -> str | Path:
    """Return the result whose run a user means: what is named, or what the evaluation in a folder keeps its run beside.

    Args:
        named: a result (``OUT.zarr``), or the folder of an evaluation.
    """
    inside = f"{str(named).rstrip('/')}/{MAPS}"
    return inside if not RunFolder(named).exists and RunFolder(inside).exists else named


class RunFolder:
    """The files of one run.

    Attributes:
        output: place of the result.
        place: place of the run's own files.
    """

    def __init__(self, output: str | Path) -> None:
        self.output = open_place(output)
        self.place = self.output.beside(".run")

    @property
    def journal(self) -> Place:
        """Place of the journal's files."""
        return self.place.at("journal")

    def stored(self, array: str | None) -> Place:
        """Return the place of what chunks store: an array of the result, or objects of their own in the run's folder.

        Args:
            array: as the run recorded it; None of a run that stores no array.
        """
        return self.place.at(OBJECTS) if array is None else self.output.at(array)

    @property
    def exists(self) -> bool:
        """Whether a run has been recorded here."""
        return self.place.stats([RUN])[0] is not None

    @property
    def state(self) -> str:
        """``incomplete``, ``partial`` (finished, failed chunks were accepted) or ``sealed`` (every chunk is there)."""
        seal = self.read_seal()
        return "incomplete" if seal is None else str(seal["state"])

    @property
    def is_sealed(self) -> bool:
        """Whether the run has been found complete."""
        return self.state == SEALED

    def read(self) -> dict[str, Any]:
        """Return what was recorded when the run began.

        Raises:
            InputError: there is no run here, or its record is not readable.
        """
        try:
            return self._read(RUN)
        except FileNotFoundError:
            raise InputError(f"{self.place.url}: there is no run here; `overtile segment` starts one") from None

    def read_segmentation(self) -> dict[str, Any]:
        """Return what was recorded when a segmentation began.

        Raises:
            InputError: as :meth:`read`; or the run is of another kind.
        """
        recorded = self.read()
        if (kind := recorded.get("kind", SEGMENTATION)) != SEGMENTATION:
            raise RunMismatchError(
                f"{self.output.url}: is the output of another kind of run ({kind}); this is for what `overtile segment`"
                " made. `overtile status` and `verify` look at runs of any kind"
            )
        return recorded

    def read_seal(self) -> dict[str, Any] | None:
        """Return the seal, or None where the run is not finished."""
        try:
            return self._read(SEAL)
        except FileNotFoundError:
            return None

    def begin(self, identity: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
        """Record a new run, or find that the recorded one is the same.

        Args:
            identity: everything that decides the bytes of the result; JSON-ready.
            details: everything else worth keeping (settings, plan, versions).

        Returns:
            The recorded run: of many processes that begin at once, one writes it and all read the same.

        Raises:
            RunMismatchError: the output belongs to a run with another fingerprint; what differs is named.
        """
        document = self._document(identity, details)
        if not self.exists:
            self.place.create(RUN, _dump(document))
        recorded = self.read()
        if recorded["fingerprint"] != document["fingerprint"]:
            found = differences(recorded["identity"], document["identity"])
            raise RunMismatchError(
                f"{self.place.url}: the output belongs to another run; choose another output, or remove this one."
                f" What differs: {'; '.join(found) or 'the fingerprint alone (edited by hand?)'}"
            )
        return recorded

    def supersede(self, identity: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
        """Record another identity in place of the old one; only for the lease's holder, when no chunk is done.

        Returns:
            The recorded run.
        """
        document = self._document(identity, details)
        self.place.put(RUN, _dump(document))
        return document

    def seal(self, document: Mapping[str, Any]) -> None:
        """Write the seal; the last act of a run."""
        self.place.put(SEAL, _dump(document))

    def unseal(self) -> None:
        """Take the seal away, before chunks of a finished run are computed again."""
        self.place.delete(SEAL)

    def lease(self) -> AbstractContextManager[Lease]:
        """Hold the only right to write to the run, see :func:`pipeline.run.lease.hold`.

        Raises:
            RunMismatchError: another process holds it.
        """
        return hold(self.place)

    @staticmethod
    def _document(identity: Mapping[str, Any], details: Mapping[str, Any]) -> dict[str, Any]:
        known = {"format": FORMAT, "fingerprint": fingerprint(identity), "identity": dict(identity)}
        return {**known, **details, "write": uuid.uuid4().hex}

    def _read(self, name: str) -> dict[str, Any]:
        where = f"{self.place.url}/{name}"
        try:
            document = json.loads(self.place.get(name))
        except FileNotFoundError:
            raise
        except (IsADirectoryError, ValueError) as error:
            raise InputError(f"{where}: not readable ({error})") from error
        if not isinstance(document, dict) or not _is_ours(document, _EXPECTED[name]):
            raise InputError(f"{where}: not a run of this version of Overtile (format {FORMAT})")
        return document


def _is_ours(document: Mapping[str, Any], expected: Mapping[str, type]) -> bool:
    """Whether a document holds what is expected of it, in a format that this version knows."""
    complete = all(isinstance(document.get(key), kind) for key, kind in expected.items())
    return complete and document.get("format", FORMAT) == FORMAT


def _dump(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
