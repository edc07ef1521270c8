"""Files that are damaged or lie: refused by a sentence that says what, in little memory; nothing is written."""

import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import hostile
import imagecodecs
import numpy as np
import pytest
import tifffile
from hostile import GREY, encoded, npy_header, one_tile, png_header, tiff

from pipeline.cli.main import run
from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume.sources import open_source, tiff_chain
from pipeline.volume.sources.piece_headers import BOUNDED, CLAIMS, HeaderError, check_claim
from pipeline.volume.sources.reading import Reading

BLACK = np.zeros((300, 300), "u1")
STRIP = {278: 64, 273: 8, 279: 4096}
MOST = (1 << 32) - 1

OPENED = {
    "a terabyte in tiles": (
        tiff({**GREY, 256: 1 << 20, 257: 1 << 20, 322: 512, 323: 512, 324: 8, 325: 100}),
        "a page has 1 tiles or strips, not 4194304",
    ),
    "a terabyte in one strip": (
        tiff({**GREY, 256: 1 << 20, 257: 1 << 20, 278: 1 << 20, 273: 8, 279: MOST}),
        "cut off: its voxels end at byte 4294967303, but the file has 122",
    ),
    "a terabyte in one compressed strip": (
        tiff({**GREY, 259: 8, 256: 1 << 20, 257: 1 << 20, 278: 1 << 20, 273: 8, 279: 100}),
        "its tiles or strips have 1099511627776 bytes, and at most 2147483648 are decoded at once",
    ),
    "2**56 tiles": (
        tiff({**GREY, 256: MOST, 257: MOST, 322: 16, 323: 16, 324: 16, 325: 100}, big=True),
        r"shape \(4294967295, 4294967295\) of uint8 claims more than 9223372036854775807 bytes",
    ),
    "2**60 tiles that 64 bits count": (
        tiff({**GREY, 256: 1 << 30, 257: 1 << 30, 322: 1, 323: 1, 324: 16, 325: 100}, big=True),
        r"a page has 1 tiles or strips, not 1152921504606846976",
    ),
    "a shape that overflows": (
        tiff({**GREY, 259: 8, 256: 1 << 40, 257: 1 << 40, 322: 16, 323: 16, 324: 16, 325: 100}, big=True),
        "claims more than 9223372036854775807 bytes",
    ),
    "65535 samples of 64 bits": (
        tiff({**GREY, 277: 65535, 258: 64, 259: 8, 322: 1 << 20, 323: 1 << 20, 324: 8, 325: 90}),
        "at most 2147483648 are decoded at once",
    ),
    "no columns": (tiff({**GREY, **STRIP, 256: 0}), "holds no voxel"),
    "no rows": (tiff({**GREY, **STRIP, 257: 0}), "holds no voxel"),
    "tiles of no rows": (tiff({**GREY, 259: 8, 322: 0, 323: 64, 324: 8, 325: 50}), "holds no voxel"),
    "strips of no rows": (tiff({**GREY, 259: 8, 278: 0, 273: 8, 279: 50}), "holds no voxel"),
    "7777 bits": (tiff({**GREY, **STRIP, 258: 7777}, data=bytes(4096)), "data type not supported"),
    "an unknown predictor": (one_tile(zlib.compress(bytes(4096)), 8, t317=77), "77 is not a known PREDICTOR"),
    "an unknown compression": (one_tile(bytes(50), 12345), r"compression 12345 \(unknown\) is not read"),
    "a compression without a limit": (one_tile(bytes(50), 34887), r"compression 34887 \(LERC\) is not read"),
    "a tile in the header": (one_tile(bytes(5000), 8, t324=4), "a tile or strip at byte 4, inside the header"),
    "a tile behind the end": (one_tile(bytes(50), 8, t324=9999), "cut off: its voxels end at byte 10049"),
    "a tile cut off": (one_tile(bytes(50), 8, t325=5000), "cut off: its voxels end at byte 5008"),
    "pages in a circle": (tiff(GREY, GREY, following=[1, 0]), "its pages go round in a circle after page 2"),
    "a page that follows itself": (tiff(GREY, following=[0]), "its pages go round in a circle after page 1"),
    "a page behind the end": (tiff(GREY, following=[1 << 20]), "the page after page 1 is missing"),
    "a first page behind the end": (b"II*\0\xff\xff\xff\x7f", "the page after page 0 is missing"),
    "a first page nowhere": (b"II*\0\0\0\0\0", "a TIFF without an image"),
    "a page of 65535 tags": (
        b"II*\0\x08\0\0\0\xff\xff" + bytes(100),
        "should begin at byte 8 with 1 to 4096 tags",
    ),
    "a page without tags": (b"II*\0\x08\0\0\0\0\0" + bytes(100), "should begin at byte 8 with 1 to 4096 tags"),
    "four bytes": (b"MM\0*", "it has 4 bytes, which is no TIFF"),
    "an array of a terabyte": (npy_header("(1000000, 1000000)"), "cut off: shape .* ends at byte 1000000000128"),
    "an array that overflows": (npy_header("(4294967296, 4294967296, 4)"), "cut off: shape"),
    "an array of less than nothing": (npy_header("(-1, 5)"), "cut off: shape"),
    "an array of nothing": (npy_header("(0, 5)"), "holds no voxel"),
    "an array of objects": (npy_header("(5, 5)", "|O"), "Python objects, which are not read"),
    "an array's header that is code": (npy_header("__import__('os')"), "it cannot be read"),
    "an array of another version": (npy_header("(8, 8)", version=9), "it cannot be read"),
    "an array's header alone": (b"\x93NUMPY\x01\0", "it cannot be read"),
    "a PNG that its bytes cannot hold": (
        png_header(30_000, 30_000),
        "claims 30000 x 30000 pixels, more than 65 bytes",
    ),
    "a PNG of too many pixels": (
        png_header(60_000, 60_000),
        "60000 x 60000 pixels; a PNG or JPEG is decoded whole",
    ),
    "a PNG without columns": (png_header(10, 0), "it cannot be read"),
    "a JPEG that its bytes cannot hold": (
        encoded("JPEG", 64, 64).replace(b"\x08\0\x40\0\x40", b"\x08\x7f\xff\x7f\xff"),
        "claims 32767 x 32767 pixels, more than",
    ),
    "an HDF5 file cut off": (b"\x89HDF\r\n\x1a\n" + bytes(60), "it cannot be read|cannot be read"),
    "no format": (b"not an image", "its content is of no format that is read"),
    "nothing": (b"", "its content is of no format that is read"),
}
"""Refused when they are opened: bytes and message."""

