"""An open volume: one N-D array in Zarr with axes and voxel size, read lazily, box by box."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.core.sync import sync
from zarr.storage import LocalStore

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.geometry import Box, Grid, mirror, visible_box
from pipeline.volume.ngff import Level, read_levels
from pipeline.volume.space import Space, check_axes, check_one_time

KINDS = "buif"
"""Kinds of NumPy dtypes that a volume may hold: bool, unsigned, signed, float."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """One array in Zarr, seen as channels and space: every read gives ``(c, [z,] y, x)``.

    Attributes:
        url: where it was opened, as the user named it.
        array: the Zarr array of the chosen level.
        axes: stored axis names, for example ``"cyx"``, ``"yxc"``, ``"tczyx"``.
        space: spatial axes, voxel size, origin, unit.
        levels: path of each resolution level's array; one entry where there are no others.
        level: which of them this is.
    """

    url: str
    array: zarr.Array[Any]
    axes: str
    space: Space
    levels: tuple[str, ...]
    level: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape in voxels, in the order of ``space.axes``."""
        return tuple(self.array.shape[self.axes.index(a)] for a in self.space.axes)

    @property
    def box(self) -> Box:
        """The whole volume."""
        return Box.of_shape(self.shape)

    @property
    def channels(self) -> int:
        """Number of channels; 1 where there is no channel axis."""
        return int(self.array.shape[self.axes.index("c")]) if "c" in self.axes else 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the voxels, in native byte order."""
        return np.dtype(self.array.dtype).newbyteorder("=")

    @property
    def storage_grid(self) -> Grid:
        """The grid of stored objects (shards, or chunks where there are none), over all stored axes."""
        return Grid(self.array.shape, self.array.shards or self.array.chunks)

    @property
    def metadata(self) -> dict[str, Any]:
        """What identifies the array: its own Zarr metadata, without the user's attributes."""
        document = dict(self.array.metadata.to_dict())
        document.pop("attributes", None)
        return json.loads(json.dumps(document, default=str, sort_keys=True))  # type: ignore[no-any-return]

    def read(self, box: Box, *, holes: str = "error") -> npt.NDArray[Any]:
        """Read the voxels of a box inside the volume.

        Args:
            box: spatial box in voxels.
            holes: what a stored chunk that is missing means: ``"error"``, or ``"background"`` (the fill value).

        Returns:
            ``(c, [z,] y, x)`` in the volume's dtype.

        Raises:
            MissingChunkError: a stored chunk is missing and holes are errors.
        """
        assert self.box.contains(box), (box, self.shape)
        if holes == "error":
            self.check_present(box)
        return read_box(self.array, self.axes, box)

    def read_shown(self, box: Box, *, holes: str = "error") -> npt.NDArray[Any]:
        """Read what a box shows of the volume and, outside it, of its mirror image: ``(c, [z,] y, x)``."""
        inside_box = visible_box(box, self.shape)
        inside = self.read(inside_box, holes=holes)
        return mirror(inside, inside_box=inside_box, box=box, shape=self.shape)

    def missing(self, box: Box) -> list[str]:
        """Return the keys of stored objects below ``box`` that are not there."""
        keys = self.stored_keys(box)
        present = keys_present(self.array, keys)
        return [key for key, there in zip(keys, present, strict=True) if not there]

    def check_present(self, box: Box) -> None:
        """Raise MissingChunkError if a stored object below ``box`` is not there."""
        missing = self.missing(box)
        if missing:
            some = ", ".join(missing[:3]) + (" ..." if len(missing) > 3 else "")
            raise MissingChunkError(
                f"{self.url}: {len(missing)} stored chunk(s) below voxels {box} are missing ({some}). Restore them,"
                " or pass --holes background if chunks were left out because they hold nothing but the fill value"
            )

    def stored_keys(self, box: Box) -> list[str]:
        """Return the keys, inside the array, of all stored objects that hold a voxel of ``box``."""
        spatial = dict(zip(self.space.axes, box, strict=True))
        pairs = [spatial.get(a, (0, n)) for a, n in zip(self.axes, self.array.shape, strict=True)]
        stored = Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        return [self.array.metadata.encode_chunk_key(p) for p in self.storage_grid.overlapping(stored)]


def read_box(array: Any, axes: str, box: Box) -> npt.NDArray[Any]:
    """Read a spatial box of any array that is cut by slices.

    Args:
        array: its axes are ``axes``; only the first time point is read.
        axes: stored axis names, see :func:`pipeline.volume.space.check_axes`.
        box: spatial box in voxels, in the order ``[z,] y, x``.

    Returns:
        ``(c, [z,] y, x)``, one channel where there is no channel axis, in native byte order.
    """
    spatial = [a for a in "zyx" if a in axes]
    cut = dict(zip(spatial, box.slices, strict=True))
    voxels = np.asarray(array[tuple(0 if a == "t" else cut.get(a, slice(None)) for a in axes)])
    kept = [a for a in axes if a != "t"]
    voxels = voxels.transpose([kept.index(a) for a in ("c", *spatial) if a in kept])
    voxels = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return voxels if "c" in kept else voxels[np.newaxis]


