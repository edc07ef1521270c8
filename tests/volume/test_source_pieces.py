"""Arrays that are cut without being in memory: raw ones by ranges, TIFFs tile by tile; both are what NumPy cuts."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import StoreError, VolumeError
from pipeline.geometry import Box
from pipeline.store import open_file
from pipeline.volume.sources import open_source, raw
from pipeline.volume.sources.raw import RawArray, Transposed
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.tiff_pieces import TiffPieces, _match

CUBE = np.random.default_rng(0).integers(0, 60_000, (4, 5, 6, 7)).astype(">u2")


def cuts(shape):
    """Any cut of an array: an index or a slice along each axis."""

    def along(n):
        spans = st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda s: slice(min(s), max(s)))
        return st.one_of(st.integers(0, n - 1), spans, st.just(slice(None)))

    return st.tuples(*map(along, shape))


@pytest.fixture(scope="module")
def lying(tmp_path_factory):
    """The cube in a file, behind 11 other bytes; in C order and in Fortran order."""
    folder = tmp_path_factory.mktemp("raw")
    arrays = []
    for order in "CF":
        (folder / order).write_bytes(bytes(11) + CUBE.tobytes(order))
        file = open_file(folder / order)
        shape = CUBE.shape if order == "C" else CUBE.shape[::-1]
        array = RawArray(file, file.stat(), 11, CUBE.dtype, shape)
        arrays.append(array if order == "C" else Transposed(array))
    return arrays


@given(cuts(CUBE.shape))
def test_any_cut_of_a_raw_array_is_numpys(lying, cut):
    for array in lying:
        assert (array.shape, array.dtype) == (CUBE.shape, CUBE.dtype)
        np.testing.assert_array_equal(array[cut], CUBE[cut])


@settings(max_examples=20)
@given(cuts(CUBE.shape))
def test_it_is_read_in_batches(lying, cut):
    before, raw.BATCH = raw.BATCH, 100
    try:
        np.testing.assert_array_equal(lying[0][cut], CUBE[cut])
    finally:
        raw.BATCH = before


def test_only_what_is_cut_is_asked_for():
    asked = []
    file = SimpleNamespace(ranges=lambda wanted, stat: asked.extend(wanted) or [bytes(n) for _, n in wanted])
    array = RawArray(file, None, 100, np.dtype("u2"), (10, 20, 30))
    array[3, 4:6, :]
    assert asked == [(100 + 2 * (3 * 600 + 4 * 30), 2 * 60)]
    asked.clear()
    array[2:4, 5, 6:8]
    assert asked == [(100 + 2 * (z * 600 + 5 * 30 + 6), 4) for z in (2, 3)]


LAYOUTS = [
    {"shape": (70, 90), "photometric": "minisblack", "tile": (32, 48), "compression": "zlib"},
    {"shape": (70, 90, 3), "photometric": "rgb", "tile": (32, 48), "compression": "zlib"},
    {
        "shape": (3, 70, 90),
        "photometric": "rgb",
        "planarconfig": "separate",
        "tile": (32, 48),
        "compression": "zlib",
    },
    {
        "shape": (3, 70, 90),
        "photometric": "rgb",
        "planarconfig": "separate",
        "rowsperstrip": 9,
        "compression": "zlib",
    },
    {"shape": (5, 70, 90), "photometric": "minisblack", "rowsperstrip": 7, "compression": "lzw"},
    {"shape": (2, 3, 40, 50), "photometric": "minisblack", "tile": (16, 16), "metadata": {"axes": "ZCYX"}},
    {"shape": (40, 50, 60), "photometric": "minisblack", "volumetric": True, "tile": (16, 16, 32)},
    {"shape": (1, 90), "photometric": "minisblack", "compression": "zlib"},
    {"shape": (90, 1), "photometric": "minisblack", "compression": "zlib"},
    {"shape": (2, 30, 40, 3), "photometric": "rgb", "tile": (16, 16), "compression": "zlib"},
]


@pytest.mark.parametrize("options", LAYOUTS, ids=lambda o: "x".join(map(str, o["shape"])))
def test_pieces_of_any_layout_are_what_tifffile_reads(tmp_path, options):
    shape = options["shape"]
    voxels = np.random.default_rng(1).integers(1, 255, shape).astype("u1")
    tifffile.imwrite(tmp_path / "a.tif", voxels, **{k: v for k, v in options.items() if k != "shape"})
    file = open_file(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        array = TiffPieces(tif.series[0], file, file.stat())
        assert len(array.chunks) == len(array.shape)
        expected = tif.series[0].asarray()

        @settings(max_examples=30, deadline=None)
        @given(cuts(array.shape))
        def law(cut):
            np.testing.assert_array_equal(array[cut], expected[cut])

        law()
        np.testing.assert_array_equal(array[(slice(None),) * voxels.ndim], voxels.reshape(array.shape))


def test_an_image_in_several_files_is_read_from_all_of_them(tmp_path):
    voxels = np.random.default_rng(2).integers(0, 255, (2, 40, 50)).astype("u1")
    names = ["a.ome.tif", "b.ome.tif"]
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{name}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{}"><Image ID="Image:0"><Pixels'
        ' ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="50" SizeY="40" SizeZ="2" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    for name, plane in zip(names, voxels, strict=True):
        options = {"compression": "zlib", "rowsperstrip": 8, "metadata": None, "photometric": "minisblack"}
        tifffile.imwrite(tmp_path / name, plane, description=xml.format(name), **options)
    with open_source(tmp_path / names[0]) as source:
        np.testing.assert_array_equal(source.read(Box.of_shape(source.shape))[0], voxels)
        assert source.files == tuple(str(tmp_path / name) for name in names)


@pytest.mark.parametrize(
    ("shape", "whole", "found"),
    [
        ((5, 70, 90), (1, 1, 70, 90, 1), (1, [2, 3])),
        ((2, 5, 70, 90), (1, 1, 70, 90, 1), (2, [2, 3])),
        ((70, 90, 3), (1, 1, 70, 90, 3), (0, [2, 3, 4])),
        ((3, 70, 90), (3, 1, 70, 90, 1), (0, [0, 2, 3])),
        ((4, 8, 70, 90), (1, 8, 70, 90, 1), (1, [1, 2, 3])),
    ],
)
def test_axes_are_matched(shape, whole, found):
    assert _match(shape, whole) == found


def test_pages_that_do_not_make_up_the_series_are_refused(tmp_path):
    with pytest.raises(ValueError, match="are no array of"):
        _match((70, 91), (1, 1, 70, 90, 1))
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 40, 50), "u1"), compression="zlib", photometric="minisblack")
    file = open_file(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        series = SimpleNamespace(
            shape=(5, 40, 50), dtype=np.dtype("u1"), keyframe=tif.series[0].keyframe, pages=tif.series[0].pages
        )
        with pytest.raises(ValueError, match=r"3 pages of \(1, 1, 40, 50, 1\) are no array of \(5, 40, 50\)"):
            TiffPieces(series, file, file.stat())


def test_a_local_file_that_changes_while_it_is_read_is_an_error(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 50), "u1"), compression="zlib")
    with open_source(tmp_path / "a.tif", Reading()) as source:
        tifffile.imwrite(tmp_path / "a.tif", np.ones((40, 50), "u2"), compression="zlib")
        with pytest.raises(StoreError, match="changed while it was read"):
            source.read(source_box(source))


@pytest.mark.parametrize("compression", [8, None])
def test_luma_and_chroma_are_refused(tmp_path, compression):
    voxels = np.zeros((32, 32, 3), "u1")
    tifffile.imwrite(tmp_path / "a.tif", voxels, compression=compression, photometric="rgb", metadata=None)
    content = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        at = tif.pages.first.tags["PhotometricInterpretation"].valueoffset
    content[at : at + 2] = b"\x06\0"
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(VolumeError, match="luma and chroma"):
        open_source(tmp_path / "a.tif")


def source_box(source):
    return Box.of_shape(source.shape)