READ = {
    "a JPEG of more pixels": (one_tile(encoded("JPEG", 128, 128), 7), "claims 128 x 128 pixels of 1 channels"),
    "a JPEG of fewer pixels": (one_tile(encoded("JPEG", 32, 64), 7), "claims 32 x 64 pixels"),
    "a JPEG of more channels": (
        one_tile(encoded("JPEG", 64, 64).replace(b"\x08\0\x40\0\x40\x01", b"\x08\0\x40\0\x40\x04"), 7),
        "of 4 channels, where 64 x 64 of 1",
    ),
    "no JPEG": (one_tile(bytes(50), 7), "without a header that tells its size"),
    "a JPEG 2000 of more pixels": (one_tile(encoded("JPEG2000", 300, 300), 34712), "claims 300 x 300 pixels"),
    "a PNG of more pixels": (one_tile(png_header(30_000, 30_000), 34933), "claims 30000 x 30000 pixels"),
    "a WebP of more pixels": (
        one_tile(encoded("WEBP", 300, 300), 50001, t262=2, t277=3),
        "claims 300 x 300 pixels",
    ),
    "a JPEG XL of more pixels": (one_tile(imagecodecs.jpegxl_encode(BLACK), 50002), "claims 300 x 300 pixels"),
    "deflate that does not end": (one_tile(zlib.compress(bytes(1 << 28)), 8), "cannot be read"),
    "Zstandard that does not end": (one_tile(imagecodecs.zstd_encode(bytes(1 << 28)), 50000), "cannot be read"),
    "PackBits that does not end": (one_tile(b"\x81\0" * 100_000, 32773), "cannot be read"),
    "deflate that is none": (one_tile(bytes(50), 8), "cannot be read"),
    "a tile of too few voxels": (one_tile(zlib.compress(bytes(100)), 8), "cannot be read"),
}
"""Opened, as their headers are sound, and refused when the damaged tile is read."""

BOUNDED_READS = {
    "LZW that does not end": one_tile(imagecodecs.lzw_encode(bytes(1 << 26)), 5),
    "LZMA that does not end": one_tile(imagecodecs.lzma_encode(bytes(1 << 26)), 34925),
}
"""Read as far as the tile goes."""