def keys_present(array: zarr.Array[Any], keys: list[str]) -> list[bool]:
    """Tell for each key inside an array whether a stored object is there."""
    store, path = array.store, array.path
    full = [f"{path}/{key}" if path else key for key in keys]
    if isinstance(store, LocalStore):
        return [_has_bytes(store.root / key) for key in full]

    async def all_present() -> list[bool]:
        return [await store.exists(key) for key in full]

    return sync(all_present())


def _has_bytes(path: Path) -> bool:
    """Whether a file is there and not empty: Zarr reads an empty shard as fill, without a word."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def open_volume(url: str | Path, *, level: int = 0, axes: str | None = None) -> Volume:
    """Open a Zarr array (v2 or v3) or one level of an OME-Zarr image (0.4 or 0.5) for reading.

    Args:
        url: path of the array or of the image group.
        level: resolution level, 0 is the finest; plain arrays have level 0 only.
        axes: names of the stored axes (``"cyx"``), where the store does not say them.

    Raises:
        VolumeError: missing, not Zarr, no such level, a dtype that is not numeric, ambiguous axes.
    """
    url = str(url)
    node = _open_node(url)
    if isinstance(node, zarr.Array):
        found = Level("", "", (), (), ())
        levels = [found]
    else:
        levels = read_levels(dict(node.attrs), where=url) or _only_array(node, url)
    if not 0 <= level < len(levels):
        raise VolumeError(f"{url}: there is no level {level}; it has levels 0 to {len(levels) - 1}")
    chosen = levels[level]
    array = node if isinstance(node, zarr.Array) else _child(node, chosen.path, url)
    _check_array(array, url)
    stored = check_axes(axes or chosen.axes or _own_axes(array, url), array.ndim, where=url)
    check_one_time(stored, array.shape, where=url)
    known = chosen.axes == stored
    space = chosen.space() if known else Space.unscaled("".join(a for a in stored if a in "zyx"))
    return Volume(url, array, stored, space, tuple(entry.path for entry in levels), level)


def _open_node(url: str) -> zarr.Array[Any] | zarr.Group:
    path = Path(url)
    if not path.exists():
        raise VolumeError(f"{url}: there is no such file or folder")
    documents = [path / name for name in ("zarr.json", ".zarray", ".zgroup")]
    document = next((d for d in documents if d.is_file()), None)
    if document is None:
        raise VolumeError(
            f"{url}: not a Zarr array or group (no zarr.json, .zarray or .zgroup); `overtile ingest` makes one"
        )
    _check_document(document, url)
    try:
        return zarr.open(store=str(path), mode="r", use_consolidated=False)
    except Exception as error:
        raise VolumeError(f"{url}: cannot be opened as Zarr ({type(error).__name__}: {error})") from error


def _child(group: zarr.Group, path: str, url: str) -> zarr.Array[Any]:
    """Open an array that the metadata name."""
    try:
        found = group.get(path)
    except Exception as error:
        raise VolumeError(
            f"{url}: its level {path!r} cannot be opened ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(found, zarr.Array):
        raise VolumeError(f"{url}: level {path!r} is named in the metadata but is not there")
    return found


def _check_document(document: Path, url: str) -> None:
    """Refuse an object dtype before Zarr looks for a codec that may run code."""
    try:
        content = json.loads(document.read_text())
    except (OSError, ValueError) as error:
        raise VolumeError(f"{url}: {document.name} is not readable JSON ({error})") from error
    if not isinstance(content, dict):
        raise VolumeError(f"{url}: {document.name} is no Zarr metadata")
    dtype = content.get("dtype", content.get("data_type", ""))
    if not isinstance(dtype, str) or dtype.endswith("O"):
        raise VolumeError(
            f"{url}: data type {dtype!r} is not numeric; a volume holds bool, integer or float voxels"
        )


def _check_array(array: zarr.Array[Any], url: str) -> None:
    if not isinstance(array.dtype, np.dtype) or array.dtype.kind not in KINDS:
        raise VolumeError(
            f"{url}: data type {array.dtype} is not numeric; a volume holds bool, integers or floats"
        )
    if array.ndim not in (2, 3, 4, 5):
        raise VolumeError(f"{url}: the array has {array.ndim} axes; a volume has 2 to 5")
    if 0 in array.shape:
        raise VolumeError(f"{url}: shape {array.shape} holds no voxel")


def _only_array(group: zarr.Group, url: str) -> list[Level]:
    try:
        names = sorted(name for name, _ in group.arrays())
    except Exception as error:
        raise VolumeError(f"{url}: an array in it cannot be opened ({type(error).__name__}: {error})") from error
    if len(names) != 1:
        listed = ", ".join(names[:8]) or "none"
        raise VolumeError(f"{url}: a group without OME metadata; name one of its arrays ({listed}), as {url}/NAME")
    return [Level(names[0], "", (), (), ())]


def _own_axes(array: zarr.Array[Any], url: str) -> str:
    """Return the axes that the array names itself, or the only ones that it can have."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(names, list | tuple) and all(isinstance(n, str) and len(n) == 1 for n in names):
        return "".join(str(n) for n in names)
    if array.ndim == 2:
        return "yx"
    raise VolumeError(
        f"{url}: an array of shape {array.shape} that does not name its axes;"
        " say them with --axes, for example zyx, cyx, yxc or czyx"
    )
