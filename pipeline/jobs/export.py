"""Write a result as a file that other programs open: the format is the one of the target's ending."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.result import Result, open_result
from pipeline.store import same_place
from pipeline.volume.export.cog import export_cog
from pipeline.volume.export.files import check_target
from pipeline.volume.export.geojson import ObjectType, write_geojson
from pipeline.volume.export.geopackage import check_geopackage, write_geopackage
from pipeline.volume.export.ome_tiff import write_ome_tiff
from pipeline.volume.export.png import write_png
from pipeline.volume.export.polygons import check_class_map, polygons
from pipeline.volume.export.shapes import check_simplify, placed

RASTER = (".tif", ".tiff")
ENDINGS = (".geojson", ".gpkg", ".ome.tif", ".ome.tiff", *RASTER, ".png")
"""Endings of targets; of two that fit the same name the first one counts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a result is exported, see :func:`export`."""

    simplify: float | None
    min_size: int | None
    object_type: ObjectType
    threads: int


def export(
    result: str | Path,
    target: str | Path,
    *,
    simplify: float | None = None,
    min_size: int | None = None,
    classes: Sequence[str] | None = None,
    object_type: ObjectType = "annotation",
    threads: int = 2,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Write a result, or any class map or volume in Zarr, as one file; memory does not grow with the volume.

    ============================  ==================================================================================
    ``.geojson``                  polygons of a class map, as QuPath reads them: in pixels of level 0 of the image
                                  that was segmented, or in the CRS of a georeferenced result
    ``.gpkg``                     the same as a GeoPackage
    ``.ome.tif``, ``.ome.tiff``   all voxels and levels as a pyramidal OME-TIFF
    ``.tif``, ``.tiff``           a cloud-optimised GeoTIFF
    ``.png``                      an overview with a legend
    ============================  ==================================================================================

    Args:
        result: the volume.
        target: a file on this machine; one that is there is replaced when all is written, and not before.
        simplify: polygons only: greatest distance in voxels by which boundaries may move; None for exact ones.
        min_size: polygons only: regions of fewer voxels are left out.
        classes: names of the class ids 0, 1 ...; None for those that the result has.
        object_type: GeoJSON only: what QuPath takes polygons for, ``"annotation"`` or ``"detection"``.
        threads: chunks read, traced or compressed at once.
        listener: who is told what is done.

    Returns:
        ``result``, ``target``, ``format`` (the ending), ``bytes`` of the file, ``classes``, ``crs`` (its code or name,
        or None); for polygons also ``polygons``, their number.

    Raises:
        InputError: refused, nothing was written: an unknown ending, a run that is not complete, a volume that the
            format cannot hold, an option that means nothing for the format, no folder for the target, a package that
            is missing.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    path = _path(target)
    ending = _ending(path)
    settings = Settings(simplify, min_size, object_type, threads)
    _check(str(result), path, ending, settings)
    found = open_result(str(result), classes)
    told = listener or Silent()
    written = _write(found, path, ending, settings, told)
    geo = found.geo
    return {
        "result": str(result),
        "target": str(target),
        "format": ending,
        "bytes": path.stat().st_size,
        "classes": list(found.names),
        "crs": None if geo is None else geo.code or geo.name,
        **written,
    }


def _path(target: str | Path) -> Path:
    if "://" in str(target):
        raise InputError(f"target {target}: exports are files on this machine; name a path")
    return Path(target)


def _ending(target: Path) -> str:
    for ending in ENDINGS:
        if target.name.lower().endswith(ending) and len(target.name) > len(ending):
            return ending
    raise InputError(f"target {target}: its ending names the format, one of {', '.join(ENDINGS)}")


def _check(result: str, target: Path, ending: str, settings: Settings) -> None:
    """Refuse what cannot be done, before any work."""
    polygonal = ending in (".geojson", ".gpkg")
    if settings.threads < 1:
        raise InputError(f"--threads {settings.threads}: must be at least 1")
    for name, value in (("--simplify", settings.simplify), ("--min-size", settings.min_size)):
        if value is not None and not polygonal:
            raise InputError(f"{name}: is for polygons (.geojson, .gpkg), not for {ending}; leave it out")
    if settings.min_size is not None and settings.min_size < 1:
        raise InputError(f"--min-size {settings.min_size}: is a number of voxels; it must be at least 1")
    if settings.simplify is not None:
        check_simplify(settings.simplify)
    if settings.object_type not in get_args(ObjectType):
        raise InputError(f"--object-type {settings.object_type}: is annotation or detection")
    if settings.object_type != "annotation" and ending != ".geojson":
        raise InputError(f"--object-type: is for .geojson, not for {ending}; leave it out")
    if ending == ".gpkg":
        check_geopackage()
    check_target(target)
    if same_place(result, target):
        raise InputError(
            f"target {target}: lies in the result {result}, or holds it; choose a place outside of it"
        )


def _write(found: Result, target: Path, ending: str, settings: Settings, listener: Listener) -> dict[str, Any]:
    """Write the file, and return what there is to tell of it."""
    if ending in (".geojson", ".gpkg"):
        return {"polygons": _write_polygons(found, target, ending, settings, listener)}
    volume = found.levels[0]
    if ending in RASTER:
        named = "c" not in volume.axes and volume.dtype.kind in "iub" and bool(found.names)
        export_cog(
            volume,
            target,
            geo=found.geo,
            classes=found.names if named else None,
            threads=settings.threads,
            progress=_Phase(listener, "export"),
        )
        return {}
    listener.phase("export", 1, "file")
    if ending == ".png":
        write_png(found.levels, target, names=found.names)
    else:
        names = found.names if "c" in volume.axes else ()
        write_ome_tiff(found.levels, target, names=names, threads=settings.threads)
    listener.progress(1)
    return {}


def _write_polygons(found: Result, target: Path, ending: str, settings: Settings, listener: Listener) -> int:
    """Write the polygons of the finest level and return their number."""
    volume, geo = found.levels[0], found.geo
    check_class_map(volume)
    transform = geo.transform if geo is not None else found.transform
    traced = polygons(
        volume, min_size=settings.min_size or 1, threads=settings.threads, progress=_Phase(listener, "polygons")
    )
    shapes = placed(traced, transform, simplify=settings.simplify)
    if ending == ".gpkg":
        return write_geopackage(shapes, target, names=found.names, crs=None if geo is None else geo.crs)
    code = None if geo is None else geo.code
    return write_geojson(shapes, target, names=found.names, object_type=settings.object_type, crs=code)


class _Phase:
    """Tells a listener of chunks; the phase begins when the total is known."""

    def __init__(self, listener: Listener, name: str) -> None:
        self._listener, self._name = listener, name
        self._begun = False

    def __call__(self, done: int, total: int) -> None:
        if not self._begun:
            self._listener.phase(self._name, total, "chunks")
            self._begun = True
        self._listener.progress(done)
