"""Slides through OpenSlide: a real one by both readers, a synthetic Hamamatsu VMS, and a fake canvas."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.sources import open_source, openslide
from pipeline.volume.sources.openslide import is_canvas, open_canvas
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.slide import open_slide

REAL = Path(os.environ.get("OVERTILE_DATA", "../shared/data")) / "path_slides"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the test slides are not in ../shared/data/path_slides")

VMS = """[Virtual Microscope Specimen]
NoLayers=1
NoJpegColumns=1
NoJpegRows=1
ImageFile=image.jpg
MapFile=map.jpg
MacroImage=macro.jpg
PhysicalWidth=80000
PhysicalHeight=38400
PhysicalMacroWidth=100000
PhysicalMacroHeight=50000
SourceLens=20
"""


@pytest.fixture
def vms(tmp_path):
    """A slide of Hamamatsu's first format: a JPEG with restart markers, a smaller one, and a file that names them."""
    rows, columns, colour = np.indices((96, 160, 3))
    pixels = ((rows * 3 + columns + 60 * colour) % 256).astype("uint8")
    for name, found, blocks in (("image", pixels, 4), ("map", pixels[::4, ::4], 5), ("macro", pixels[:9, :9], 0)):
        image = Image.fromarray(np.ascontiguousarray(found))
        image.save(tmp_path / f"{name}.jpg", quality=95, subsampling=0, restart_marker_blocks=blocks)
    (tmp_path / "a.vms").write_text(VMS)
    return tmp_path / "a.vms"


def whole(source):
    return source.read(Box.of_shape(source.shape))


def test_a_slide_of_hamamatsu(vms):
    expected = np.asarray(Image.open(vms.with_name("image.jpg"))).transpose(2, 0, 1)
    with open_source(vms) as source:
        assert (source.shape, source.channels, source.dtype, source.levels) == ((96, 160), 3, np.uint8, 6)
        assert source.space == Space("yx", (0.4, 0.5), (0.0, 0.0), "micrometer")
        np.testing.assert_array_equal(whole(source), expected)
        assert [Path(f).name for f in source.files] == ["a.vms", "image.jpg", "macro.jpg", "map.jpg"]
    assert len(source.handles) == 0
    with open_source(vms, Reading(level=2)) as source:
        assert source.shape == (24, 40)
        assert source.space.voxel_size == (1.6, 2.0)
        assert source.space.translation == pytest.approx((0.6, 0.75))
        small = np.asarray(Image.open(vms.with_name("map.jpg"))).transpose(2, 0, 1)
        np.testing.assert_array_equal(whole(source), small)
    with pytest.raises(VolumeError, match="no level 6; it has levels 0 to 5"):
        open_source(vms, Reading(level=6))
    with pytest.raises(VolumeError, match="its axes are cyx"):
        open_source(vms, Reading(axes="zyx"))


def test_threads_read_at_once(vms):
    boxes = [Box((y, x), (y + 20, x + 30)) for y in range(0, 70, 13) for x in range(0, 120, 17)]
    with open_source(vms) as source, ThreadPoolExecutor(4) as pool:
        expected = whole(source)
        for box, found in zip(boxes, pool.map(source.read, boxes), strict=True):
            np.testing.assert_array_equal(found, expected[(slice(None), *box.slices)])


def test_a_part_that_is_gone(vms):
    vms.with_name("image.jpg").unlink()
    with pytest.raises(VolumeError, match=r"a\.vms"):
        open_source(vms)


def test_a_file_that_openslide_does_not_know(tmp_path):
    (tmp_path / "a.dcm").write_bytes(bytes(128) + b"DICM" + bytes(99))
    with pytest.raises(VolumeError, match=r"a\.dcm: it is no slide that OpenSlide knows"):
        open_source(tmp_path / "a.dcm")


def test_without_openslide(vms, monkeypatch):
    monkeypatch.setattr(openslide, "openslide", None)
    with pytest.raises(InputError, match=r"pip install 'overtile\[slides\]'"):
        open_source(vms)


def test_a_slide_elsewhere_is_refused():
    with pytest.raises(VolumeError, match="OpenSlide reads files of this machine only"):
        open_canvas("s3://bucket/a.mrxs")


@pytest.mark.parametrize(
    ("name", "content", "is_one"),
    [
        ("a.mrxs", b"\xff\xd8\xff", True),
        ("a.vms", VMS.encode(), True),
        ("a.vmu", b"[Uncompressed Virtual Microscope Specimen]", True),
        ("a.czi", b"ZISRAWFILE", True),
        ("a.svslide", b"SQLite format 3\x00", True),
        ("a.gpkg", b"SQLite format 3\x00", False),
        ("a.jpg", b"\xff\xd8\xff", False),
        ("a.txt", b"", False),
    ],
)
def test_formats_are_known_by_their_content(tmp_path, name, content, is_one):
    (tmp_path / name).write_bytes(content)
    assert is_canvas(tmp_path / name) is is_one


@pytest.mark.parametrize(
    ("options", "is_one"),
    [
        ({"software": "Philips DP v1.0", "description": "<DataObject></DataObject>"}, True),
        ({"description": "<scn xmlns='http://www.leica-microsystems.com/scn/2010/10/01'></scn>"}, True),
        ({"software": "ScanOutputManager 1.1", "extratags": [(700, 7, 8, b"<iScan/>", True)]}, True),
        ({"extratags": [(271, 2, 10, "Hamamatsu", True), (65420, 4, 1, 1, True)]}, True),
        ({"description": "Aperio Image|MPP = 0.5"}, False),
        ({}, False),
    ],
)
def test_tiffs_of_vendors_whose_tiles_are_placed(tmp_path, options, is_one):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((32, 32, 3), "uint8"), tile=(16, 16), metadata=None, **options)
    assert is_canvas(tmp_path / "a.tif") is is_one


