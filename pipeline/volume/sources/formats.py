"""Open an image of any format: the table of what ingest reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import StoreError, VolumeError
from pipeline.store import has_pattern, list_files, open_file, open_place, parse_address
from pipeline.volume.sources.channels import select_channels
from pipeline.volume.sources.geotiff import is_geotiff
from pipeline.volume.sources.hdf5 import MAGIC as HDF5
from pipeline.volume.sources.hdf5 import SEPARATOR, open_hdf5, split_dataset
from pipeline.volume.sources.images import JPEG, PNG, open_image
from pipeline.volume.sources.mosaic import check_told, open_folder, open_raster
from pipeline.volume.sources.n5 import MARKS as N5
from pipeline.volume.sources.n5 import open_n5
from pipeline.volume.sources.npy import MAGIC as NPY
from pipeline.volume.sources.npy import open_npy
from pipeline.volume.sources.openslide import is_canvas, open_canvas
from pipeline.volume.sources.precomputed import MARKS as PRECOMPUTED
from pipeline.volume.sources.precomputed import open_precomputed
from pipeline.volume.sources.reading import DEFAULT, Reading, override
from pipeline.volume.sources.slide import is_slide, open_slide
from pipeline.volume.sources.source import Source
from pipeline.volume.sources.tiff import MAGIC as TIFF
from pipeline.volume.sources.tiff import open_tiff
from pipeline.volume.sources.zarrs import open_zarr

Opener = Callable[..., Source]


@dataclass(frozen=True, slots=True)
class Format:
    """One format of files.

    Attributes:
        label: what it is, for messages.
        magic: how its files begin, in bytes.
        open: called as ``open(path, reading)``.
        fits: says of a file that begins so whether it is of this format; None if every such file is. May fail where the
            file is damaged.
        sized: whether a file that does not tell its voxel size is refused, unless the user says it.
    """

    label: str
    magic: tuple[bytes, ...]
    open: Opener
    fits: Callable[[str | Path], bool] | None = None
    sized: bool = False


FORMATS = (
    Format("PNG (.png)", PNG, open_image),
    Format(
        "slide of OpenSlide (.mrxs, .ndpi, .scn, .bif, .vms, .svslide, .czi, DICOM)",
        (b"",),
        open_canvas,
        is_canvas,
        sized=True,
    ),
    Format("JPEG (.jpg)", JPEG, open_image),
    Format("GeoTIFF (.tif, COG)", TIFF, open_raster, is_geotiff),
    Format("slide (.svs, tiled pyramids in TIFF)", TIFF, open_slide, is_slide, sized=True),
    Format("TIFF (.tif, .ome.tif, BigTIFF)", TIFF, open_tiff),
    Format("NumPy (.npy)", NPY, open_npy),
    Format("HDF5 (.h5, file.h5::/dataset)", HDF5, open_hdf5),
)
"""The files that are read; a file is known by its content, not by its name. The first one that fits opens it."""

_HEAD = max(len(magic) for entry in FORMATS for magic in entry.magic)
_SLICES = Format("slices or scenes", (), open_folder)
_FOLDERS = (
    (("zarr.json", ".zarray", ".zgroup"), Format("Zarr", (), open_zarr)),
    (N5, Format("N5", (), open_n5)),
    (PRECOMPUTED, Format("Neuroglancer precomputed", (), open_precomputed)),
)
"""Folders that are one image: the files of which one marks them, and their format."""


def format_of(path: str | Path) -> str:
    """Return the name of the format of what is there, for people. Errors as :func:`open_source`."""
    return _find(path)[0].label


def open_source(
    path: str | Path,
    reading: Reading = DEFAULT,
    *,
    sized: bool = True,
) -> Source:
    """Open an image of any supported format, lazily.

    Args:
        path: a file (PNG, JPEG, slide, TIFF, ``.npy``, HDF5), ``file.h5::/dataset``, a Zarr, a folder of slices or a
            pattern that matches slices; a path, or an address (``s3://``, ``gs://``, ``az://``, ``https://``).
        reading: what the user says of it.
        sized: whether a slide that tells no size of its pixels is refused, unless the user says it.

    Raises:
        VolumeError: missing, of no supported format, damaged, ambiguous, a size that fits no voxel, a slide that tells
            no size of its pixels.
        InputError: a format whose extra is not installed, an address of another form.
        StoreError: the store does not answer.
    """
    form, where = _find(path)
    whole = form.open(where, reading)
    whole.files = whole.files or (split_dataset(where)[0],)
    source = select_channels(whole, reading.bands)
    try:
        check_told(whole, reading)
        source.space = override(source.space, reading, name=source.name)
        if sized and form.sized and reading.voxel_size is None:
            _check_sized(source)
    except VolumeError:
        source.close()
        raise
    return source


def _find(path: str | Path) -> tuple[Format, str | Path]:
    """Find the format by what is there; return it with what its opener is called with."""
    place, dataset = split_dataset(path)
    address = parse_address(Path(place) if isinstance(path, Path) else place, pattern=True)
    where: str | Path = Path(address.key) if address.is_local else address.url
    if dataset is None and not address.is_local and has_pattern(where):
        return _SLICES, where
    if dataset is None and (folder := _format_of_folder(where)) is not None:
        return folder, where
    head = _head(where)
    if head is None and not _is_folder(where):
        raise VolumeError(f"{path}: there is no such file or folder")
    found = _SLICES if head is None else _format_of_file(where, head)
    if dataset is None:
        return found, where
    if found.open is not open_hdf5:
        raise VolumeError(f"{path}: only a dataset of an HDF5 file is named after '::', and {place} is none")
    whole = f"{where}{SEPARATOR}{dataset}"
    return found, Path(whole) if address.is_local else whole


def _format_of_folder(where: str | Path) -> Format | None:
    """Find the format of a folder or prefix by the files that mark it."""
    marks = [mark for marks, _ in _FOLDERS for mark in marks]
    found = dict(zip(marks, open_place(where).stats(marks), strict=True))
    return next((form for marks, form in _FOLDERS if any(found[mark] is not None for mark in marks)), None)


def _is_folder(where: str | Path) -> bool:
    """Whether files may lie below: a folder, a pattern, a prefix that is not empty."""
    if isinstance(where, Path):
        return where.is_dir() or has_pattern(where)
    return where.partition("://")[0] not in ("http", "https") and bool(list_files(where))


def _head(where: str | Path) -> bytes | None:
    """Return how a file begins; None where there is none."""
    try:
        with open_file(where).open() as file:
            return file.read(_HEAD)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None


def _format_of_file(where: str | Path, head: bytes) -> Format:
    """Find the format of one file by how it begins."""
    for entry in FORMATS:
        if head.startswith(entry.magic) and _fits(entry, where):
            return entry
    supported = ", ".join(entry.label for entry in FORMATS)
    ending = PurePosixPath(str(where)).suffix or "no ending"
    raise VolumeError(
        f"{where}: its content is of no format that is read ({ending}, {len(head)} bytes read);"
        f" supported: {supported}, Zarr, N5, Neuroglancer precomputed, folders or patterns of slices"
    )


def _fits(entry: Format, where: str | Path) -> bool:
    """Say whether a file is of a format; a file that is too damaged to tell is left to the next one, which says so."""
    try:
        return entry.fits is None or entry.fits(where)
    except (StoreError, PermissionError):
        raise
    except Exception:
        return False


def _check_sized(source: Source) -> None:
    """Refuse a file that does not tell its voxel size, where guessing it would spoil every measure."""
    if source.space.unit is None:
        raise VolumeError(
            f"{source.name}: it does not tell how large its pixels are; say it with --voxel-size and --unit, for"
            " example --voxel-size 0.5,0.5 --unit um (of the level that is read)"
        )
