"""A manifest: a table that lists the volumes of a collection, and what is different about each."""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import SegmentJob
from pipeline.errors import InputError
from pipeline.store import open_file

ENDINGS = (".csv", ".parquet")
"""How the names of manifests end."""

PATH, NOTE = "path", "_"
"""The column of the volumes' paths; columns whose names begin so are notes, and are passed over."""

Row = tuple[str, Mapping[str, Any]]


def is_manifest(url: str) -> bool:
    """Whether a name is that of a manifest."""
    return url.lower().endswith(ENDINGS)


def read_manifest(url: str) -> list[Row]:
    """Return the path of each volume, and the settings that are its own; an empty cell says nothing.

    Args:
        url: a CSV file in UTF-8 with a line of names, or a Parquet file. Columns are ``path``, settings of
            :class:`pipeline.config.SegmentJob`, and notes, whose names begin with ``_``.

    Raises:
        InputError: the file is missing or no table, has no column ``path`` or an unknown one, or a row has no path.
    """
    try:
        with open_file(url).open() as file:
            data = file.read()
        rows = list(_csv(data) if url.lower().endswith(".csv") else pq.read_table(io.BytesIO(data)).to_pylist())
    except (OSError, ValueError, csv.Error, pa.ArrowException) as error:
        raise InputError(f"{url}: the manifest cannot be read ({error})") from error
    if rows:
        _check_columns(url, rows[0])
    return [_row(url, number, row) for number, row in enumerate(rows, start=1)]


def _csv(data: bytes) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
    for row in reader:
        if None in row or None in row.values():
            raise ValueError(f"line {reader.line_num} has another number of cells than the first line")
        yield row


def _check_columns(url: str, row: Mapping[str, Any]) -> None:
    known = [PATH, *(name for name in SegmentJob.model_fields if name != "input")]
    if PATH not in row:
        raise InputError(f"{url}: the manifest has no column {PATH!r}, only {', '.join(map(str, row))}")
    for name in row:
        if name not in known and not name.startswith(NOTE):
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"{url}: unknown column {name!r}; {hint} A note's name begins with {NOTE!r}")


def _row(url: str, number: int, row: Mapping[str, Any]) -> Row:
    given = {name: value for name, value in row.items() if value not in (None, "") and not name.startswith(NOTE)}
    path = str(given.pop(PATH, "")).strip()
    if not path:
        raise InputError(f"{url}: row {number} has no path")
    return path, given
