"""Write a result as a file, or as an OME-Zarr, that other programs open: its ending names the format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.config import ExportJob
from pipeline.errors import InputError
from pipeline.jobs.listener import Listener, Silent
from pipeline.jobs.result import Result, open_result
from pipeline.store import same_place
from pipeline.volume.export.cog import export_cog
from pipeline.volume.export.files import check_target
from pipeline.volume.export.geojson import write_geojson
from pipeline.volume.export.geopackage import check_geopackage, write_geopackage
from pipeline.volume.export.ome_tiff import write_ome_tiff
from pipeline.volume.export.ome_zarr import write_ome_zarr
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


def export(job: ExportJob, *, listener: Listener | None = None) -> dict[str, Any]:
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

    A file that is there is replaced when all is written, and not before; a ``.zarr`` is a folder and must not be
    there. With ``holes="background"``, chunks that failed, of a run that accepted it, and other stored chunks that are
    missing count as background; what a mask left out is background anyway.

    Args:
        job: the job.
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
    path = _path(job.target)
    ending = _ending(path)
    _check(job, path, ending)
    found = open_result(job.result, job.classes, holes=job.holes)
    told = listener or Silent()
    written = _write(found, path, ending, job, told)
    geo = found.geo
    return {
        "result": job.result,
        "target": job.target,
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


def _path(target: str) -> Path:
    if "://" in target:
        raise InputError(f"target {target}: exports are files on this machine; name a path")
    return Path(target)


def _ending(target: Path) -> str:
    for ending in ENDINGS:
        if target.name.lower().endswith(ending) and len(target.name) > len(ending):
            return ending
    raise InputError(f"target {target}: its ending names the format, one of {', '.join(ENDINGS)}")


def _check(job: ExportJob, target: Path, ending: str) -> None:
    """Refuse what cannot be done, before any work."""
    for name, value in (("--simplify", job.simplify), ("--min-size", job.min_size)):
        if value is not None and ending not in POLYGONS:
            raise InputError(f"{name}: is for polygons (.geojson, .gpkg), not for {ending}; leave it out")
    if job.simplify is not None:
        check_simplify(job.simplify)
    if job.object_type != "annotation" and ending != ".geojson":
        raise InputError(f"--object-type: is for .geojson, not for {ending}; leave it out")
    if job.ngff is not None and ending != ZARR:
        raise InputError(f"--ngff: is for .zarr, not for {ending}; leave it out")
    if ending == ".gpkg":
        check_geopackage()
    (check_new if ending == ZARR else check_target)(target)
    if same_place(job.result, target):
        raise InputError(
            f"target {target}: lies in the result {job.result}, or holds it; choose a place outside of it"
        )


def _write(found: Result, target: Path, ending: str, job: ExportJob, listener: Listener) -> dict[str, Any]:
    """Write the file, and return what there is to tell of it."""
    if ending in POLYGONS:
        return {"polygons": _write_polygons(found, target, ending, job, listener)}
    volume = found.levels[0]
    if ending == ZARR:
        write_ome_zarr(
            found.levels,
            target,
            version=job.ngff or VERSION,
            names=found.names,
            attributes=_attributes(found),
            threads=job.threads,
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
            threads=job.threads,
            progress=_Phase(listener, "export"),
        )
        return {}
    listener.phase("export", 1, "file")
    if ending == ".png":
        write_png(found.levels, target, names=found.names)
    else:
        names = found.names if "c" in volume.axes else ()
        write_ome_tiff(found.levels, target, names=names, threads=job.threads)
    listener.progress(1)
    return {}


def _attributes(found: Result) -> dict[str, Any]:
    """Return what a copy of a result says beside its image: its place on Earth, and what its run said of it."""
    place = {} if found.geo is None else georeference_attributes(found.geo, shape=found.levels[0].shape)
    said = {key: found.mark[key] for key in ("state", "holes", "fingerprint") if key in found.mark}
    return {**place, KEY: {"made_by": "export", **said}}


def _write_polygons(found: Result, target: Path, ending: str, job: ExportJob, listener: Listener) -> int:
    """Write the polygons of the finest level and return their number."""
    volume, geo = found.levels[0], found.geo
    check_class_map(volume)
    transform = geo.transform if geo is not None else found.transform
    traced = polygons(
        volume, min_size=job.min_size or 1, threads=job.threads, progress=_Phase(listener, "polygons")
    )
    shapes = placed(traced, transform, simplify=job.simplify)
    if ending == ".gpkg":
        return write_geopackage(shapes, target, names=found.names, crs=None if geo is None else geo.crs)
    code = None if geo is None else geo.code
    return write_geojson(shapes, target, names=found.names, object_type=job.object_type, crs=code)


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
