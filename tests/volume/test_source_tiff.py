from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from volumes import numbers

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.sources import open_source
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.tiff_space import read_space

NOISE = np.random.default_rng(0).integers(0, 60_000, (5, 70, 90)).astype("u2")
RGB = np.random.default_rng(1).integers(0, 255, (70, 90, 3)).astype("u1")


def check(path, expected, **options):
    """Read a file whole and in part, and return what is known of it."""
    with open_source(path, Reading(**options)) as source:
        box = Box.of_shape(source.shape)
        np.testing.assert_array_equal(source.read(box), expected)
        part = Box(tuple(n // 3 for n in source.shape), tuple(-(-2 * n // 3) for n in source.shape))
        np.testing.assert_array_equal(source.read(part), expected[(slice(None), *part.slices)])
        assert source.dtype == expected.dtype
        return source.shape, source.channels, source.space, source.slab


@pytest.mark.parametrize(
    ("options", "slab"),
    [
        ({}, None),
        ({"byteorder": ">"}, None),
        ({"bigtiff": True}, None),
        ({"compression": "zlib", "rowsperstrip": 16}, (16, 90)),
        ({"compression": "zlib", "predictor": True, "byteorder": ">"}, (70, 90)),
        ({"tile": (32, 48)}, (32, 48)),
        ({"tile": (32, 48), "compression": "zstd"}, (32, 48)),
        ({"tile": (32, 48), "compression": "lzw", "bigtiff": True, "byteorder": ">"}, (32, 48)),
    ],
)
def test_one_page_in_strips_or_tiles(tmp_path, options, slab):
    tifffile.imwrite(tmp_path / "a.tif", NOISE[0], **options)
    assert check(tmp_path / "a.tif", NOISE[:1]) == ((70, 90), None, Space.unscaled("yx"), slab)


@pytest.mark.parametrize("dtype", ["?", "i1", "u4", "i2", "f2", "f4", "f8"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_dtypes(tmp_path, dtype, compression):
    voxels = (NOISE[0] % 2).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", voxels, compression=compression)
    check(tmp_path / "a.tif", voxels[np.newaxis])


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (32, 32)}])
def test_samples_of_pixels_are_channels(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", **options)
    planes = np.moveaxis(RGB, -1, 0).copy()
    tifffile.imwrite(tmp_path / "b.tif", planes, photometric="rgb", planarconfig="separate", **options)
    for name in ("a.tif", "b.tif"):
        assert check(tmp_path / name, planes)[:2] == ((70, 90), 3)


def test_jpeg_in_tiff_is_what_tifffile_decodes(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb", tile=(32, 32), compression="jpeg")
    check(tmp_path / "a.tif", np.moveaxis(tifffile.imread(tmp_path / "a.tif"), -1, 0))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_that_say_nothing_need_axes(tmp_path, compression):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for page in NOISE:
            file.write(page, contiguous=False, metadata=None, compression=compression)
    with pytest.raises(VolumeError, match=r"shape \(5, 70, 90\) has axes IYX.*say them with --axes"):
        open_source(tmp_path / "a.tif")
    assert check(tmp_path / "a.tif", NOISE[np.newaxis], axes="zyx")[:2] == ((5, 70, 90), None)
    assert check(tmp_path / "a.tif", NOISE, axes="cyx")[:2] == ((70, 90), 5)


@pytest.mark.parametrize("ome", [False, True])
@pytest.mark.parametrize(("axes", "stored"), [("ZYX", "zyx"), ("ZCYX", "zcyx"), ("CYX", "cyx"), ("TZCYX", "zcyx")])
def test_named_axes(tmp_path, axes, stored, ome):
    data = numbers(axes.lower())
    path = tmp_path / ("a.ome.tif" if ome else "a.tif")
    tifffile.imwrite(path, data, metadata={"axes": axes}, imagej=not ome, ome=ome)
    spatial = "zyx" if "Z" in axes else "yx"
    expected = data.reshape([n for a, n in zip(axes, data.shape, strict=True) if a != "T"])
    if "c" not in stored:
        expected = expected[np.newaxis]
    elif stored == "zcyx":
        expected = np.moveaxis(expected, 1, 0)
    assert check(path, expected)[:2] == (expected.shape[1:], 3 if "C" in axes else None)
    assert len(expected.shape[1:]) == len(spatial)


def test_several_time_points_are_refused_unless_they_are_something_else(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", NOISE, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(VolumeError, match="5 time points"):
        open_source(tmp_path / "a.tif")
    check(tmp_path / "a.tif", NOISE[np.newaxis], axes="ZYX")


def test_levels_of_a_pyramid(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        options = {"photometric": "rgb", "tile": (32, 32), "resolutionunit": "CENTIMETER"}
        file.write(RGB, subifds=1, resolution=(20_000, 40_000), **options)
        file.write(RGB[::2, ::2], subfiletype=1, **options)
    _, _, space, _ = check(tmp_path / "a.tif", np.moveaxis(RGB, -1, 0))
    assert space == Space("yx", (0.25, 0.5), (0.0, 0.0), "micrometer")
    shape, _, space, _ = check(tmp_path / "a.tif", np.moveaxis(RGB[::2, ::2], -1, 0), level=1)
    assert shape == (35, 45)
    assert space == Space("yx", (0.5, 1.0), (0.125, 0.25), "micrometer")
    with pytest.raises(VolumeError, match="no level 2; it has levels 0 to 1"):
        open_source(tmp_path / "a.tif", Reading(level=2))


@pytest.mark.parametrize(
    ("sizes", "space"),
    [
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2}, ((2, 0.25, 0.5), "micrometer")),
        (
            {
                "PhysicalSizeX": 4,
                "PhysicalSizeXUnit": "nm",
                "PhysicalSizeY": 4,
                "PhysicalSizeYUnit": "nm",
                "PhysicalSizeZ": 0.05,
                "PhysicalSizeZUnit": "µm",
            },
            ((50, 4, 4), "nanometer"),
        ),
        ({"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}, None),
        ({"PhysicalSizeX": 0, "PhysicalSizeY": 1, "PhysicalSizeZ": 1}, None),
        ({"PhysicalSizeX": "x", "PhysicalSizeY": 1, "PhysicalSizeZ": 1}, None),
        ({f"PhysicalSize{a}{u}": v for a in "XYZ" for u, v in (("", 2), ("Unit", "pixel"))}, ((2, 2, 2), None)),
        (
            {"PhysicalSizeX": 1, "PhysicalSizeY": 1, "PhysicalSizeZ": 1, "PhysicalSizeZUnit": "pixel"},
            None,
        ),
        ({}, None),
    ],
)
def test_voxel_size_of_ome_tiff(tmp_path, sizes, space):
    tifffile.imwrite(tmp_path / "a.ome.tif", NOISE, metadata={"axes": "ZYX", **sizes})
    found = check(tmp_path / "a.ome.tif", NOISE[np.newaxis])[2]
    if space is None:
        assert found == Space.unscaled("zyx")
        return
    assert found.voxel_size == pytest.approx(space[0])
    assert found.unit == space[1]


@pytest.mark.parametrize(
    ("xml", "size"),
    [
        ('<OME><Image><Pixels PhysicalSizeX="2" PhysicalSizeY="3"/></Image></OME>', (3.0, 2.0)),
        ('<!DOCTYPE OME><OME><Image><Pixels PhysicalSizeX="2" PhysicalSizeY="3"/></Image></OME>', (1.0, 1.0)),
        ("<OME><Image></Image></OME>", (1.0, 1.0)),
        ("<OME><Image></OME>", (1.0, 1.0)),
    ],
)
def test_other_ome_xml(xml, size):
    tif = SimpleNamespace(ome_metadata=xml)
    assert read_space(tif, "yx", (4, 4), (4, 4)).voxel_size == size


@pytest.mark.parametrize(
    ("metadata", "space"),
    [
        ({"spacing": 3.0, "unit": "um"}, Space("zyx", (3.0, 0.25, 0.5), (0, 0, 0), "micrometer")),
        ({"spacing": 3.0, "unit": "\\u00B5m"}, Space("zyx", (3.0, 0.25, 0.5), (0, 0, 0), "micrometer")),
        ({"spacing": 3.0}, Space.unscaled("zyx")),
        ({"unit": "um"}, Space.unscaled("zyx")),
        ({"spacing": -1.0, "unit": "um"}, Space.unscaled("zyx")),
    ],
)
def test_voxel_size_of_imagej(tmp_path, metadata, space):
    tifffile.imwrite(
        tmp_path / "a.tif", NOISE, imagej=True, metadata={"axes": "ZYX", **metadata}, resolution=(2, 4)
    )
    assert check(tmp_path / "a.tif", NOISE[np.newaxis])[2] == space


@pytest.mark.parametrize(
    ("resolution", "unit", "size"),
    [
        ((20_000, 10_000), "CENTIMETER", (1.0, 0.5)),
        ((28.35, 28.35), "CENTIMETER", None),
        ((10, 10), "CENTIMETER", None),
        ((300, 300), "INCH", None),
        ((5, 5), "NONE", None),
    ],
)
def test_resolution_tags_are_believed_where_they_are_no_printers(tmp_path, resolution, unit, size):
    tifffile.imwrite(tmp_path / "a.tif", NOISE[0], resolution=resolution, resolutionunit=unit)
    space = check(tmp_path / "a.tif", NOISE[:1])[2]
    assert space == (Space("yx", size, (0, 0), "micrometer") if size else Space.unscaled("yx"))


def test_a_thumbnail_is_left_out_and_a_second_position_is_refused(tmp_path):
    for name, second in (("a.tif", NOISE[1, ::2]), ("b.tif", NOISE[1])):
        with tifffile.TiffWriter(tmp_path / name) as file:
            file.write(NOISE[0])
            file.write(second, contiguous=False)
    check(tmp_path / "a.tif", NOISE[:1])
    with pytest.raises(VolumeError, match=r"2 images of the shape \(70, 90\) \(positions\?\); split them"):
        open_source(tmp_path / "b.tif")


def test_palettes_are_refused(tmp_path):
    colours = np.zeros((3, 256), "u2")
    tifffile.imwrite(tmp_path / "a.tif", RGB[:, :, 0], photometric="palette", colormap=colours)
    with pytest.raises(VolumeError, match="indices into a palette"):
        open_source(tmp_path / "a.tif")


@pytest.mark.parametrize("pages", [1, 5])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("imagej", {}),
        ("ome", {}),
        ("shaped", {}),
        ("ome", {"compression": "zlib", "rowsperstrip": 8}),
        ("shaped", {"tile": (32, 32)}),
        ("shaped", {"tile": (32, 32), "compression": "zlib"}),
    ],
)
def test_files_that_end_too_early_are_refused(tmp_path, options, pages, kind):
    options = {**options, "imagej": kind == "imagej", "ome": kind == "ome"}
    axes = "ZYX" if pages > 1 else "YX"
    stack = NOISE[:pages] if pages > 1 else NOISE[0]
    tifffile.imwrite(tmp_path / "a.tif", stack, metadata={"axes": axes}, **options)
    check(tmp_path / "a.tif", stack[np.newaxis])
    content = (tmp_path / "a.tif").read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        ends = [o + n for page in tif.pages for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        ends += [page.offset + 8 for page in tif.pages]
    for length in (6, max(ends) // 4, max(ends) // 2, max(ends) - 1):
        (tmp_path / "a.tif").write_bytes(content[:length])
        with pytest.raises(VolumeError, match=r"cut off|may be damaged"):
            open_source(tmp_path / "a.tif")


@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_stack_that_lost_its_last_pages_is_refused(tmp_path, bigtiff):
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=bigtiff) as file:
        for page in NOISE:
            file.write(page, contiguous=False, metadata=None)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        cut = tif.pages[3].offset
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[:cut])
    with pytest.raises(VolumeError, match="cut off: the page after page 3 is missing"):
        open_source(tmp_path / "a.tif", Reading(axes="zyx"))


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16), "compression": "zlib"}, {"compression": "zlib"}])
def test_many_threads_read_at_once(tmp_path, options):
    tifffile.imwrite(tmp_path / "a.tif", NOISE, metadata={"axes": "ZYX"}, **options)
    boxes = [
        Box((z, y, x), (z + 1, y + 20, x + 20)) for z in range(5) for y in range(0, 50, 7) for x in (0, 33, 70)
    ]
    with open_source(tmp_path / "a.tif") as source, ThreadPoolExecutor(4) as pool:
        for box, voxels in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(voxels[0], NOISE[box.slices])