class FakeSlide:
    """A canvas whose pixel (x, y) of level 0 is red x, green y, and blue the level; its left half is transparent."""

    dimensions = (90, 60)
    level_count = 2
    level_downsamples = (1.0, 4.003)

    def __init__(self, **properties):
        self.properties = {f"openslide.{k.replace('_', '-')}": str(v) for k, v in properties.items()}
        self.fail = False
        self.closed = False

    def read_region(self, location, level, size):
        if self.fail:
            raise OSError("the tile is damaged")
        step = self.level_downsamples[level]
        x, y = (round(a) + np.arange(n) * step for a, n in zip(location, size, strict=True))
        image = np.zeros((*size[::-1], 4), "uint8")
        image[..., 0], image[..., 1], image[..., 2] = x[None], y[:, None], level
        image[..., 3] = np.where(x >= 45, 255, 0)
        return Image.fromarray(image)

    def close(self):
        self.closed = True


def fake(level=0, slide=None, **properties):
    found = slide or FakeSlide(**properties)
    handles = openslide.Handles(lambda: found)
    return openslide._source(found, Path("a.mrxs"), level, handles)


def test_transparent_pixels_show_the_background():
    pixels = whole(fake(background_color="10FF03"))
    assert (pixels[:, :, :45] == np.array([16, 255, 3])[:, None, None]).all()
    np.testing.assert_array_equal(pixels[0, 0, 45:], np.arange(45, 90))
    assert (whole(fake())[:, :, :45] == 255).all()


def test_bounds_are_the_image():
    source = fake(bounds_x=50, bounds_y=7, bounds_width=30, bounds_height=20)
    assert source.shape == (20, 30)
    pixels = whole(source)
    np.testing.assert_array_equal(pixels[0, 0], np.arange(50, 80))
    np.testing.assert_array_equal(pixels[1, :, 0], np.arange(7, 27))
    coarse = fake(1, bounds_x=50, bounds_y=7, bounds_width=30, bounds_height=20)
    assert coarse.shape == (5, 7)
    assert list(whole(coarse)[:, 0, 0]) == [50, 7, 1]


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"bounds_x": 5, "bounds_y": 5},
        {"bounds_x": "a", "bounds_y": 0, "bounds_width": 9, "bounds_height": 9},
        {"bounds_x": 95, "bounds_y": 0, "bounds_width": 9, "bounds_height": 9},
        {"bounds_x": 0, "bounds_y": 0, "bounds_width": -9, "bounds_height": 9},
    ],
)
def test_bounds_that_are_none(bounds):
    assert fake(**bounds).shape == (60, 90)


@pytest.mark.parametrize(
    "mpp", [{}, {"mpp_x": 0.5}, {"mpp_x": 0.5, "mpp_y": "no"}, {"mpp_x": "nan", "mpp_y": 0.5}]
)
def test_a_size_that_is_not_told_is_not_guessed(mpp):
    assert fake(**mpp).space == Space.unscaled("yx")


@pytest.mark.parametrize("level", [0, 1])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_box_has_the_same_voxels(monkeypatch, level, data):
    monkeypatch.setattr(openslide, "BLOCK", 8)
    source = fake(level)
    edges = [
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in source.shape
    ]
    box = Box(tuple(a for a, _ in edges), tuple(b for _, b in edges))
    np.testing.assert_array_equal(source.read(box), whole(source)[(slice(None), *box.slices)])


def test_a_handle_that_failed_is_given_up():
    slide = FakeSlide()
    source = fake(slide=slide)
    source.read(Box((0, 0), (2, 2)))
    assert len(source.handles) == 1
    slide.fail = True
    with pytest.raises(VolumeError, match=r"a\.mrxs: voxels 0:2,0:2 cannot be read .*the tile is damaged"):
        source.read(Box((0, 0), (2, 2)))
    assert (len(source.handles), slide.closed) == (0, True)


def test_the_files_of_mirax_and_dicom(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a.mrxs", "a/Slidedat.ini", "a/Data0000.dat", "b.dcm", "c.dcm"):
        (tmp_path / name).touch()
    assert [p.name for p in openslide._parts(tmp_path / "a.mrxs")] == ["a.mrxs", "Data0000.dat", "Slidedat.ini"]
    assert [p.name for p in openslide._parts(tmp_path / "c.dcm")] == ["c.dcm", "b.dcm"]


@needs_real
@pytest.mark.parametrize(
    ("name", "box"),
    [
        ("CMU-1-Small-Region.svs", Box((500, 300), (1700, 1400))),
        ("small_HE_levels.tiff", Box((0, 0), (250, 300))),
    ],
)
def test_both_readers_see_the_same(name, box):
    assert not is_canvas(REAL / name)
    with open_canvas(REAL / name) as one, open_slide(REAL / name) as two:
        assert (one.shape, one.channels, one.dtype) == (two.shape, two.channels, two.dtype)
        np.testing.assert_array_equal(one.read(box), two.read(box))
        if two.space.unit:
            assert one.space == two.space
