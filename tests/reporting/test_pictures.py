import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from pipeline.errors import InputError
from pipeline.reporting.pictures import (
    ERROR_COLOURS,
    ERROR_NAMES,
    STATE_COLOURS,
    class_colours,
    contrast,
    data_uri,
    error_codes,
    error_map,
    grid_picture,
    overlay,
    png_bytes,
)

WHITE = (255, 255, 255)
DTYPES = ["?", "u1", "u2", "i2", "u8", "f2", "f4", "f8"]


def ramp(channels=1, dtype=np.float32):
    return np.broadcast_to(np.arange(100).reshape(10, 10), (channels, 10, 10)).astype(dtype)


# contrast


@pytest.mark.parametrize("dtype", ["u1", "i2", "u4", "f4", "f8"])
def test_percentiles_span_black_to_white(dtype):
    shown = contrast(ramp(dtype=dtype))
    assert shown.shape == (10, 10, 3)
    assert shown.dtype == np.uint8
    assert shown[0, 0].tolist() == [0, 0, 0]
    assert shown[-1, -1].tolist() == [255, 255, 255]
    assert np.all(np.diff(shown[..., 0].ravel().astype(int)) >= 0)


def test_outliers_do_not_eat_the_contrast():
    image = ramp()
    image[0, 0, 0] = 1e9
    assert np.ptp(contrast(image)[1:].astype(int)) > 200


@pytest.mark.parametrize(
    ("channels", "colour_of_the_first"), [(1, [1, 1, 1]), (2, [0, 1, 0]), (3, [1, 0, 0]), (4, [1, 0, 0])]
)
def test_channels_become_colours(channels, colour_of_the_first):
    image = np.zeros((channels, 10, 10))
    image[0] = ramp()[0]
    image[1:, 0, 0] = 5  # one voxel, so that the other channels have two values
    assert (contrast(image)[-1, -1] > 0).tolist() == [bool(c) for c in colour_of_the_first]


def test_three_channels_keep_their_hue():
    image = np.concatenate([ramp(), ramp() / 2, np.zeros((1, 10, 10))])
    red, green, blue = contrast(image)[-1, -1].tolist()
    assert red == 255
    assert green == pytest.approx(132, abs=6)
    assert blue == 0


def test_values_that_are_not_finite_show_as_black():
    image = ramp()
    image[0, -1, -3:] = np.nan, np.inf, -np.inf
    assert contrast(image)[-1, -3:].tolist() == [[0, 0, 0]] * 3
    assert not contrast(np.full((1, 2, 2), np.nan)).any()


def test_the_largest_numbers_can_be_shown():
    largest = np.finfo(np.float64).max
    assert contrast(np.array([[[-largest, largest]]]))[0, :, 0].tolist() == [0, 255]


def test_constant_and_sparse_images():
    assert set(contrast(np.full((1, 3, 3), 7)).ravel()) == {128}
    sparse = np.zeros((1, 20, 20), np.uint8)
    sparse[0, 3, 4] = 1
    assert contrast(sparse)[3, 4].tolist() == [255, 255, 255]
    assert contrast(sparse).sum() == 3 * 255


@given(st.data(), st.sampled_from(DTYPES))
def test_any_image_can_be_shown(data, dtype):
    shape = data.draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=6))
    shown = contrast(data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), max_value=None))))
    assert shown.shape == (*shape[1:], 3)
    assert shown.dtype == np.uint8


@pytest.mark.parametrize("shape", [(3, 3), (0, 3, 3), (1, 0, 3), (1, 1, 1, 1)])
def test_what_cannot_be_shown_is_refused(shape):
    with pytest.raises(InputError, match=r"axes \(c, h, w\)"):
        contrast(np.zeros(shape))


# overlay


def test_the_background_stays_and_classes_are_mixed_in():
    image = ramp(3)
    classes = np.zeros((10, 10), np.uint8)
    classes[2:4] = 1
    below = contrast(image)
    assert np.array_equal(overlay(image, classes, colours=class_colours(2), opacity=0.0), below)
    full = overlay(image, classes, colours=class_colours(2), opacity=1.0)
    assert np.array_equal(full[classes == 0], below[classes == 0])
    assert np.all(full[classes == 1] == class_colours(2)[1, :3])
    half = overlay(image, classes, colours=class_colours(2), opacity=0.5)
    assert np.abs(half - (below / 2 + full / 2)).max() <= 1


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "u8"])
def test_classes_come_in_any_integer_dtype(dtype):
    classes = (ramp()[0] > 50).astype(dtype)
    painted = overlay(ramp(), classes, colours=class_colours(2), opacity=1.0)
    assert np.all(painted[6:] == class_colours(2)[1, :3])


@pytest.mark.parametrize(
    ("classes", "opacity", "message"),
    [
        (np.zeros((3, 4), int), 0.5, r"\(1, 10, 10\) and its classes \(3, 4\)"),
        (np.zeros((10, 10)), 0.5, "float64"),
        (np.zeros((10, 10), int), 1.5, "opacity is 1.5"),
        (np.zeros((10, 10), int), -0.1, "opacity is -0.1"),
        (np.full((10, 10), 2), 0.5, "from 2 to 2, but there are colours for 0 to 1"),
        (np.full((10, 10), -1), 0.5, "from -1 to -1"),
    ],
)
def test_what_cannot_be_laid_over_is_refused(classes, opacity, message):
    with pytest.raises(InputError, match=message):
        overlay(ramp(), classes, colours=class_colours(2), opacity=opacity)