def write(folder, content):
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("name", OPENED)
def test_what_is_refused_when_it_is_opened(tmp_path, name):
    content, message = OPENED[name]
    with pytest.raises(VolumeError, match=message) as caught:
        open_source(write(tmp_path, content))
    assert str(tmp_path / "file") in str(caught.value)


@pytest.mark.parametrize("name", OPENED)
def test_the_command_line_refuses_it_and_writes_nothing(tmp_path, name, capsys):
    path = write(tmp_path, OPENED[name][0])
    assert run(["ingest", str(path), str(tmp_path / "out.zarr"), "--voxel-size", "1,1", "--unit", "um"]) == 2
    assert str(path) in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", READ)
def test_what_is_refused_when_it_is_read(tmp_path, name):
    content, message = READ[name]
    with open_source(write(tmp_path, content)) as source, pytest.raises(VolumeError, match=message) as caught:
        source.read(Box.of_shape(source.shape))
    assert str(tmp_path / "file") in str(caught.value)
    assert "0:64,0:64" in str(caught.value)


@pytest.mark.parametrize("name", BOUNDED_READS)
def test_what_is_read_as_far_as_the_tile_goes(tmp_path, name):
    with open_source(write(tmp_path, BOUNDED_READS[name])) as source:
        assert not source.read(Box.of_shape(source.shape)).any()


CHILD = """
import resource, sys
from pathlib import Path
import numpy, h5py, tifffile
from pipeline.volume.sources import open_source
from pipeline.geometry import Box
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = peak()
for path in sorted(Path(sys.argv[1]).iterdir()):
    before = peak()
    try:
        with open_source(path) as source:
            source.read(Box.of_shape(source.shape))
    except Exception:
        pass
    if peak() - before > 48 * 1024:
        print(path.name, (peak() - before) // 1024, "MiB")
"""


def test_all_of_them_take_little_memory(tmp_path):
    contents = {name: content for table in (OPENED, READ) for name, (content, _) in table.items()}
    for name, content in {**contents, **BOUNDED_READS}.items():
        (tmp_path / name.replace("/", " ")).write_bytes(content)
    ran = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr[-2000:]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "JPEG2000"])
def test_sound_tiles_are_read(tmp_path, form):
    number = {"JPEG": 7, "PNG": 34933, "JPEG2000": 34712}[form]
    path = write(tmp_path, one_tile(encoded(form, 64, 64), number))
    with open_source(path) as source:
        np.testing.assert_array_equal(source.read(source_box(source))[0], tifffile.imread(path))


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (48, 64), (40, 56), (256, 256), (8, 8), (300, 200)])
def test_the_size_of_a_jpeg_xl(size, container):
    data = imagecodecs.jpegxl_encode(np.zeros(size, "u1"), usecontainer=container)
    assert CLAIMS[50002](data) == (*size, None)


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"lossless": False}, {"lossless": True, "exif": b"Exif\0\0"}]
)
@pytest.mark.parametrize("size", [(64, 64), (1, 500), (301, 7)])
def test_the_size_of_a_webp(size, options):
    assert CLAIMS[50001](encoded("WEBP", *size, **options)) == (*size, None)


@pytest.mark.parametrize("compression", CLAIMS)
def test_a_tile_without_a_header_is_refused(compression):
    for data in (
        b"",
        b"\xff",
        bytes(64),
        b"\xff\xd8\xff\xda\0\x04",
        b"RIFF    WEBPVP8?" + bytes(30),
        b"jxlc" + bytes(9),
    ):
        with pytest.raises(HeaderError, match="without a header"):
            check_claim(compression, data, (64, 64, 1), (64, 64))


@pytest.mark.parametrize("compression", sorted(BOUNDED))
def test_compressions_without_a_header_are_bounded_by_their_decoder(compression):
    check_claim(compression, bytes(8), (64, 64, 1), (64, 64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [((64, 64, 0, 0, 1, 1, 0, 0), "of 4096 tiles in one"), ((64, 64, 0, 0, 0, 64, 0, 0), "without pixels")],
)
def test_a_jpeg_2000_of_many_tiles_is_refused(fields, message):
    data = b"\xff\x4f\xff\x51" + bytes(4) + b"".join(n.to_bytes(4, "big") for n in fields) + b"\0\x01" + bytes(9)
    with pytest.raises(HeaderError, match=message):
        check_claim(33005, data, (64, 64, 1), (64, 64))


def test_a_tile_at_the_edge_may_end_with_the_image():
    data = encoded("JPEG", 40, 64)
    check_claim(7, data, (64, 64, 1), (40, 30))
    with pytest.raises(HeaderError, match="claims 40 x 64 pixels"):
        check_claim(7, data, (64, 64, 1), (41, 30))


def test_too_many_pages_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_chain, "MAX_PAGES", 20)
    write(tmp_path, tiff(*[GREY] * 21))
    with pytest.raises(VolumeError, match="more than 20 pages"):
        open_source(tmp_path / "file")


