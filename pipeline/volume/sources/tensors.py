"""Arrays in blocks that tensorstore reads (extra ``tensorstore``), wherever they lie: what N5 and precomputed share.

tensorstore reads the blocks with its own clients, whose settings are taken from the same variables of the environment
as ours. Every address is checked by ours first, which also read the metadata.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import InputError, MissingChunkError, StoreError, VolumeError
from pipeline.geometry import Box
from pipeline.store import open_file, parse_address
from pipeline.volume.boxes import read_box
from pipeline.volume.sources.reading import Holes
from pipeline.volume.sources.source import Source, check_dtype, unreadable
from pipeline.volume.space import Space, check_axes, check_one_time

try:
    import tensorstore
except ImportError:  # an extra: only those who have such volumes need it
    tensorstore = None  # type: ignore[assignment]

_MISSING = "NOT_FOUND"
_REFUSED = ("PERMISSION_DENIED", "UNAUTHENTICATED")
_SILENT = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "RESOURCE_EXHAUSTED")
"""How tensorstore's messages begin."""


@dataclass(slots=True, eq=False)
class TensorSource(Source):
    """One level of an array in blocks.

    Attributes:
        tensor: tensorstore's array, its origin at 0; for any number of threads.
        axes: its axis names, in the order of ours (``"czyx"``).
    """

    name: str
    shape: tuple[int, ...]
    channels: int | None
    dtype: np.dtype[Any]
    space: Space
    slab: tuple[int, ...] | None
    tensor: Any
    axes: str
    levels: int = field()  # these two are not the defaults that Source has
    files: tuple[str, ...] = field()

    def read(self, box: Box) -> npt.NDArray[Any]:
        """Read a spatial box: ``(c, [z,] y, x)``.

        Raises:
            MissingChunkError: a block that is missing, where that is a fault.
            StoreError: the store does not answer.
        """
        try:
            return read_box(self.tensor, self.axes, box)
        except Exception as error:
            raise read_fault(self.name, error, f"voxels {box}") from error

    def close(self) -> None:
        """Let go of the array."""
        self.tensor = None


def need_tensorstore(name: str) -> None:
    """Raise InputError if such volumes cannot be read here."""
    if tensorstore is None:
        raise InputError(f"{name}: volumes of this format need the extra: pip install 'overtile[tensorstore]'")


def read_json(url: str, key: str) -> dict[str, Any] | None:
    """Return a JSON object that lies below an address; None where there is none.

    Raises:
        VolumeError: it is damaged.
        StoreError: the store does not answer.
    """
    try:
        with open_file(f"{url}/{key}").open() as file:
            found = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise unreadable(f"{url}/{key}", error) from error
    if not isinstance(found, dict):
        raise VolumeError(
            f"{url}/{key}: it holds {type(found).__name__}, not a JSON object; the file may be damaged"
        )
    return found


def open_tensor(url: str, driver: str, *, holes: Holes, settings: Mapping[str, Any]) -> Any:
    """Open an array with its origin at 0, its axes in our order: the last one is the fastest.

    Args:
        url: folder or prefix of it.
        driver: tensorstore's name of the format.
        holes: what a block that is missing means.
        settings: of the driver.

    Raises:
        VolumeError: it cannot be opened.
        StoreError: the store does not answer.
    """
    spec = {
        "driver": driver,
        "kvstore": kvstore(url),
        "fill_missing_data_reads": holes == "background",
        "context": {"cache_pool": {"total_bytes_limit": 0}},
        **settings,
    }
    try:
        tensor = tensorstore.open(spec, open=True, read=True).result()
        return tensor[tensorstore.d[:].translate_to[0]].T
    except Exception as error:
        raise read_fault(url, error, "it") from error


def tensor_source(
    name: str, tensor: Any, axes: str, *, space: Space, levels: int, files: Sequence[str]
) -> TensorSource:
    """Return the source of an open array.

    Args:
        name: what messages call it.
        tensor: as :func:`open_tensor` gives it.
        axes: its axis names.
        space: of the level.
        levels: how many there are.
        files: addresses of its metadata.

    Raises:
        VolumeError: the axes, the shape or the dtype are none that a volume can have.
    """
    axes = check_axes(axes, tensor.rank, where=name)
    check_one_time(axes, tensor.shape, where=name)
    if 0 in tensor.shape:
        raise VolumeError(f"{name}: shape {tuple(tensor.shape)} holds no voxel")
    lengths = dict(zip(axes, tensor.shape, strict=True))
    pieces = dict(zip(axes, tensor.chunk_layout.read_chunk.shape, strict=True))
    return TensorSource(
        name=name,
        shape=tuple(int(lengths[a]) for a in space.axes),
        channels=int(lengths["c"]) if "c" in lengths else None,
        dtype=check_dtype(np.dtype(tensor.dtype.numpy_dtype), where=name),
        space=space,
        slab=tuple(int(pieces[a]) for a in space.axes),
        tensor=tensor,
        axes=axes,
        levels=levels,
        files=tuple(files),
    )


def kvstore(url: str) -> dict[str, Any]:
    """Return how tensorstore names a folder or prefix, and what the environment says of the store.

    Raises:
        VolumeError: a store that tensorstore has no client of.
        InputError: an address that is not allowed.
    """
    address = parse_address(url)
    path = address.key.rstrip("/") + "/"
    if address.is_local:
        return {"driver": "file", "path": str(Path(address.key).absolute()) + "/"}
    if address.scheme == "s3":
        return {"driver": "s3", "bucket": address.root, "path": path, **_s3_settings()}
    if address.scheme == "gs":
        return {"driver": "gcs", "bucket": address.root, "path": path}
    if address.scheme in ("https", "http"):
        return {"driver": "http", "base_url": f"{address.scheme}://{address.root}", "path": "/" + path}
    raise VolumeError(
        f"{url}: N5 and precomputed are read from this machine, s3://, gs:// and https://, not from"
        f" {address.scheme}://; copy it to one of them"
    )


def _s3_settings() -> dict[str, Any]:
    """Return what the environment says of an S3 service; credentials are found by tensorstore itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true", "yes")
    return {
        **({"endpoint": endpoint} if endpoint else {}),
        **({"aws_region": region or "us-east-1"} if endpoint or region else {}),
        **({"aws_credentials": {"type": "anonymous"}} if anonymous else {}),
    }


def read_fault(name: str, error: Exception, what: str) -> Exception:
    """Return what an error of tensorstore's means."""
    text = str(error).partition(" [tensorstore_spec=")[0]
    if text.startswith(_MISSING) and " is missing" in text:
        return MissingChunkError(
            f"{name}: {what}: {text.removeprefix(_MISSING).strip(': ')}; if that is meant to be background, say"
            " --holes background"
        )
    if text.startswith(_REFUSED):
        return PermissionError(errno.EACCES, f"the store refuses ({text}); check the credentials", name)
    if text.startswith(_SILENT):
        return StoreError(f"{name}: the store did not answer as it should ({text[:300]})")
    if isinstance(error, OSError) and error.errno is not None:
        return error
    return unreadable(name, ValueError(text), what)