def test_class_colours():
    colours = class_colours(29)
    assert colours.dtype == np.uint8
    assert colours[0, 3] == 0
    assert np.all(colours[1:, 3] == 255)
    assert len({tuple(c) for c in colours}) == 29
    assert np.array_equal(class_colours(3), colours[:3])
    assert np.array_equal(class_colours(30)[29], colours[1])
    with pytest.raises(InputError, match="classes is 0"):
        class_colours(0)


# errors


@pytest.mark.parametrize(
    ("prediction", "target", "name"),
    [
        (0, 0, "true negative"),
        (1, 1, "true positive"),
        (2, 2, "true positive"),
        (1, 0, "false positive"),
        (0, 2, "false negative"),
        (1, 2, "wrong class"),
        (1, 255, "ignored"),
        (0, 255, "ignored"),
    ],
)
def test_what_became_of_a_voxel(prediction, target, name):
    pair = np.array([[prediction]], np.uint8), np.array([[target]], np.uint8)
    code = ERROR_NAMES.index(name)
    assert error_codes(*pair, ignore=255).tolist() == [[code]]
    assert error_map(*pair, ignore=255).tolist() == [[ERROR_COLOURS[code, :3].tolist()]]


def test_errors_can_be_laid_over_an_image():
    prediction, target = ramp()[0] > 30, ramp()[0] > 50
    codes = error_codes(prediction, target)
    painted = overlay(ramp(), codes, colours=ERROR_COLOURS, opacity=1.0)
    assert np.array_equal(painted[codes == 0], contrast(ramp())[codes == 0])
    assert np.array_equal(painted[codes == 2], error_map(prediction, target)[codes == 2])
    assert len(ERROR_COLOURS) == len(ERROR_NAMES) == len({tuple(c) for c in ERROR_COLOURS.tolist()})


def test_errors_need_equal_shapes():
    with pytest.raises(InputError, match=r"\(2, 3\) and the target \(3, 2\)"):
        error_map(np.zeros((2, 3), int), np.zeros((3, 2), int))


# grid


def test_each_chunk_has_its_cell():
    states = ["done", "failed", "skipped", "pending", "done", "done"]
    picture = grid_picture(states, (2, 3), cell_px=2)
    assert picture.shape == (4, 6, 3)
    assert picture.dtype == np.uint8
    for i, state in enumerate(states):
        y, x = divmod(i, 3)
        assert np.all(picture[2 * y : 2 * y + 2, 2 * x : 2 * x + 2] == STATE_COLOURS[state])


def test_large_cells_are_parted_by_lines():
    picture = grid_picture(["done"] * 4, (2, 2), cell_px=5)
    assert np.all(picture[[4, 9]] == WHITE)
    assert np.all(picture[:, [4, 9]] == WHITE)
    assert np.all(picture[:4, :4] == STATE_COLOURS["done"])


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 6), st.randoms())
def test_every_chunk_of_any_grid_is_painted_once(grid_shape, cell_px, random):
    n = int(np.prod(grid_shape))
    states = random.choices(list(STATE_COLOURS), k=n)
    picture = grid_picture(states, tuple(grid_shape), cell_px=cell_px)
    cells = picture[::cell_px, ::cell_px].reshape(-1, 3)
    for state, colour in STATE_COLOURS.items():
        assert (cells == colour).all(axis=1).sum() == states.count(state)


def test_planes_lie_side_by_side():
    states = ["done"] * 6 + ["failed"] * 6
    picture = grid_picture(states, (2, 3, 2), cell_px=1)
    assert picture.shape == (3, 5, 3)
    assert np.all(picture[:, :2] == STATE_COLOURS["done"])
    assert np.all(picture[:, 2] == WHITE)
    assert np.all(picture[:, 3:] == STATE_COLOURS["failed"])


@pytest.mark.parametrize(
    ("states", "grid_shape", "cell_px", "message"),
    [
        (["done"], (1, 2), 4, r"1 states for the chunks of a grid of \(1, 2\)"),
        ([], (0, 3), 4, "0 states"),
        (["lost", "done"], (1, 2), 4, "'lost'"),
        (["done"], (1, 1), 0, "0 pixels"),
    ],
)
def test_what_is_no_grid_is_refused(states, grid_shape, cell_px, message):
    with pytest.raises(InputError, match=message):
        grid_picture(states, grid_shape, cell_px=cell_px)


# files


@pytest.mark.parametrize("channels", [3, 4])
def test_png_keeps_every_value(channels):
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, channels), dtype=np.uint8)
    encoded = png_bytes(picture)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encoded))), picture)
    head, _, body = data_uri(picture).partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body) == encoded


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 2, 3)), np.zeros((2, 2), np.uint8), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 2, 3), "u1")],
)
def test_what_is_no_picture_is_refused(picture):
    with pytest.raises(InputError, match="a picture is"):
        data_uri(picture)
