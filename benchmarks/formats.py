"""Real files through everything: info, ingest, compare, segment, export, read back; one row a file."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import openslide
import pyogrio.raw
import rasterio
import rasterio.features
import shapely
import tifffile
import zarr
from PIL import Image

import pipeline
from benchmarks.readback import Voxels, same_voxels
from benchmarks.roundtrip import Case, Passed, Truth, compare_metadata, round_trip
from pipeline.config import IngestJob

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where the real files lie; they belong to others and are no part of the project."""

SLIDE = (".ome.tif", ".geojson", ".png", ".zarr")
RASTER = (".tif", ".ome.tif", ".geojson", ".gpkg", ".png", ".zarr")
STACK = (".ome.tif", ".png", ".zarr")

MOSAIC = ("mosaic_cog1.tif", "mosaic_cog2.tif")
SCENE = DATA / "sat_labelled" / "massachusetts" / "22978945_15.tif"
BUILDINGS = SCENE.with_name("22978945_15_buildings.gpkg")
SLIDE_SIZE = (0.5, 0.5)
STACK_SIZE, STACK_UNIT = (50.0, 4.0, 4.0), "nanometer"


def run(place: Path) -> str:
    """Take every file through everything; any difference ends it."""
    passed = []
    for i, case in enumerate(cases(place)):
        passed.append(round_trip(case, _fresh(place / f"case-{i}")))
        print(f"{case.name}: equal", flush=True)
    passed.append(_target(_fresh(place / "target")))
    lines = [
        "| file | voxels compared | different | metadata equal | exports read back |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *map(_row, passed)])


def cases(place: Path) -> list[Case]:
    """Return the real files, what is said of each, and how its reference library reads it."""
    slides, rasters = DATA / "path_slides", DATA / "geotiff_io"
    svs, levels = slides / "CMU-1-Small-Region.svs", slides / "small_HE_levels.tiff"
    volume, stack = DATA / "vol3d" / "sample_ovule.h5", DATA / "em_isbi2012" / "image"
    for name in MOSAIC:
        (place / "mosaic").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(rasters / name, place / "mosaic" / name)
    stated = {"voxel_size": STACK_SIZE, "unit": STACK_UNIT}
    sized = {"voxel_size": SLIDE_SIZE, "unit": "micrometer"}
    return [
        Case(svs.name, str(svs), partial(_aperio, svs), SLIDE),
        Case(levels.name, str(levels), partial(_plain_slide, levels), SLIDE, sized),
        Case("RGB.byte.tif", str(rasters / "RGB.byte.tif"), partial(_raster, rasters / "RGB.byte.tif"), RASTER),
        Case("cogeo.tif", str(rasters / "cogeo.tif"), partial(_raster, rasters / "cogeo.tif"), RASTER),
        Case("mosaic_cog1.tif + mosaic_cog2.tif", str(place / "mosaic"), _mosaic, RASTER, {"snap": 0.1}),
        Case(SCENE.name, str(SCENE), partial(_raster, SCENE), RASTER),
        Case(f"{volume.name}::/raw", f"{volume}::/raw", partial(_hdf5, volume), STACK, {"axes": "zyx"}),
        Case("em_isbi2012, 24 slices", str(stack / "*.png"), partial(_slices, stack), STACK, stated),
    ]


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _row(passed: Passed) -> str:
    said, exports = ", ".join(passed.metadata), " ".join(f"`{ending}`" for ending in passed.exports)
    return f"| {passed.name} | {passed.voxels:,} | 0 | {said} | {exports or 'none: a target'} |"


def _aperio(path: Path) -> Truth:
    """Read an Aperio slide with tifffile and OpenSlide, which must agree; its pixel size is OpenSlide's."""
    voxels = tifffile.imread(path, series=0)
    with openslide.OpenSlide(path) as slide:
        other = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
        size = tuple(float(slide.properties[f"openslide.mpp-{axis}"]) for axis in "yx")
    same_voxels(f"{path.name}, OpenSlide beside tifffile", other, voxels)
    return Truth(np.moveaxis(voxels, -1, 0), size, "micrometer")


def _plain_slide(path: Path) -> Truth:
    """Read a tiled pyramid with tifffile. Its tags say 72 pixels an inch, which is no measurement: we say the size."""
    return Truth(np.moveaxis(tifffile.imread(path), -1, 0), SLIDE_SIZE, "micrometer")


def _raster(path: Path) -> Truth:
    """Read a raster with rasterio."""
    with rasterio.open(path) as raster:
        return _placed(raster.read(), raster, raster.nodata)


def _placed(voxels: Voxels, raster: rasterio.DatasetReader, nodata: float | None) -> Truth:
    t = raster.transform
    unit = "meter" if raster.crs.linear_units in ("metre", "meter") else raster.crs.linear_units
    return Truth(voxels, (math.hypot(t.b, t.e), math.hypot(t.a, t.d)), unit, raster.crs, tuple(t)[:6], nodata)


def _mosaic() -> Truth:
    """Lay the scenes on the grid of the first one, by whole voxels; it wins where some band of it is not nodata."""
    with (
        rasterio.open(DATA / "geotiff_io" / MOSAIC[0]) as one,
        rasterio.open(DATA / "geotiff_io" / MOSAIC[1]) as two,
    ):
        corner = ~one.transform * (two.transform.c, two.transform.f)
        column, row = (round(v) for v in corner)
        left, top = min(column, 0), min(row, 0)
        width = max(one.width, column + two.width) - left
        height = max(one.height, row + two.height) - top
        whole = np.full((one.count, height, width), one.nodata, one.dtypes[0])
        for raster, (y, x) in ((two, (row - top, column - left)), (one, (-top, -left))):
            voxels = raster.read()
            part = whole[:, y : y + raster.height, x : x + raster.width]
            np.copyto(part, voxels, where=(voxels != raster.nodata).any(axis=0))
        found = _placed(whole, one, one.nodata)
        moved = one.transform * one.transform.translation(left, top)
        return Truth(whole, found.voxel_size, found.unit, found.crs, tuple(moved)[:6], found.nodata)


def _hdf5(path: Path) -> Truth:
    """Read a dataset with h5py."""
    with h5py.File(path) as file:
        data = file["raw"]
        return Truth(data[...][None], tuple(map(float, data.attrs["element_size_um"])), "micrometer")


def _slices(folder: Path) -> Truth:
    """Read slices with Pillow, in the order of their names."""
    planes = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    return Truth(np.stack(planes)[None], STACK_SIZE, STACK_UNIT)


def _target(place: Path) -> Passed:
    """Draw a scene's polygons on its grid, and compare with GDAL's drawing of them."""
    image, target = place / "image.zarr", place / "target.zarr"
    pipeline.ingest(IngestJob(source=str(SCENE), output=str(image)))
    pipeline.ingest(
        IngestJob(source=str(BUILDINGS), output=str(target), like=str(image), classes=("none", "building"))
    )
    truth = _raster(SCENE)
    _, _, wkb, _ = pyogrio.raw.read(BUILDINGS)
    transform = rasterio.Affine(*(truth.transform or ()))
    drawn = rasterio.features.rasterize(
        [(shape, 1) for shape in shapely.from_wkb(wkb)], out_shape=truth.voxels.shape[1:], transform=transform
    )
    same_voxels("target raster", np.asarray(zarr.open_array(str(target / "0"), mode="r")[...]), drawn)
    metadata = compare_metadata("target raster", pipeline.info(target), replace(truth, nodata=None))
    return Passed(f"{BUILDINGS.name} on the grid of {SCENE.name}", drawn.size, metadata, ())
