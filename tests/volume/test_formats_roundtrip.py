"""Small files of every family through everything that real ones go through in ``benchmarks/formats.py``."""

import h5py
import numpy as np
import pytest
import rasterio
import tifffile
import zarr
from inline import drive
from PIL import Image
from rasterio.crs import CRS
from rasterio.transform import Affine

from benchmarks.readback import CHECKS, Different, Expected, same_voxels
from benchmarks.roundtrip import Case, Truth, compare_metadata, round_trip

UTM = CRS.from_epsg(32618)
NORTH_UP = Affine(2.0, 0.0, 500000.0, 0.0, -2.0, 4000000.0)
OME_SIZE = {"PhysicalSizeY": 0.5, "PhysicalSizeX": 0.25, "PhysicalSizeYUnit": "µm", "PhysicalSizeXUnit": "µm"}


def waves(*shape):
    """Return smooth voxels of all values, with some noise."""
    axes = np.indices(shape, dtype="f4")
    noise = np.random.default_rng(0).random(shape)
    return (sum(np.sin(axis / (4 + i)) for i, axis in enumerate(axes)) * 30 + 120 + 9 * noise).astype("u1")


def raster(path, voxels, transform=NORTH_UP, **options):
    count, height, width = voxels.shape
    profile = {"count": count, "height": height, "width": width, "dtype": voxels.dtype, "crs": UTM}
    with rasterio.open(path, "w", driver="GTiff", transform=transform, **profile, **options) as file:
        file.write(voxels)
    return path


def slide_case(folder):
    voxels = waves(90, 120, 3)
    path = folder / "a.ome.tif"
    tifffile.imwrite(
        path, voxels, tile=(32, 48), photometric="rgb", ome=True, metadata={"axes": "YXS", **OME_SIZE}
    )

    def truth():
        return Truth(np.moveaxis(tifffile.imread(path), -1, 0), (0.5, 0.25), "micrometer")

    return Case(path.name, str(path), truth, (".ome.tif", ".geojson", ".png", ".zarr"))


def raster_case(folder):
    path = raster(folder / "a.tif", waves(4, 80, 100), nodata=0, tiled=True, blockxsize=32, blockysize=32)

    def truth():
        with rasterio.open(path) as file:
            return Truth(file.read(), (2.0, 2.0), "meter", file.crs, tuple(file.transform)[:6], file.nodata)

    return Case(path.name, str(path), truth, (".tif", ".ome.tif", ".geojson", ".gpkg", ".png", ".zarr"))


def mosaic_case(folder):
    whole = waves(1, 60, 110) | 1
    (folder / "scenes").mkdir()
    raster(folder / "scenes" / "1.tif", whole[:, :, :70], nodata=0)
    raster(folder / "scenes" / "2.tif", whole[:, :, 40:], NORTH_UP @ Affine.translation(40.05, 0), nodata=0)

    def truth():
        return Truth(whole, (2.0, 2.0), "meter", UTM, tuple(NORTH_UP)[:6], 0.0)

    return Case("scenes", str(folder / "scenes"), truth, (".tif", ".gpkg"), {"snap": 0.1})


def stack_case(folder):
    (folder / "slices").mkdir()
    for i, plane in enumerate(waves(9, 40, 50)):
        Image.fromarray(plane).save(folder / "slices" / f"{i:02}.png")

    def truth():
        planes = [np.asarray(Image.open(path)) for path in sorted((folder / "slices").iterdir())]
        return Truth(np.stack(planes)[None], (50.0, 4.0, 4.0), "nanometer")

    said = {"voxel_size": (50.0, 4.0, 4.0), "unit": "nanometer"}
    return Case("slices", str(folder / "slices" / "*.png"), truth, (".ome.tif", ".png", ".zarr"), said)


def hdf5_case(folder):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", data=waves(12, 40, 44), chunks=(4, 16, 16), compression="gzip")
        data.attrs["element_size_um"] = (0.5, 0.25, 0.25)

    def truth():
        with h5py.File(path) as file:
            return Truth(file["raw"][...][None], tuple(file["raw"].attrs["element_size_um"]), "micrometer")

    return Case("a.h5", f"{path}::/raw", truth, (".ome.tif", ".png", ".zarr"), {"axes": "zyx"})


@pytest.mark.parametrize("make", [slide_case, mosaic_case, stack_case, hdf5_case])
def test_everything_comes_back_as_it_was(tmp_path, make):
    case = make(tmp_path)
    (tmp_path / "made").mkdir()
    passed = round_trip(case, tmp_path / "made", segment=drive)
    assert passed.voxels == case.truth().voxels.size
    assert passed.exports == case.exports


def test_a_difference_of_one_voxel_is_found():
    one = np.zeros((3, 3), "u1")
    other = one.copy()
    other[1, 1] = 1
    same_voxels("equal", one, one.copy())
    with pytest.raises(Different, match="a, different voxels: 1 instead of 0"):
        same_voxels("a", other, one)
    with pytest.raises(Different, match="a, shape"):
        same_voxels("a", one[:2], one)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"voxel_size": [1.0, 2.0]}, "voxel size"),
        ({"unit": "meter"}, "unit"),
        ({"georeference": {"crs": "EPSG:4326"}}, "georeference"),
    ],
)
def test_another_voxel_size_or_place_is_found(said, message):
    truth = Truth(np.zeros((1, 2, 2), "u1"), (1.0, 1.0), "micrometer")
    found = {"voxel_size": [1.0, 1.0], "unit": "micrometer", "georeference": None}
    assert compare_metadata("a", found, truth) == ("voxel size", "unit")
    with pytest.raises(Different, match=message):
        compare_metadata("a", found | said, truth)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"crs": "EPSG:32619"}, "CRS"),
        ({"transform": [1.0, 0, 0, 0, 1.0, 0]}, "transform"),
        ({"nodata": 1}, "nodata"),
    ],
)
def test_another_georeference_is_found(said, message):
    truth = Truth(np.zeros((1, 2, 2), "u1"), (2.0, 2.0), "meter", UTM, tuple(NORTH_UP)[:6], 0.0)
    geo = {"crs": "EPSG:32618", "transform": list(NORTH_UP)[:6], "nodata": 0.0}
    found = {"voxel_size": [2.0, 2.0], "unit": "meter", "georeference": geo}
    assert "CRS" in compare_metadata("a", found, truth)
    with pytest.raises(Different, match=message):
        compare_metadata("a", found | {"georeference": geo | said}, truth)


def test_readers_find_another_voxel_in_every_export(tmp_path):
    case = raster_case(tmp_path)
    (tmp_path / "made").mkdir()
    round_trip(case, tmp_path / "made", segment=drive)
    truth = case.truth()
    ids = np.asarray(zarr.open_array(str(tmp_path / "made" / "result.zarr" / "0"), mode="r")[...])
    other = ids.copy()
    other[7, 9] = (other[7, 9] + 1) % 3
    for ending in case.exports:
        with pytest.raises(Different, match=r"different voxels: [123] instead of 0"):  # PNG: three colours
            CHECKS[ending](
                tmp_path / "made" / f"out{ending}",
                Expected((other,), truth.voxel_size, truth.unit, truth.crs, truth.transform),
            )
