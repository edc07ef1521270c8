"""Rasters whose nodata is NaN: what was not measured is background, and no network makes NaN of it."""

import numpy as np
import pytest
import rasterio
import torch
from inline import drive
from masks import disc
from rasterio.transform import Affine
from runs import make_model

from pipeline.config import SegmentJob
from pipeline.errors import FailedChunksError, NonFiniteError
from pipeline.geometry import Box
from pipeline.jobs.planning import plan
from pipeline.model.checkpoint import read_header
from pipeline.predict.nodata import NoData, emptied
from pipeline.run.status import status
from pipeline.volume import open_volume

SHAPE = (90, 110)
COLLAR = ~disc(SHAPE, (45, 50), 38)
"""What a rotated scene does not cover."""


def save(path, voxels, nodata):
    count, height, width = voxels.shape
    size = {"count": count, "height": height, "width": width, "dtype": "float32", "nodata": nodata}
    transform = Affine(10, 0, 500000, 0, -10, 4100000)
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32618", transform=transform, **size) as raster:
        raster.write(voxels)
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("nodata")
    torch.manual_seed(8)
    make_model(root / "model.safetensors", channels=2)
    voxels = np.random.default_rng(3).normal(120, 40, (2, *SHAPE)).astype("f4")
    means = np.array(read_header(root / "model.safetensors").normalisation.mean, "f4").reshape(2, 1, 1)
    save(root / "filled.tif", np.where(COLLAR, means, voxels), None)
    save(root / "nan.tif", np.where(COLLAR, np.nan, voxels), np.nan)
    torn = np.where(COLLAR, np.nan, voxels)
    torn[1, 45, 50] = np.nan
    save(root / "torn.tif", torn, np.nan)
    return root


def job(place, name, output, **settings):
    given = {"input": str(place / name), "output": str(output), "model": str(place / "model.safetensors")}
    return SegmentJob.model_validate(
        given | {"chunk": (32, 32), "workers": 1, "pyramid": False, "retries": 0, **settings}
    )


def voxels(output):
    volume = open_volume(output)
    return volume.read(volume.box)


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_what_was_not_measured_is_background_whatever_the_chunks(place, tmp_path, kind):
    drive(job(place, "filled.tif", tmp_path / "filled.zarr", kind=kind))
    plain = voxels(tmp_path / "filled.zarr")
    expected = np.where(COLLAR, 0, plain)
    assert (plain != expected).any()
    for number, chunk in enumerate([(32, 32), (64, 16), SHAPE]):
        output = tmp_path / f"{number}.zarr"
        drive(job(place, "nan.tif", output, kind=kind, chunk=chunk, mask="auto"))
        assert voxels(output).tobytes() == expected.astype(plain.dtype).tobytes()
        assert status(output)["failed"] == 0


@pytest.mark.parametrize(("name", "mask"), [("nan.tif", "none"), ("torn.tif", "auto")])
def test_nan_that_is_not_no_data_fails_its_chunks(place, tmp_path, name, mask):
    with pytest.raises(FailedChunksError):
        drive(job(place, name, tmp_path / "out.zarr", mask=mask))
    failures = status(tmp_path / "out.zarr")["failures"]
    assert all("NaN" in each["error"] for each in failures)
    if name == "torn.tif":
        assert "NaN in some bands and not in all; the first is voxel 45,50" in failures[0]["error"]


def test_the_mask_counts_in_the_memory_plan(place, tmp_path):
    without = plan(job(place, "nan.tif", tmp_path / "a.zarr")).describe()["memory"]
    with_mask = plan(job(place, "nan.tif", tmp_path / "a.zarr", mask="auto")).describe()["memory"]
    assert with_mask["windows"] > without["windows"]
    assert {**with_mask, "windows": 0, "peak": 0} == {**without, "windows": 0, "peak": 0}


def test_infinity_is_never_no_data():
    shown = np.zeros((2, 4, 5), "f4")
    shown[:, 1, 2], shown[:, 3, 3] = np.nan, np.inf
    with pytest.raises(NonFiniteError, match=r"1 of 20 voxels .* the first is voxel 13,23"):
        NoData((1.0, 2.0)).filled(shown, Box((10, 20), (14, 25)))


def test_filling_and_emptying():
    shown = np.arange(40, dtype="f4").reshape(2, 4, 5)
    shown[:, 1, 2] = np.nan
    box = Box((10, 20), (14, 25))
    filled, empty = NoData((-1.0, 7.0)).filled(shown, box)
    assert filled[:, 1, 2].tolist() == [-1, 7]
    assert np.argwhere(empty).tolist() == [[1, 2]]
    assert np.array_equal(filled[:, ~empty], shown[:, ~empty])
    core = Box((11, 21), (13, 24))
    out = emptied(np.full((1, 2, 3), 9, "u1"), empty, core=core, read_box=box)
    assert out.tolist() == [[[9, 0, 9], [9, 9, 9]]]
    untouched = np.full((1, 1, 3), 9, "u1")
    assert emptied(untouched, empty, core=Box((12, 21), (13, 24)), read_box=box) is untouched
