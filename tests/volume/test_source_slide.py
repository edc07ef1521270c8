import os
import struct
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pipeline
from pipeline.config import IngestJob
from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space, open_volume
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.slide import is_slide

APERIO = "Aperio Image Library v11.2.1\r\n300x200 (32x48) JPEG/RGB Q=70|AppMag = 20|MPP = 0.4990|Left = 25.69"
TILE = (32, 48)
REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "path_slides"


def picture(height=200, width=300):
    """Return smooth colours with a little noise: JPEG changes it, and its tiles differ."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).integers(0, 20, (height, width, 3))
    return (np.stack([x % 200, y % 200, (x + y) % 200], axis=-1) + noise).astype("u1")


def write_svs(path, *, description=APERIO, factors=(1, 4), compression="jpeg", **options):
    """Write a slide as Aperio does: level 0, thumbnail in strips, coarser levels, label, macro image."""
    voxels = picture()
    common = {"photometric": "rgb", "metadata": None, "compression": compression, **options}
    with tifffile.TiffWriter(path) as file:
        file.write(voxels, tile=TILE, description=description, **common)
        file.write(voxels[::3, ::3], rowsperstrip=16, description="Aperio\r\n300x200 -> 100x67 - ", **common)
        for factor in factors[1:]:
            file.write(voxels[::factor, ::factor], tile=TILE, description="Aperio\r\nlevel", **common)
        file.write(voxels[:40, :50], subfiletype=1, rowsperstrip=8, description="Aperio\r\nlabel 50x40", **common)
        file.write(voxels[:50, :90], subfiletype=9, rowsperstrip=8, description="Aperio\r\nmacro 90x50", **common)
    return path


def write_pyramid(path, *, subifds, compression="lzw", description=None, levels=3, **options):
    """Write a generic pyramid: coarser levels as pages of their own, or below the first one."""
    voxels = picture()
    common = {"photometric": "rgb", "metadata": None, "compression": compression, "tile": TILE, **options}
    with tifffile.TiffWriter(path, bigtiff=subifds) as file:
        file.write(voxels, description=description, subifds=levels - 1 if subifds else None, **common)
        for level in range(1, levels):
            file.write(voxels[:: 2**level, :: 2**level], subfiletype=1, **common)
    return path


def reference(path, level):
    """Return what tifffile itself reads, channels first."""
    with tifffile.TiffFile(path) as tif:
        return np.moveaxis(tif.series[0].levels[level].asarray(), -1, 0)


def check_level(path, level, **options):
    """Compare a level with tifffile, whole and in parts, and return its space."""
    expected = reference(path, level)
    with open_source(path, Reading(level=level, **options)) as source:
        assert (source.shape, source.channels, source.dtype) == (expected.shape[1:], 3, np.dtype("u1"))
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), expected)
        part = Box(tuple(n // 3 for n in source.shape), tuple(n // 3 + 20 for n in source.shape))
        np.testing.assert_array_equal(source.read(part), expected[(slice(None), *part.slices)])
        assert source.slab == TILE
        return source.space


@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib", "jpeg2000", None])
def test_levels_of_an_aperio_slide(tmp_path, compression):
    path = write_svs(tmp_path / "a.svs", compression=compression, factors=(1, 2, 4))
    assert check_level(path, 0) == Space("yx", (0.499, 0.499), (0.0, 0.0), "micrometer")
    space = check_level(path, 2)
    assert space.voxel_size == pytest.approx((4 * 0.499, 4 * 0.499))
    assert space.translation == pytest.approx((1.5 * 0.499, 1.5 * 0.499))
    with pytest.raises(VolumeError, match="no level 3; it has levels 0 to 2"):
        open_source(path, Reading(level=3))


@pytest.mark.parametrize("subifds", [False, True])
@pytest.mark.parametrize("compression", ["jpeg", "lzw", "zlib"])
def test_levels_of_a_generic_pyramid(tmp_path, subifds, compression):
    path = write_pyramid(tmp_path / "a.tif", subifds=subifds, compression=compression, description="x|MPP = 0.25")
    for level, factor in enumerate((1, 2, 4)):
        assert check_level(path, level).voxel_size == pytest.approx((factor * 0.25, factor * 0.25))


def test_a_level_is_as_large_as_level_0_to_the_rounding_of_its_shape(tmp_path):
    path = write_svs(tmp_path / "a.svs", factors=(1, 7))
    with open_source(path, Reading(level=1)) as source:
        assert source.shape == (29, 43)
        assert source.space.voxel_size == pytest.approx((0.499 * 200 / 29, 0.499 * 300 / 43))


@given(corner=st.tuples(st.integers(0, 199), st.integers(0, 299)), sides=st.tuples(*[st.integers(1, 120)] * 2))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_box_equals_the_same_voxels_of_the_whole(tmp_path, corner, sides):
    path = tmp_path / "a.svs"
    if not path.exists():
        write_svs(path)
    box = Box(corner, tuple(min(c + s, n) for c, s, n in zip(corner, sides, (200, 300), strict=True)))
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read(box), reference(path, 0)[(slice(None), *box.slices)])


def test_only_the_tiles_under_a_box_are_decoded(tmp_path):
    path = write_svs(tmp_path / "a.svs", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        torn = [o for i, o in enumerate(page.dataoffsets) if i != 8]
        across = page.chunked[1]
    content = bytearray(path.read_bytes())
    for offset in torn:
        content[offset : offset + 8] = bytes(8)
    path.write_bytes(content)
    y, x = 8 // across * TILE[0], 8 % across * TILE[1]
    with open_source(path) as source:
        expected = np.moveaxis(picture()[y : y + TILE[0], x : x + TILE[1]], -1, 0)
        np.testing.assert_array_equal(source.read(Box((y, x), (y + TILE[0], x + TILE[1]))), expected)
        with pytest.raises(VolumeError, match="cannot be read"):
            source.read(Box((y, x), (y + TILE[0] + 1, x + 1)))


@pytest.mark.parametrize(
    "options",
    [
        {"description": "Aperio Image Library v11\r\n300x200"},
        {"description": "Aperio Image Library v11\r\n300x200|MPP = unknown|Left = 1"},
        {"description": "Aperio Image Library v11\r\n300x200|MPP = 0|Left = 1"},
        {"description": "Aperio Image Library v11\r\n300x200|MPP = nan"},
        {"description": "Aperio Image Library v11\r\n300x200|OriginalMPP = 0.5"},
        {"description": "Aperio Image Library v11", "resolution": (96, 96), "resolutionunit": "INCH"},
        {"description": "Aperio Image Library v11", "resolution": (6400, 6400), "resolutionunit": "INCH"},
        {"description": "Aperio Image Library v11", "resolution": (28.35, 28.35), "resolutionunit": "CENTIMETER"},
        {"description": "Aperio Image Library v11", "resolution": (50_000, 50_000), "resolutionunit": "NONE"},
        {"description": "Aperio Image Library v11", "resolution": (0, 50_000), "resolutionunit": "INCH"},
    ],
)
def test_a_slide_that_tells_no_size_is_refused_unless_the_user_says_it(tmp_path, options):
    path = write_svs(tmp_path / "a.svs", **options)
    with pytest.raises(VolumeError, match=r"how large its pixels are; say it with --voxel-size and --unit"):
        open_source(path)
    said = Space("yx", (0.5, 0.25), (0.0, 0.0), "micrometer")
    assert check_level(path, 0, voxel_size=(0.5, 0.25), unit="um") == said
    assert check_level(path, 1, voxel_size=(0.5, 0.25), unit="um") == said


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((20_000, 40_000), "CENTIMETER", (0.25, 0.5)),
        ((50_800, 25_400), "INCH", (1.0, 0.5)),
        ((12_700, 12_700), "INCH", (2.0, 2.0)),
    ],
)
def test_resolution_tags_are_believed_where_only_a_microscope_is_as_fine(tmp_path, resolution, unit, size):
    path = write_pyramid(tmp_path / "a.tif", subifds=True, resolution=resolution, resolutionunit=unit)
    assert check_level(path, 0).voxel_size == pytest.approx(size)
    assert check_level(path, 1).voxel_size == pytest.approx(tuple(2 * s for s in size))


def test_what_the_description_says_wins_over_the_tags(tmp_path):
    path = write_svs(tmp_path / "a.svs", resolution=(10_000, 10_000), resolutionunit="CENTIMETER")
    assert check_level(path, 0).voxel_size == (0.499, 0.499)


def test_ome_pyramids_tell_the_size_in_their_xml(tmp_path):
    path = tmp_path / "a.ome.tif"
    sizes = {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path, ome=True) as file:
        options = {"photometric": "rgb", "tile": TILE, "compression": "zlib"}
        file.write(picture(), subifds=1, metadata={"axes": "YXS", **sizes}, **options)
        file.write(picture()[::2, ::2], subfiletype=1, **options)
    assert is_slide(path)
    assert check_level(path, 1).voxel_size == (0.5, 1.0)


def test_an_image_of_one_level_or_with_depth_is_no_slide(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture(), photometric="rgb", tile=TILE)
    with tifffile.TiffWriter(tmp_path / "b.ome.tif", ome=True) as file:
        file.write(np.zeros((3, 64, 96), "u1"), subifds=1, tile=TILE, metadata={"axes": "ZYX"})
        file.write(np.zeros((3, 32, 48), "u1"), subfiletype=1, tile=TILE)
    for name in ("a.tif", "b.ome.tif"):
        assert not is_slide(tmp_path / name)
        with open_source(tmp_path / name) as source:
            assert source.space.unit is None


@pytest.mark.parametrize("compression", [33003, 8])
def test_luma_and_chroma_are_refused_where_no_jpeg_turns_them_into_rgb(tmp_path, compression):
    path = write_svs(tmp_path / "a.svs", compression="jpeg2000" if compression == 33003 else "zlib")
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        tags = tif.pages.first.tags
        struct.pack_into("<H", content, tags["Compression"].valueoffset, compression)
        if compression == 8:
            struct.pack_into("<H", content, tags["PhotometricInterpretation"].valueoffset, 6)
    path.write_bytes(content)
    with pytest.raises(VolumeError, match=rf"luma and chroma \(YCbCr, compression {compression}\)"):
        open_source(path)


def test_slides_that_are_cut_off_are_refused(tmp_path):
    path = write_svs(tmp_path / "a.svs")
    content = path.read_bytes()
    with tifffile.TiffFile(path) as tif:
        starts = [page.offset for page in tif.pages]
    for length in (5, 100, 3000, starts[1] // 2, *(start + 4 for start in starts)):
        path.write_bytes(content[:length])
        with pytest.raises(VolumeError, match=r"cut off|may be damaged|without an image"):
            open_source(path)


def test_a_level_that_is_whole_is_read_where_only_the_macro_image_is_cut(tmp_path):
    path = write_svs(tmp_path / "a.svs")
    expected = reference(path, 1)
    path.write_bytes(path.read_bytes()[:-1000])
    with open_source(path, Reading(level=1)) as source:
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), expected)


SIDE = 1_000_000
TILES = ((322, 256), (323, 256), (324, 200), (325, 50))
ONE_TILE = ((322, SIDE // 16 * 16), (323, SIDE // 16 * 16), (324, 200), (325, 50))
ONE_STRIP = ((278, SIDE), (273, 200), (279, 50))
STRIPS = ((278, 1), (273, 200), (279, 50))


@pytest.mark.parametrize("compression", [1, 5, 7, 8, 34712])
@pytest.mark.parametrize("layout", [TILES, ONE_TILE, ONE_STRIP, STRIPS])
def test_a_tiff_of_300_bytes_that_claims_a_terabyte_is_refused_before_any_voxel(tmp_path, compression, layout):
    tags = sorted([(256, SIDE), (257, SIDE), (258, 8), (259, compression), (262, 1), (277, 1), *layout])
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    content = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries
    (tmp_path / "a.tif").write_bytes(content + bytes(300 - len(content)))
    with pytest.raises(
        VolumeError, match=r"cut off: its voxels end at byte|bytes, and at most|not 15264649|not 1000"
    ):
        open_source(tmp_path / "a.tif")


def test_a_slide_is_ingested_exactly(tmp_path):
    path = write_svs(tmp_path / "a.svs")
    pipeline.ingest(IngestJob(source=str(path), output=str(tmp_path / "a.zarr"), level=1))
    volume = open_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(volume.read(Box.of_shape(volume.shape)), reference(path, 1))
    assert volume.space.voxel_size == pytest.approx((4 * 0.499, 4 * 0.499))


@pytest.mark.parametrize(
    ("name", "levels", "options"),
    [
        ("CMU-1-Small-Region.svs", 1, {}),
        ("small_HE_levels.tiff", 4, {"voxel_size": (0.5, 0.5), "unit": "um"}),
    ],
)
def test_real_slides(name, levels, options):
    path = REAL / name
    if not path.exists():
        pytest.skip(f"{path} is not here: real slides are no part of the repository")
    for level in range(levels):
        expected = reference(path, level)
        with open_source(path, Reading(level=level, **options)) as source:
            np.testing.assert_array_equal(source.read(Box.of_shape(source.shape)), expected)
            assert source.space.voxel_size == ((0.5, 0.5) if options else (0.499, 0.499))
    with pytest.raises(VolumeError, match=f"it has levels 0 to {levels - 1}"):
        open_source(path, Reading(level=levels, **options))
