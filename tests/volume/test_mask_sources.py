"""What may say where foreground is: mask volumes, polygons, nodata, and what is not stored."""

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import zarr
from masks import area, disc, save_slide, subject
from rasterio.transform import Affine
from volumes import save

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.geometry import Box
from pipeline.store import LocalPlace
from pipeline.volume.mask import blocks, polygons
from pipeline.volume.mask.auto import open_foreground
from pipeline.volume.mask.blocks import Data
from pipeline.volume.mask.stored import Stored, read_facts, store_mask, survey, survey_stored
from pipeline.volume.mask.volumes import MaskVolume, lies_over

SHAPE = (60, 90)


@pytest.fixture
def image(tmp_path):
    save(tmp_path / "image.zarr", np.full(SHAPE, 7, "u1"), "yx", chunks=(20, 30))
    return subject(tmp_path / "image.zarr")


def whole(mask):
    return mask.read(Box.of_shape(mask.shape))


@pytest.mark.parametrize("dtype", ["bool", "u1", "i4", "f4"])
@pytest.mark.parametrize("factor", [1, 3])
def test_what_is_not_zero_is_foreground(tmp_path, image, dtype, factor):
    bits = np.random.default_rng(0).random((60 // factor, 90 // factor)) < 0.3
    values = (bits * 5).astype(dtype)
    if dtype == "f4":
        values[0, 0], bits[0, 0] = np.nan, False
    save(tmp_path / "mask.zarr", values, "yx", chunks=7)
    mask = open_foreground(str(tmp_path / "mask.zarr"), image)
    assert isinstance(mask, MaskVolume)
    assert np.array_equal(whole(mask), bits)
    assert (mask.kind, mask.reason) == ("volume", "mask: outside the mask")


def test_a_finer_mask_is_taken_where_the_voxels_lie(tmp_path, image, monkeypatch):
    bits = np.random.default_rng(0).random((180, 270)) < 0.5
    np.save(tmp_path / "mask.npy", bits)
    taken = whole(MaskVolume(str(tmp_path / "mask.npy"), image))
    assert np.array_equal(taken, bits[1::3, 1::3])
    monkeypatch.setattr("pipeline.volume.mask.volumes.AT_ONCE", 100)
    assert np.array_equal(whole(MaskVolume(str(tmp_path / "mask.npy"), image)), taken)


def test_chunks_that_a_mask_does_not_store_are_background(tmp_path, image):
    array = save(tmp_path / "mask.zarr", np.ones(SHAPE, "u1"), "yx", chunks=30)
    (tmp_path / "mask.zarr/c/0/0").unlink()
    assert array.shape == SHAPE
    found = whole(MaskVolume(str(tmp_path / "mask.zarr"), image))
    assert not found[:30, :30].any()
    assert found[30:].all()


@pytest.mark.parametrize(
    ("mask", "over"),
    [
        ((60, 90), True), ((30, 45), True), ((20, 30), True), ((7, 10), True), ((7, 11), True), ((8, 11), True),
        ((8, 10), False), ((60, 89), True),
        ((60, 85), False), ((45, 60), False), ((1, 1), True), ((120, 180), True), ((90, 60), False),
    ],
)  # fmt: skip
def test_one_ratio_along_both_sides(mask, over):
    assert lies_over(mask, SHAPE) is over
    assert lies_over((5, *mask), (5, *SHAPE)) is over
    assert not lies_over((4, *SHAPE), (5, *SHAPE))


def test_of_stacks_z_is_kept_or_scaled_alike():
    assert lies_over((10, 30, 45), (20, *SHAPE))
    assert not lies_over((7, 30, 45), (20, *SHAPE))


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((90, 60), "yx", r"its shape \(90, 60\) is not that of the image, \(60, 90\), scaled by one ratio"),
        ((4, 60, 90), "zyx", r"its shape \(4, 60, 90\) is not that of the image"),
        ((2, 60, 90), "cyx", "has 2 channels; a mask has one, or three colours"),
        ((4, 60, 90), "cyx", "has 4 channels"),
    ],
)
def test_masks_that_lie_elsewhere_are_refused(tmp_path, image, shape, axes, message):
    save(tmp_path / "mask.zarr", np.ones(shape, "u1"), axes)
    with pytest.raises(VolumeError, match=message):
        MaskVolume(str(tmp_path / "mask.zarr"), image)


