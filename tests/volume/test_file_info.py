import json

import numpy as np
import pytest
import rasterio
import tifffile
from click.testing import CliRunner
from PIL import Image
from rasterio.transform import Affine
from volumes import save

import pipeline
from pipeline.cli.volumes import info_command
from pipeline.errors import InputError, VolumeError
from pipeline.volume.file_info import file_info
from pipeline.volume.sources.reading import Reading

RGB = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def slide(path, **options):
    with tifffile.TiffWriter(path) as tif:
        settings = {"tile": (32, 32), "photometric": "rgb", "metadata": None} | options
        tif.write(RGB, subifds=1, **settings)
        tif.write(RGB[::2, ::2], subfiletype=1, **settings)
    return path


def test_a_slide_and_its_levels(tmp_path):
    path = slide(tmp_path / "a.tif", resolution=(20000, 20000), resolutionunit="CENTIMETER")
    found = pipeline.info(path)
    json.dumps(found)
    assert found["format"].startswith("slide")
    assert (found["axes"], found["shape"], found["dtype"]) == ("cyx", [3, 70, 90], "uint8")
    assert (found["voxel_size"], found["unit"], found["chunks"]) == ([0.5, 0.5], "micrometer", [32, 32])
    assert [each["shape"] for each in found["levels"]] == [[3, 70, 90], [3, 35, 45]]
    assert found["levels"][1]["voxel_size"] == [1.0, 1.0]
    assert found["stored_bytes"] == path.stat().st_size
    assert pipeline.info(path, level=1)["shape"] == [3, 35, 45]
    with pytest.raises(VolumeError, match="no level 2"):
        pipeline.info(path, level=2)


def test_a_slide_without_a_pixel_size_is_described_all_the_same(tmp_path):
    found = pipeline.info(slide(tmp_path / "a.tif"))
    assert (found["unit"], found["voxel_size"]) == (None, [1.0, 1.0])


def test_what_the_user_says_holds_for_the_level_that_is_described(tmp_path):
    reading = Reading(level=1, voxel_size=(3.0, 3.0), unit="um")
    found = file_info(slide(tmp_path / "a.tif"), reading)
    assert (found["voxel_size"], found["unit"]) == ([3.0, 3.0], "micrometer")
    assert [each["voxel_size"] for each in found["levels"]] == [[1.0, 1.0]] * 2


def test_a_raster_has_its_reference(tmp_path):
    path = tmp_path / "a.tif"
    grid = {"crs": "EPSG:32633", "transform": Affine(2, 0, 500, 0, -2, 1000), "nodata": 7}
    with rasterio.open(path, "w", driver="GTiff", width=9, height=8, count=2, dtype="uint8", **grid) as raster:
        raster.write(np.ones((2, 8, 9), np.uint8))
        raster.descriptions = ("red", "near infrared")
    found = pipeline.info(path)
    assert found["georeference"]["code"] == "EPSG:32633"
    assert found["georeference"]["transform"] == [2, 0, 500, 0, -2, 1000]
    assert found["georeference"]["nodata"] == 7
    assert found["channel_names"] == ["red", "near infrared"]


def test_slices_count_their_files(tmp_path):
    for z in range(3):
        Image.fromarray(RGB[..., 0]).save(tmp_path / f"s{z}.png")
    found = pipeline.info(tmp_path)
    assert (found["axes"], found["shape"], found["stored_chunks"]) == ("zyx", [3, 70, 90], 3)
    assert found["stored_bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_for_people(tmp_path, name):
    path = tmp_path / name
    if name == "a.png":
        Image.fromarray(RGB).save(path)
    else:
        np.save(path, RGB[..., 0])
    found = CliRunner().invoke(info_command, [str(path)])
    assert found.exit_code == 0, found.output
    assert "1 of 1 files, none missing" in found.output
    assert ("PNG" in found.output) == (name == "a.png")
    assert ("read in any pieces" in found.output) == (name == "a.npy")


def test_what_is_not_there(tmp_path):
    with pytest.raises(VolumeError, match="no such file"):
        pipeline.info(tmp_path / "none.png")


def test_a_volume_is_described_as_before(tmp_path):
    save(tmp_path / "a.zarr", RGB[..., 0])
    assert pipeline.info(tmp_path / "a.zarr")["format"] == "Zarr"


@pytest.mark.parametrize("said", [{"bands": (1,)}, {"holes": "background"}, {"voxel_size": (2.0, 2.0)}])
def test_what_changes_nothing_of_a_zarr_is_refused(tmp_path, said):
    save(tmp_path / "a.zarr", RGB[..., 0])
    with pytest.raises(InputError, match="is a Zarr, and described as it is; leave it out"):
        pipeline.info(tmp_path / "a.zarr", **said)


def test_fields_that_are_none_are_refused(tmp_path):
    with pytest.raises(InputError, match="unknown key 'levle'; did you mean 'level'"):
        pipeline.info(tmp_path / "a.zarr", levle=1)


def test_bands_of_a_file(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert pipeline.info(tmp_path / "a.png", bands="3,1")["shape"] == [2, 70, 90]
