"""What a collection has done so far: one small file beside its results, ``collection.json``."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import FailedVolumesError, InputError
from pipeline.store import LocalPlace, Place, make_folder, open_place

FORMAT, NAME = "overtile-collection/1", "collection.json"

SHOWN = 10
"""Failed volumes that a message names."""

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one volume; a row of the collection's table.

    Attributes:
        volume: its address.
        state: ``sealed``, ``partial``, ``failed``, ``unchanged`` (sealed before), ``waiting`` (still being written) or
            ``busy`` (another run is at it).
        chunks: of its grid.
        skipped: chunks outside of its mask.
        failed: chunks that failed.
        seconds: that it took now.
        result: where its result is.
        error: why it failed.
    """

    volume: str
    state: str
    chunks: int = 0
    skipped: int = 0
    failed: int = 0
    seconds: float = 0.0
    result: str = ""
    error: str = ""


class Roster:
    """The entries of all volumes, by the addresses of their results.

    It says which volumes need no second look. Whether a result is complete is in its own run; where two processes
    write at once and an entry is lost, its volume is opened once more, found complete, and entered again.

    Args:
        output: folder or prefix of the collection's results; made where it is missing.

    Raises:
        InputError: what is there is no such file.
    """

    def __init__(self, output: str) -> None:
        self._place: Place = open_place(output)
        self._lock = threading.Lock()
        if isinstance(self._place, LocalPlace):
            make_folder(self._place.root)
        self.read()

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"{self._place.url}/{NAME}"

    def read(self) -> dict[str, Entry]:
        """Return all entries as they are now, by result.

        Raises:
            InputError: the file is damaged, or of another program.
        """
        try:
            document = json.loads(self._place.get(NAME))
        except FileNotFoundError:
            return {}
        except (IsADirectoryError, ValueError) as error:
            raise InputError(
                f"{self.url}: not readable ({error}); remove it to look at every volume again"
            ) from error
        ours = isinstance(document, dict) and document.get("format") == FORMAT
        if not ours or not isinstance(document.get("volumes"), dict):
            raise InputError(f"{self.url}: not a list of volumes of this version of Overtile (format {FORMAT})")
        found: dict[str, Entry] = document["volumes"]
        return found

    def enter(self, result: str, changes: Entry) -> None:
        """Change one volume's entry, durably; what is not named stays."""
        with self._lock:
            entries = self.read()
            entries[result] = {**entries.get(result, {}), **changes}
            document = {"format": FORMAT, "volumes": entries}
            self._place.put(NAME, (json.dumps(document, indent=0, sort_keys=True) + "\n").encode())


def summary(output: str, rows: Iterable[Row]) -> dict[str, Any]:
    """Return what became of a collection, JSON-ready: ``output``, ``total``, ``counts`` by state, and ``volumes``."""
    ordered = sorted(rows, key=lambda row: (row.volume, row.result))
    return {
        "output": output,
        "total": len(ordered),
        "counts": dict(sorted(Counter(row.state for row in ordered).items())),
        "volumes": [asdict(row) for row in ordered],
    }


def check_summary(found: Mapping[str, Any]) -> None:
    """Raise FailedVolumesError where volumes failed or lack chunks; those that wait or are busy do not count."""
    failed = [row for row in found["volumes"] if row["state"] in ("failed", "partial")]
    if not failed:
        return
    named = "; ".join(f"{row['volume']}: {row['error']}" for row in failed[:SHOWN])
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    raise FailedVolumesError(
        f"{found['output']}: {len(failed)} of {found['total']} volumes failed: {named}{more}. Those that were"
        " refused or lack chunks are tried again when they change, or with --retry-failed"
    )