def test_a_mask_is_known_by_what_is_stored(tmp_path, image):
    array = save(tmp_path / "mask.zarr", np.ones(SHAPE, "u1"), "yx", chunks=30)
    before = MaskVolume(str(tmp_path / "mask.zarr"), image).identity
    assert MaskVolume(str(tmp_path / "mask.zarr"), image).identity == before
    array[0, 0] = 0
    assert MaskVolume(str(tmp_path / "mask.zarr"), image).identity != before


def geojson(path, *rings):
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": list(rings)}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return str(path)


def ring(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


@pytest.mark.parametrize("most", [1 << 28, 60 * 90 // 4])
def test_polygons_have_holes(tmp_path, image, monkeypatch, most):
    monkeypatch.setattr(polygons, "MOST", most)
    url = geojson(tmp_path / "a.geojson", ring(10, 4, 50, 44), ring(20, 14, 40, 34))
    mask = open_foreground(url, image)
    factor = 1 if most > 60 * 90 else 2
    expected = np.zeros(SHAPE, bool)
    expected[4:44, 10:50], expected[14:34, 20:40] = True, False
    assert np.array_equal(whole(mask), expected[::factor, ::factor])
    assert mask.facts["factor"] == factor
    assert mask.reason == "mask: outside polygons"
    before = mask.identity
    geojson(tmp_path / "a.geojson", ring(10, 4, 50, 45))
    assert mask.identity != before


def raster(path, values, nodata, overviews=()):
    profile = {"driver": "GTiff", "count": values.shape[0], "height": values.shape[1], "width": values.shape[2],
               "dtype": values.dtype.name, "crs": "EPSG:32618", "nodata": nodata, "tiled": True, "blockxsize": 64,
               "blockysize": 64, "transform": Affine(10, 0, 5e5, 0, -10, 4e6)}  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)
        if overviews:
            file.build_overviews(overviews)
    return path


@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint8", 0), ("int16", -9999), ("float32", float("nan")), ("float32", -1)]
)
def test_data_is_where_any_band_is_not_nodata(tmp_path, dtype, nodata):
    true = disc((200, 300), (100, 120), 60)
    values = np.full((2, 200, 300), nodata, dtype)
    values[1][true] = 5
    mask = open_foreground("auto", subject(raster(tmp_path / "a.tif", values, nodata)))
    assert isinstance(mask, Data)
    assert np.array_equal(whole(mask), true)
    assert mask.reason == "mask: no data"


def test_overviews_are_taken_and_widened(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.volume.mask.levels.LEAST_SIDE", 100)
    true = disc((200, 300), (100, 120), 60)
    values = np.where(true, 5, 0).astype("u1")[None]
    of = subject(raster(tmp_path / "a.tif", values, 0, (2, 4)))
    if of.image.level_count == 1:
        pytest.skip("overviews are not read as levels")
    mask = Data(of)
    found = whole(mask)
    assert found.shape == (100, 150)
    assert found[true[::2, ::2]].all()
    assert found.sum() < 1.2 * true[::2, ::2].sum()


def test_large_images_have_a_coarse_mask_and_no_voxel_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "MOST", 300)
    monkeypatch.setattr(blocks, "AT_ONCE", 128)
    data = np.zeros((7, 45, 61), "f4")
    data[3, 17, 33] = data[6, 44, 60] = 1
    save(tmp_path / "a.zarr", data, "zyx", chunks=(4, 8, 8))
    of = subject(tmp_path / "a.zarr")
    mask = open_foreground("auto", of)
    assert np.prod(mask.shape) <= 300
    assert mask.reason == "mask: empty"
    found = survey(mask, area(of, (2, 5, 5)))
    cores = [area(of, (2, 5, 5)).grid.core(int(c)) for c in np.flatnonzero(found.chunks)]
    assert sum(data[core.slices].sum() for core in cores) == 2
    assert found.chunks.mean() < 0.2


def test_chunks_that_are_not_stored_are_not_read(tmp_path, monkeypatch):
    save(tmp_path / "a.zarr", np.ones((64, 64), "u2"), "yx", chunks=16)
    for key in ("c/0/0", "c/0/1", "c/3/3"):
        (tmp_path / "a.zarr" / key).unlink()
    monkeypatch.setattr(blocks, "AT_ONCE", 256)
    found = whole(Data(subject(tmp_path / "a.zarr", holes="background")))
    assert not found[:16, :32].any()
    assert not found[48:, 48:].any()
    assert found.sum() == 13 * 256
    holes = Data(subject(tmp_path / "a.zarr"))
    assert whole(holes).all(), "a hole that is an error is tried, so that the chunk says so"


def test_only_the_region_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "AT_ONCE", 256)
    save(tmp_path / "a.zarr", np.ones((64, 64), "u2"), "yx", chunks=16)
    mask = Data(subject(tmp_path / "a.zarr", Box((20, 30), (40, 50))))
    assert mask.nbytes == 20 * 20 * 2
    assert np.argwhere(whole(mask)).min(axis=0).tolist() == [20, 30]
    assert whole(mask).sum() == 400


