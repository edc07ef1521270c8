"""The statistics of one chunk as one small object: JSON, deflated; ``zcat`` shows it.

Not arrays: what is sparse stays small, every kind of statistics has its JSON already, and numbers come back as they
were. Equal statistics are equal bytes, so that the ledger's digest holds for a chunk that is measured again.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import DamageError, InputError
from pipeline.evaluation.measures import Measure
from pipeline.evaluation.reading import Holes

FORMAT = "overtile-statistics/1"

_HOLES = "holes"


def pack(statistics: Mapping[str, Any], holes: Holes) -> bytes:
    """Return the bytes of a chunk's statistics.

    Args:
        statistics: by the names of their measures.
        holes: stored objects that are missing below the chunk.
    """
    document = {name: each.to_dict() for name, each in statistics.items()}
    text = json.dumps({"format": FORMAT, **document, _HOLES: holes}, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def unpack(data: bytes, measures: Sequence[Measure], *, where: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return a chunk's statistics by the names of their measures, and its holes.

    Args:
        data: what :func:`pack` gave.
        measures: what was measured.
        where: what a message calls the object.

    Raises:
        DamageError: it is something else.
    """
    try:
        document = json.loads(gzip.decompress(data))
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not {FORMAT}")
        return {each.name: each.read(document[each.name]) for each in measures}, document[_HOLES]
    except (InputError, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise DamageError(f"{where}: no statistics of a chunk ({type(error).__name__}: {error})") from error
