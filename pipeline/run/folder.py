"""The run's folder, ``OUT.zarr.run/``: who this run is, who may write to it, and whether it is sealed.

It lies beside the store and not in it, so that a copy of the result carries no state along, and a result whose
run is unfinished is recognised as such.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, RunMismatchError
from pipeline.run.fingerprint import differences, fingerprint
from pipeline.store import fsync, put_file

FORMAT = "overtile-run/1"

_EXPECTED: Mapping[str, Mapping[str, type]] = {
    "run.json": {"format": str, "fingerprint": str, "identity": dict},
    "seal.json": {"root": str},
}
"""What a file of a run must hold at least."""


class RunFolder:
    """The files of one run.

    Attributes:
        path: the folder.
    """

    def __init__(self, output: str | Path) -> None:
        output = Path(output)
        self.path = output.with_name(output.name + ".run")

    @property
    def journal(self) -> Path:
        """Folder of the journal's files."""
        return self.path / "journal"

    @property
    def exists(self) -> bool:
        """Whether a run has been recorded here."""
        return (self.path / "run.json").is_file()

    @property
    def is_sealed(self) -> bool:
        """Whether the run has been found complete."""
        return (self.path / "seal.json").is_file()

    def read(self) -> dict[str, Any]:
        """Return what was recorded when the run began.

        Raises:
            InputError: there is no run here, or its record is not readable.
        """
        return self._read("run.json")

    def read_seal(self) -> dict[str, Any] | None:
        """Return the seal, or None where the run is not sealed."""
        return self._read("seal.json") if self.is_sealed else None

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
        document = {"format": FORMAT, "fingerprint": fingerprint(identity), "identity": dict(identity), **details}
        if not self.exists:
            self.path.mkdir(parents=True, exist_ok=True)
            self._create_exclusively(self.path / "run.json", document)
        recorded = self.read()
        if recorded["fingerprint"] != document["fingerprint"]:
            found = differences(recorded["identity"], document["identity"])
            raise RunMismatchError(
                f"{self.path}: the output belongs to another run; choose another output, or remove this one."
                f" What differs: {'; '.join(found) or 'the fingerprint alone (edited by hand?)'}"
            )
        return recorded

    def seal(self, document: Mapping[str, Any]) -> None:
        """Write the seal; the last act of a run."""
        put_file(self.path / "seal.json", _dump(document))

    def unseal(self) -> None:
        """Take the seal away, before chunks of a sealed run are computed again."""
        (self.path / "seal.json").unlink(missing_ok=True)
        fsync(self.path)

    @contextmanager
    def lease(self) -> Iterator[None]:
        """Hold the only right to write to the run; it ends with this process, however that ends.

        Raises:
            RunMismatchError: another process holds it.
        """
        path = self.path / "lease.json"
        with path.open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                holder = path.read_text(errors="replace").strip() or "unknown"
                raise RunMismatchError(
                    f"{self.path}: another process is writing to this run ({holder}); wait for it, or stop it first"
                ) from error
            file.truncate(0)
            file.write(_dump({"host": socket.gethostname(), "pid": os.getpid()}))
            file.flush()
            yield

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            document = json.loads(path.read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path}: there is no run here; `overtile segment` starts one") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: not readable ({error})") from error
        if not isinstance(document, dict) or not _is_ours(document, _EXPECTED[name]):
            raise InputError(f"{path}: not a run of this version of Overtile (format {FORMAT})")
        return document

    @staticmethod
    def _create_exclusively(path: Path, document: Mapping[str, Any]) -> None:
        """Create a file with its whole content at once, unless it is there already."""
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        with partial.open("xb") as file:
            file.write(_dump(document))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)
        except FileExistsError:
            pass
        finally:
            partial.unlink()
        fsync(path.parent)


def _is_ours(document: Mapping[str, Any], expected: Mapping[str, type]) -> bool:
    """Whether a document holds what is expected of it, in a format that this version knows."""
    complete = all(isinstance(document.get(key), kind) for key, kind in expected.items())
    return complete and document.get("format", FORMAT) == FORMAT


def _dump(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=1) + "\n").encode()
