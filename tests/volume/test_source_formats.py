import io

import numpy as np
import pytest
import zarr
from PIL import Image
from volumes import numbers, save, save_ome

from pipeline.errors import InputDamageError, MissingChunkError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.sources import images, open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.units import METRES, unit_name

GREY = (np.arange(20 * 30).reshape(20, 30) % 251).astype("u1")
GREY16 = (np.arange(20 * 30).reshape(20, 30) * 109).astype("u2")
RGB = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def alpha(voxels, value):
    voxels = voxels if voxels.ndim == 3 else voxels[:, :, np.newaxis]
    return np.concatenate([voxels, np.full((*voxels.shape[:2], 1), value, "u1")], axis=2)


def whole(path, **options):
    with open_source(path, Reading(**options)) as source:
        return source.read(Box.of_shape(source.shape))


@pytest.mark.parametrize(
    ("image", "channels", "expected"),
    [
        (Image.fromarray(GREY), None, GREY[np.newaxis]),
        (Image.fromarray(GREY16), None, GREY16[np.newaxis]),
        (Image.fromarray(GREY > 99), None, (GREY > 99)[np.newaxis]),
        (Image.fromarray(RGB), 3, np.moveaxis(RGB, -1, 0)),
        (Image.fromarray(alpha(RGB, 255)), 3, np.moveaxis(RGB, -1, 0)),
        (Image.fromarray(alpha(GREY, 255)), None, GREY[np.newaxis]),
    ],
)
def test_png_is_exact(tmp_path, image, channels, expected):
    image.save(tmp_path / "a.png")
    with open_source(tmp_path / "a.png") as source:
        assert (source.shape, source.channels, source.dtype) == ((20, 30), channels, expected.dtype)
        assert source.space == Space.unscaled("yx")
        assert source.slab == (20, 30)
        assert source.name == str(tmp_path / "a.png")
        assert source.where((3, 4)) == f"{source.name}, voxel 3,4"
        np.testing.assert_array_equal(source.read(Box((0, 0), (20, 30))), expected)
        np.testing.assert_array_equal(source.read(Box((3, 5), (9, 7))), expected[:, 3:9, 5:7])


@pytest.mark.parametrize("voxels", [GREY, RGB])
def test_jpeg_is_what_pillow_decodes(tmp_path, voxels):
    Image.fromarray(voxels).save(tmp_path / "a.jpg", quality=80)
    decoded = np.asarray(Image.open(tmp_path / "a.jpg"))
    expected = decoded[np.newaxis] if voxels.ndim == 2 else np.moveaxis(decoded, -1, 0)
    np.testing.assert_array_equal(whole(tmp_path / "a.jpg"), expected)


def test_the_content_tells_the_format_not_the_name(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.jpg", format="PNG")
    np.testing.assert_array_equal(whole(tmp_path / "a.jpg")[0], GREY)


@pytest.mark.parametrize(
    ("image", "form", "message"),
    [
        (Image.fromarray(alpha(RGB, 254)), "PNG", "alpha channel that is not opaque"),
        (Image.fromarray(alpha(GREY, 0)), "PNG", "alpha channel that is not opaque"),
        (Image.fromarray(RGB).convert("P"), "PNG", "indices into a palette; save the indices as grey"),
        (Image.fromarray(RGB).convert("CMYK"), "JPEG", "CMYK; convert it to RGB"),
    ],
)
def test_pixels_that_are_no_voxels_are_refused(tmp_path, image, form, message):
    image.save(tmp_path / "a", format=form)
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path / "a")