def test_a_tiff_without_an_image_is_refused(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(24))
    with pytest.raises(VolumeError, match="a TIFF without an image"):
        open_source(tmp_path / "a.tif")


def test_a_plane_that_ome_xml_leaves_out_is_missed(tmp_path):
    pixels = 'DimensionOrder="XYZCT" Type="uint16" SizeX="90" SizeY="70" SizeZ="3" SizeC="1" SizeT="1"'
    planes = "".join(f'<TiffData IFD="{i}" FirstZ="{z}" PlaneCount="1"/>' for i, z in enumerate((0, 2)))
    xml = (
        f'<OME><Image ID="Image:0"><Pixels ID="Pixels:0" {pixels}><Channel ID="C"/>{planes}</Pixels></Image></OME>'
    )
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=False) as file:
        file.write(NOISE[0], description=xml, metadata=None)
        file.write(NOISE[1], metadata=None, contiguous=False)
    with pytest.raises(VolumeError, match="page 1 of the image, counted from 0, is missing"):
        open_source(tmp_path / "a.ome.tif")


def test_damaged_pieces_are_refused_where_they_are_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", NOISE[0], tile=(32, 32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        offset = tif.pages[0].dataoffsets[0]
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[offset : offset + 20] = bytes(20)
    (tmp_path / "a.tif").write_bytes(content)
    with open_source(tmp_path / "a.tif") as source:
        np.testing.assert_array_equal(source.read(Box((40, 40), (70, 90)))[0], NOISE[0, 40:, 40:])
        with pytest.raises(VolumeError, match="voxels 0:5,0:5 cannot be read"):
            source.read(Box((0, 0), (5, 5)))
