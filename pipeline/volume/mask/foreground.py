"""What can say which voxels of an image are foreground: the interface, and what its makers share."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.geometry import Box
from pipeline.volume.image import Image
from pipeline.volume.mask.sampling import Bits
from pipeline.volume.sources.reading import Reading

ALGORITHM = 1
"""Raised when a new version makes another mask of the same image."""


class Foreground(Protocol):
    """Which voxels of an image are foreground, at a resolution of its own. Nothing is read before :meth:`read`."""

    @property
    def kind(self) -> str:
        """``"auto"``, ``"volume"`` or ``"polygons"``."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape ``([z,] y, x)``, nowhere longer than the image; two axes over a stack hold for every slice."""
        ...

    @property
    def reason(self) -> str:
        """Why a chunk without foreground is skipped: what the ledger says."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of voxels that are read to find out all of it, decoded."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides it, beside the image; JSON-ready."""
        ...

    @property
    def facts(self) -> dict[str, Any]:
        """How it was found, JSON-ready: what is kept beside the mask. Some of it is known when it was read."""
        ...

    def read(self, box: Box) -> Bits:
        """Return the foreground of a box of it.

        Raises:
            VolumeError: no foreground can be told.
            InputDamageError, MissingChunkError, StoreError: what it is made of cannot be read.
        """
        ...

    def close(self) -> None:
        """Let go of open files."""
        ...


@dataclass(frozen=True, slots=True)
class Subject:
    """The image that is segmented, as far as a mask needs it, and how to open other levels of it.

    Attributes:
        image: at the resolution at which it is segmented.
        region: the part of it that is segmented, in its voxels.
        url: its address.
        reading: what the user says of it.
    """

    image: Image
    region: Box
    url: str
    reading: Reading


def digest(document: Any) -> str:
    """Return a digest of something that is JSON-ready."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