def test_colours_on_earth_or_in_stacks_are_no_slides(tmp_path):
    save(tmp_path / "stack.zarr", np.ones((3, 4, 8, 8), "u1"), "czyx")
    assert isinstance(open_foreground("auto", subject(tmp_path / "stack.zarr")), Data)
    raster(tmp_path / "a.tif", np.ones((3, 64, 64), "u1"), 0)
    assert isinstance(open_foreground("auto", subject(tmp_path / "a.tif")), Data)


def test_a_stored_mask_says_what_was_made(tmp_path, image):
    bits = disc(SHAPE, (30, 45), 20)
    np.save(tmp_path / "mask.npy", bits)
    mask, asked = MaskVolume(str(tmp_path / "mask.npy"), image), area(image, (20, 30))
    place = LocalPlace(tmp_path / "run/mask.zarr")
    made = store_mask(place, mask, asked, facts={"seen": None})
    again = survey_stored(place, asked)
    assert again.digest == made.digest == survey(mask, asked).digest
    assert np.array_equal(again.chunks, made.chunks)
    assert again.foreground == bits.mean()
    facts = read_facts(place)
    assert (facts["kind"], facts["skipped"], facts["chunks"]) == ("volume", int((~made.chunks).sum()), 9)
    assert np.array_equal(zarr.open_array(tmp_path / "run/mask.zarr", mode="r")[...] != 0, bits)
    assert np.array_equal(Stored(place, SHAPE).of_image(Box((3, 5), (40, 80))), bits[3:40, 5:80])


def test_a_mask_holds_for_every_slice_of_a_stack(tmp_path):
    save(tmp_path / "stack.zarr", np.ones((5, *SHAPE), "u1"), "zyx", chunks=30)
    bits = disc((30, 45), (15, 20), 9)
    np.save(tmp_path / "mask.npy", bits)
    of = subject(tmp_path / "stack.zarr")
    asked = area(replace(of, region=Box((1, 4, 0), (5, 60, 90))), (2, 10, 10))
    place = LocalPlace(tmp_path / "mask.zarr")
    found = store_mask(place, MaskVolume(str(tmp_path / "mask.npy"), of), asked, facts={})
    full = np.broadcast_to(bits.repeat(2, 0).repeat(2, 1), (5, *SHAPE))
    chunks = [full[asked.grid.core(n).shift((1, 4, 0)).slices].any() for n in range(len(asked.grid))]
    assert found.chunks.tolist() == chunks
    voxels = np.full((2, 5, *SHAPE), 9, "u1")
    box = Box((1, 4, 0), (5, 60, 90))
    masked = Stored(place, (5, *SHAPE)).apply(voxels[(slice(None), *box.slices)], box)
    assert np.array_equal(masked, np.broadcast_to(9 * full[box.slices], masked.shape))
    assert masked.dtype == np.uint8


def test_a_mask_that_is_not_whole_is_none(tmp_path, image):
    np.save(tmp_path / "mask.npy", np.ones(SHAPE, bool))
    place = LocalPlace(tmp_path / "mask.zarr")
    assert read_facts(place) is None
    with pytest.raises(VolumeError, match="the run's mask is not there, or not whole"):
        Stored(place, SHAPE)
    store_mask(place, MaskVolume(str(tmp_path / "mask.npy"), image), area(image, (20, 30)), facts={})
    next((tmp_path / "mask.zarr/c").rglob("0/0")).unlink()
    with pytest.raises(MissingChunkError):
        survey_stored(place, area(image, (20, 30)))


def test_slides_are_told_from_others(tmp_path):
    path = save_slide(tmp_path / "a.zarr", np.zeros((4, 64, 64), "u1"))
    assert isinstance(open_foreground("auto", subject(path)), Data)