@pytest.mark.parametrize("big", [False, True])
def test_a_file_may_be_cut_off_anywhere(tmp_path, big):
    voxels = np.random.default_rng(0).integers(0, 255, (3, 70, 90)).astype("u1")
    options = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}, "bigtiff": big}
    tifffile.imwrite(tmp_path / "a.tif", voxels, tile=(32, 32), compression="zlib", **options)
    content = (tmp_path / "a.tif").read_bytes()
    for cut in [*range(0, 40), *range(40, len(content), len(content) // 60), len(content) - 1]:
        with pytest.raises(VolumeError):
            open_source(write(tmp_path, content[:cut]))


def source_box(source):
    return Box.of_shape(source.shape)


def hdf5_file(folder, make):
    with h5py.File(folder / "a.h5", "w") as file:
        make(file)
    return folder / "a.h5"


def virtual(file):
    layout = h5py.VirtualLayout((4, 8), "u1")
    layout[0] = h5py.VirtualSource("other.h5", "x", (8,))
    file.create_virtual_dataset("x", layout)


def filtered(number):
    def make(file):
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((8, 8))
        layout.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_UINT8, h5py.h5s.create_simple((16, 16)), layout)

    return make


def chunked(file):
    file.create_dataset("x", (1 << 17, 1 << 17), "u1", chunks=(1 << 16, 1 << 15), fillvalue=1)
    file.create_dataset("y", (1 << 17, 1 << 17), "u1", chunks=(1 << 16, (1 << 15) + 1), fillvalue=1)


def linked(file):
    file["x"] = h5py.ExternalLink("other.h5", "/x")
    file.create_group("g")["y"] = h5py.ExternalLink("other.h5", "/")
    file["s"] = h5py.SoftLink("g/y")
    file["loop"] = h5py.SoftLink("/loop")
    file["real"] = np.zeros((4, 4), "u1")
    file["good"] = h5py.SoftLink("./real")
    file["gone"] = h5py.SoftLink("/nowhere")


HDF5 = [
    (virtual, "x", r"a virtual dataset, made of other files \(other\.h5\)"),
    (
        lambda f: f.create_dataset("x", (4, 4), "u1", external="secret.bin"),
        "x",
        r"lie in another file \(secret\.bin\)",
    ),
    (filtered(32015), "x", r"compressed by filter 32015 \(Zstandard\), which is not installed"),
    (filtered(40000), "x", r"compressed by filter 40000 \(.*\), which is not installed"),
    (chunked, "y", "its chunks have 2147549184 bytes, and at most 2147483648"),
    (linked, "x", r"/x is a link into another file \(other\.h5\)"),
    (linked, "g/y/deep", r"/g/y is a link into another file \(other\.h5\)"),
    (linked, "s/deep", r"/g/y is a link into another file \(other\.h5\)"),
    (linked, "loop", "more than 32 links one after the other, or in a circle"),
    (linked, "gone", "is no dataset of this file"),
]


@pytest.mark.parametrize(("make", "name", "message"), HDF5)
def test_an_hdf5_file_leads_nowhere_else(tmp_path, make, name, message):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.ones((4, 4), "u1")
    with pytest.raises(VolumeError, match=message):
        open_source(f"{hdf5_file(tmp_path, make)}::/{name}", Reading(axes="yx"))


def test_links_inside_an_hdf5_file_are_followed(tmp_path):
    with open_source(f"{hdf5_file(tmp_path, linked)}::/good") as source:
        assert source.shape == (4, 4)


def test_an_empty_dataset_of_any_size_takes_no_memory(tmp_path):
    path = hdf5_file(tmp_path, chunked)
    with open_source(f"{path}::/x") as source:
        assert source.read(Box((0, 0), (1, 2))).tolist() == [[[1, 1]]]


def test_the_corpus_makes_sound_files_too(tmp_path):
    path = write(tmp_path, tiff({**GREY, **STRIP}, data=bytes(range(64)) * 64))
    np.testing.assert_array_equal(tifffile.imread(path), np.tile(np.arange(64, dtype="u1"), (64, 1)))
    assert Path(hostile.__file__).name == "hostile.py"
