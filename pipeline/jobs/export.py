"""Write a result as a file, or as an OME-Zarr, that other programs open: its ending names the format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pipeline.config.values import Holes
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.result import Result, open_result
from pipeline.store import same_place
from pipeline.volume.export.cog import export_cog
from pipeline.volume.export.files import check_target
from pipeline.volume.export.geojson import ObjectType, write_geojson
from pipeline.volume.export.geopackage import check_geopackage, write_geopackage
from pipeline.volume.export.ome_tiff import write_ome_tiff
from pipeline.volume.export.ome_zarr import Version, write_ome_zarr
from pipeline.volume.export.png import write_png
from pipeline.volume.export.polygons import check_class_map, polygons
from pipeline.volume.export.shapes import check_simplify, placed
from pipeline.volume.export.unfinished import check_new
from pipeline.volume.geo import georeference_attributes
from pipeline.volume.ngff import VERSION
from pipeline.volume.state import KEY

RASTER = (".tif", ".tiff")
POLYGONS = (".geojson", ".gpkg")
ZARR = ".zarr"
ENDINGS = (*POLYGONS, ".ome.tif", ".ome.tiff", *RASTER, ".png", ZARR)
"""Endings of targets; of two that fit the same name the first one counts."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How a result is exported, see :func:`export`."""

    simplify: float | None
    min_size: int | None
    object_type: ObjectType
    ngff: Version | None
    threads: int


def export(
    result: str | Path,
    target: str | Path,
    *,
    simplify: float | None = None,
    min_size: int | None = None,
    classes: Sequence[str] | None = None,
    object_type: ObjectType = "annotation",
    ngff: Version | None = None,
    holes: Holes = "error",
    threads: int = 2,
    listener: Listener | None = None,
) -> dict[str, Any]:
    """Write a result, or any class map or volume in Zarr, for other programs; memory does not grow with the volume.

    ============================  ==================================================================================
    ``.geojson``                  polygons of a class map, as QuPath reads them: in pixels of level 0 of the image
                                  that was segmented, or in the CRS of a georeferenced result
    ``.gpkg``                     the same as a GeoPackage
    ``.ome.tif``, ``.ome.tiff``   all voxels and levels as a pyramidal OME-TIFF
    ``.tif``, ``.tiff``           a cloud-optimised GeoTIFF
    ``.png``                      an overview with a legend
    ``.zarr``                     an OME-Zarr of its own with all levels: 0.5, or 0.4 for tools without Zarr v3
    ============================  ==================================================================================

    Args:
        result: the volume.
        target: a file on this machine; one that is there is replaced when all is written, and not before. A ``.zarr``
            is a folder, and must not be there.
        simplify: polygons only: greatest distance in voxels by which boundaries may move; None for exact ones.
        min_size: polygons only: regions of fewer voxels are left out.
        classes: names of the class ids 0, 1 ...; None for those that the result has.
        object_type: GeoJSON only: what QuPath takes polygons for, ``"annotation"`` or ``"detection"``.
        ngff: ``.zarr`` only: version of OME-NGFF, ``"0.4"`` (Zarr v2, no shards) or ``"0.5"``, which None means.
        holes: ``"background"`` takes chunks that failed, of a run that accepted it, and other stored chunks that are
            missing, for background. What a mask left out is background anyway.
        threads: chunks read, traced or compressed at once.
        listener: who is told what is done.

    Returns:
        ``result``, ``target``, ``format`` (the ending), ``bytes`` of the file, ``classes``, ``crs`` (its code or name,
        or None), ``holes`` (chunks of the run that failed, and are background here); for polygons also ``polygons``,
        their number.

    Raises:
        InputError: refused, nothing was written: an unknown ending, a run that is not complete, a volume that the
            format cannot hold, an option that means nothing for the format, no folder for the target, a package that
            is missing.
        MissingChunkError: a stored chunk is missing.
        InputDamageError: a stored chunk does not decode.
    """
    path = _path(target)
    ending = _ending(path)
    settings = Settings(simplify, min_size, object_type, ngff, threads)
    if holes not in get_args(Holes):
        raise InputError(f"--holes {holes}: is error or background")
    _check(str(result), path, ending, settings)
    found = open_result(str(result), classes, holes=holes)
    told = listener or Silent()
    written = _write(found, path, ending, settings, told)
    geo = found.geo
    return {
        "result": str(result),
        "target": str(target),
        "format": ending,
        "bytes": _bytes(path),
        "classes": list(found.names),
        "crs": None if geo is None else geo.code or geo.name,
        "holes": len(found.mark.get("holes", [])),
        **written,
    }


def _bytes(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(path) for name in names)


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
    polygonal = ending in POLYGONS
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
    if settings.ngff not in (None, *get_args(Version)):
        raise InputError(f"--ngff {settings.ngff}: is {' or '.join(get_args(Version))}")
    if settings.ngff is not None and ending != ZARR:
        raise InputError(f"--ngff: is for .zarr, not for {ending}; leave it out")
    if ending == ".gpkg":
        check_geopackage()
    (check_new if ending == ZARR else check_target)(target)
    if same_place(result, target):
        raise InputError(
            f"target {target}: lies in the result {result}, or holds it; choose a place outside of it"
        )


def _write(found: Result, target: Path, ending: str, settings: Settings, listener: Listener) -> dict[str, Any]:
    """Write the file, and return what there is to tell of it."""
    if ending in POLYGONS:
        return {"polygons": _write_polygons(found, target, ending, settings, listener)}
    volume = found.levels[0]
    if ending == ZARR:
        write_ome_zarr(
            found.levels,
            target,
            version=settings.ngff or VERSION,
            names=found.names,
            attributes=_attributes(found),
            threads=settings.threads,
            progress=_Phase(listener, "export"),
        )
        return {}
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


def _attributes(found: Result) -> dict[str, Any]:
    """Return what a copy of a result says beside its image: its place on Earth, and what its run said of it."""
    place = {} if found.geo is None else georeference_attributes(found.geo, shape=found.levels[0].shape)
    said = {key: found.mark[key] for key in ("state", "holes", "fingerprint") if key in found.mark}
    return {**place, KEY: {"made_by": "export", **said}}


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