@pytest.mark.parametrize(("colour_type", "samples"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_of_colour_are_refused_not_halved(tmp_path, colour_type, samples):
    imagecodecs = pytest.importorskip("imagecodecs")
    voxels = np.full((4, 5, samples), 300, "u2")
    content = imagecodecs.png_encode(voxels)
    assert (content[24], content[25]) == (16, colour_type)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(VolumeError, match=r"16 bits in .* would be read as 8 bits; save it as TIFF"):
        open_source(tmp_path / "a.png")


def test_files_beyond_the_limit_are_refused_before_they_are_decoded(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "LIMIT", 20 * 30 - 1)
    with pytest.raises(VolumeError, match="30 x 20 pixels; a PNG or JPEG is decoded whole, so at most 599"):
        open_source(tmp_path / "a.png")


def test_pillows_own_limit_is_passed_and_left_as_it_is(tmp_path, monkeypatch):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    np.testing.assert_array_equal(whole(tmp_path / "a.png")[0], GREY)
    assert Image.MAX_IMAGE_PIXELS == 100


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_damaged_images_are_refused(tmp_path, form):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (200, 200)).astype("u1")
    Image.fromarray(noise).save(buffer, format=form)
    content = buffer.getvalue()
    (tmp_path / "header").write_bytes(content[:12])
    with pytest.raises(VolumeError, match=r"cannot be read .* may be damaged"):
        open_source(tmp_path / "header")
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    with open_source(tmp_path / "half") as source, pytest.raises(VolumeError, match="cannot be read"):
        source.read(Box((0, 0), (1, 1)))


def test_an_image_has_its_own_axes_and_one_level(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert whole(tmp_path / "a.png", axes="YXC").shape == (3, 20, 30)
    with pytest.raises(VolumeError, match="its axes are yxc, not 'zyx'"):
        open_source(tmp_path / "a.png", Reading(axes="zyx"))
    with pytest.raises(VolumeError, match="no level 1; this format has level 0 only"):
        open_source(tmp_path / "a.png", Reading(level=1))


@pytest.mark.parametrize("dtype", ["?", "u1", ">u2", "i4", "f2", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_is_exact_and_native(tmp_path, dtype, order):
    data = numbers("zyx", dtype)
    np.save(tmp_path / "a.npy", np.asarray(data, order=order))
    with open_source(tmp_path / "a.npy", Reading(axes="zyx")) as source:
        assert (source.shape, source.channels, source.slab) == (data.shape, None, None)
        read = source.read(Box((1, 2, 3), (4, 5, 6)))
        assert read.dtype == source.dtype
        assert read.dtype.isnative
        np.testing.assert_array_equal(read[0], data[1:4, 2:5, 3:6])


@pytest.mark.parametrize(("axes", "channels"), [("yxc", 3), ("cyx", 3), ("tczyx", 3), ("tyx", None)])
def test_npy_with_other_axes(tmp_path, axes, channels):
    data = numbers(axes)
    np.save(tmp_path / "a.npy", data)
    with open_source(tmp_path / "a.npy", Reading(axes=axes)) as source:
        assert source.channels == channels
    plain = numbers("yx")
    np.save(tmp_path / "b.npy", plain)
    np.testing.assert_array_equal(whole(tmp_path / "b.npy")[0], plain)


@pytest.mark.parametrize(
    ("array", "axes", "message"),
    [
        (np.zeros((3, 4, 5)), None, r"shape \(3, 4, 5\) does not name its axes; say them with --axes"),
        (np.zeros(3), None, "does not name its axes"),
        (np.zeros(3), "x", "cannot be used"),
        (np.zeros((3, 4)), "zyx", "name 3 axes, but the array has 2"),
        (np.zeros((3, 4, 5)), "tyx", "it has 3 time points"),
        (np.zeros((3, 0)), None, r"shape \(3, 0\) holds no voxel"),
        (np.zeros((3, 4), "c8"), None, "data type complex64 is not numeric"),
        (np.zeros((3, 4), "U3"), None, "data type <U3 is not numeric"),
        (np.zeros((3, 4), "M8[s]"), None, "is not numeric"),
        (np.zeros((3, 4), [("a", "u1")]), None, "is not numeric"),
        (np.array([[None, {}]]), None, "cannot be read"),
    ],
)
def test_npy_that_is_no_volume_is_refused(tmp_path, array, axes, message):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path / "a.npy", Reading(axes=axes))


def test_damaged_npy_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((30, 40)))
    content = (tmp_path / "a.npy").read_bytes()
    for length in (7, 50, len(content) - 1):
        (tmp_path / "a.npy").write_bytes(content[:length])
        with pytest.raises(VolumeError, match="cannot be read"):
            open_source(tmp_path / "a.npy")
    with pytest.raises(VolumeError, match="level 0 only"):
        open_source(tmp_path / "a.npy", Reading(level=2))


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_plain_zarr(tmp_path, zarr_format):
    data = numbers("yxc")
    save(tmp_path / "a.zarr", data, zarr_format=zarr_format, chunks=(4, 6, 3))
    with open_source(tmp_path / "a.zarr", Reading(axes="yxc")) as source:
        assert (source.shape, source.channels, source.slab) == ((13, 17), 3, (4, 6))
    np.testing.assert_array_equal(whole(tmp_path / "a.zarr", axes="yxc"), np.moveaxis(data, -1, 0))
    with pytest.raises(VolumeError, match="--axes"):
        open_source(tmp_path / "a.zarr")


def test_a_level_of_an_ome_zarr(tmp_path):
    levels = [numbers("zyx"), numbers("zyx")[:, ::2, ::2]]
    save_ome(tmp_path / "a.zarr", levels, "zyx", version="0.4")
    with open_source(str(tmp_path / "a.zarr"), Reading(level=1)) as source:
        assert source.channels is None
        assert source.space == Space("zyx", (2.0,) * 3, (10.0,) * 3, "micrometer")
    np.testing.assert_array_equal(whole(tmp_path / "a.zarr", level=1)[0], levels[1])


def test_holes_and_damage_of_a_zarr_are_errors(tmp_path):
    save(tmp_path / "a.zarr", numbers("yx"), "yx", sharded=True)
    (tmp_path / "a.zarr" / "c" / "0" / "0").unlink()
    (tmp_path / "a.zarr" / "c" / "1" / "1").write_bytes(b"torn")
    with open_source(tmp_path / "a.zarr") as source:
        with pytest.raises(MissingChunkError):
            source.read(Box((0, 0), (1, 1)))
        with pytest.raises(InputDamageError, match="below voxels 9:10,9:10 are cut short"):
            source.read(Box((9, 9), (10, 10)))


def test_what_the_user_says_of_voxels_wins(tmp_path):
    save_ome(tmp_path / "a.zarr", [numbers("zyx")], "zyx", version="0.5")
    with open_source(tmp_path / "a.zarr", Reading(voxel_size=(50, 4, 4), unit="nm")) as source:
        assert source.space == Space("zyx", (50.0, 4.0, 4.0), (10.0,) * 3, "nanometer")
    with open_source(tmp_path / "a.zarr", Reading(voxel_size=(50, 4, 4))) as source:
        assert source.space.unit == "micrometer"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"voxel_size": (1.0,)}, "one positive number for each of the axes y,x"),
        ({"voxel_size": (1.0, 0.0)}, "one positive number"),
        ({"voxel_size": (1.0, float("nan"))}, "one positive number"),
        ({"voxel_size": (1.0, float("inf"))}, "one positive number"),
        ({"voxel_size": (1.0, 1.0), "unit": "parsec"}, "unknown unit 'parsec'; known are angstrom"),
        ({"unit": "nm"}, "unit 'nm' without a voxel size; give both"),
    ],
)
def test_voxel_sizes_that_cannot_be_are_refused(tmp_path, options, message):
    np.save(tmp_path / "a.npy", numbers("yx"))
    with pytest.raises(VolumeError, match=message):
        open_source(tmp_path / "a.npy", Reading(**options))


@pytest.mark.parametrize("content", [b"", b"hello world", b"GIF89a"])
def test_other_files_are_refused_with_a_list_of_what_is_read(tmp_path, content):
    (tmp_path / "a.gif").write_bytes(content)
    with pytest.raises(VolumeError, match=r"no format that is read .*\.gif.* supported: PNG .*TIFF.*Zarr.*slices"):
        open_source(tmp_path / "a.gif")


def test_missing_files_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="no such file or folder"):
        open_source(tmp_path / "missing.png")


def test_empty_zarr_folders_are_no_slices(tmp_path):
    zarr.create_group(str(tmp_path / "a"))
    with pytest.raises(VolumeError, match="a group without OME metadata"):
        open_source(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nm", "nanometer"),
        (" µm ", "micrometer"),
        ("μm", "micrometer"),
        ("\\u00B5m", "micrometer"),
        ("micron", "micrometer"),
        ("Micrometre", "micrometer"),
        ("MM", "millimeter"),
        ("pixel", None),
        ("", None),
    ],
)
def test_units(text, name):
    assert unit_name(text) == name


def test_all_units_are_their_own_names():
    assert [unit_name(name) for name in METRES] == list(METRES)
