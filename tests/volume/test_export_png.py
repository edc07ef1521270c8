import numpy as np
import pytest
from PIL import Image
from volumes import save, save_ome

from pipeline.errors import InputError
from pipeline.volume import open_volume
from pipeline.volume.export import png
from pipeline.volume.export.colours import class_colour
from pipeline.volume.export.png import write_png


def levels_of(path):
    first = open_volume(path)
    return [first, *(open_volume(path, level=k) for k in range(1, len(first.levels)))]


def pixels_of(path):
    with Image.open(path) as image:
        return np.array(image)


def shown(folder, data, axes, **options):
    save(folder / "a.zarr", data, axes)
    rows, columns = write_png(levels_of(folder / "a.zarr"), folder / "a.png", **options)
    pixels = pixels_of(folder / "a.png")
    return pixels[:rows, :columns], pixels


def test_classes_have_their_colours_and_a_legend(tmp_path):
    ids = np.random.default_rng(0).choice([0, 1, 2, 9], (60, 40)).astype("u2")
    picture, whole = shown(tmp_path, ids, "yx", names=("background", "cell", "wall"))
    assert picture.shape == (60, 40, 3)
    for value in (0, 1, 2, 9):
        assert (picture[ids == value] == class_colour(value)).all()
    legend = whole[:, 40:].reshape(-1, 3)
    assert whole.shape[1] == 40 + png.LEGEND
    for value in (0, 1, 2, 9):
        assert (legend == class_colour(value)).all(axis=1).sum() >= png.SWATCH**2
    assert not (legend == class_colour(3)).all(axis=1).any()


def test_a_long_legend_says_how_many_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(png, "SHOWN", 3)
    ids = np.arange(10, dtype="u1").reshape(1, 10)
    _, whole = shown(tmp_path, ids, "yx")
    assert whole.shape[0] == png.LINE * 5
    assert not (whole[:, 10:] == class_colour(3)).all(axis=-1).any()


@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_one_probability_goes_from_black_to_white(tmp_path, dtype):
    p = np.linspace(0, 1, 12).reshape(1, 3, 4)
    data = np.rint(p * 255).astype("u1") if dtype == "u1" else p.astype(dtype)
    picture, whole = shown(tmp_path, data, "cyx")
    assert picture.shape == whole.shape
    np.testing.assert_array_equal(picture, np.repeat(np.rint(p[0, ..., None] * 255), 3, axis=2))


def test_probabilities_mix_the_colours_of_their_classes(tmp_path):
    p = np.array([[[1.0, 0, 0, 0.5]], [[0, 1.0, 0, 0.5]], [[0, 0, 1.0, 0]]], "f4")
    picture, _ = shown(tmp_path, p, "cyx")
    half = np.rint(np.array(class_colour(1)) / 2)
    np.testing.assert_array_equal(picture[0], [class_colour(0), class_colour(1), class_colour(2), half])


@pytest.mark.parametrize(
    "data", [np.full((2, 3, 3), -4.0, "f4"), np.full((1, 3, 3), np.nan, "f4"), np.ones((2, 3, 3), "u2")]
)
def test_other_values_are_refused(tmp_path, data):
    with pytest.raises(InputError, match="probabilities are uint8, or floats from 0 to 1"):
        shown(tmp_path, data, "cyx")
    assert not (tmp_path / "a.png").exists()


def test_the_middle_plane_of_a_3d_map(tmp_path):
    ids = np.stack([np.full((4, 5), z, "u1") for z in range(5)])
    picture, _ = shown(tmp_path, ids, "zyx")
    assert (picture == class_colour(2)).all()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(png, "LONGEST", 20)
    monkeypatch.setattr(png, "LEGEND", 4)


@pytest.mark.usefixtures("tiny")
def test_the_finest_level_that_fits_is_shown(tmp_path):
    levels = [np.full((40, 30), 1, "u1"), np.full((20, 15), 2, "u1"), np.full((10, 8), 3, "u1")]
    save_ome(tmp_path / "a.zarr", levels, "yx", version="0.5")
    assert write_png(levels_of(tmp_path / "a.zarr"), tmp_path / "a.png") == (20, 15)
    assert tuple(pixels_of(tmp_path / "a.png")[0, 0]) == class_colour(2)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("shape", [(50, 30), (30, 50), (1, 90), (90, 1), (41, 33)])
@pytest.mark.parametrize("band", [1, 200, 10**6])
def test_where_no_level_fits_voxels_are_picked_evenly(tmp_path, shape, band, monkeypatch):
    monkeypatch.setattr(png, "BAND", band)
    ids = np.random.default_rng(0).integers(0, 5, shape).astype("u1")
    picture, whole = shown(tmp_path, ids, "yx")
    step = max(-(-shape[0] // 20), -(-shape[1] // 16))
    rows, columns = (np.arange(min(step // 2, n - 1), n, step) for n in shape)
    expected = np.array([class_colour(i) for i in range(5)], "u1")[ids[np.ix_(rows, columns)]]
    np.testing.assert_array_equal(picture, expected)
    assert picture.shape[0] <= 20
    assert whole.shape[1] <= 20
