import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.volume import Space
from pipeline.volume.sources import open_source, slices
from pipeline.volume.sources.reading import Reading
from pipeline.volume.sources.slices import natural_key

STACK = np.random.default_rng(0).integers(0, 255, (12, 20, 30)).astype("u1")
COLOUR = np.random.default_rng(1).integers(0, 255, (12, 20, 30, 3)).astype("u1")


def write(folder, stack, ending, name="slice{}"):
    folder.mkdir(exist_ok=True)
    for z, voxels in enumerate(stack):
        path = folder / f"{name.format(z)}{ending}"
        if ending.startswith(".t"):
            tifffile.imwrite(path, voxels, compression="zlib", rowsperstrip=8)
        else:
            Image.fromarray(voxels).save(path)
    return folder


def decoded(folder, stack, ending):
    """Return what a library of its own reads from the files."""
    paths = [folder / f"slice{z}{ending}" for z in range(len(stack))]
    read = tifffile.imread if ending.startswith(".t") else lambda p: np.asarray(Image.open(p))
    voxels = np.stack([read(p) for p in paths])
    return voxels[np.newaxis] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)


@pytest.mark.parametrize("stack", [STACK, COLOUR, STACK.astype("u2") * 200])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG", ".tif", ".TIFF"])
def test_a_folder_is_a_stack_in_natural_order(tmp_path, stack, ending):
    if stack.dtype == "u2" and ending.lower().startswith(".j"):
        stack = STACK
    folder = write(tmp_path / "a", stack, ending)
    expected = decoded(folder, stack, ending)
    with open_source(folder) as source:
        assert source.shape == (12, 20, 30)
        assert source.channels == (3 if stack.ndim == 4 else None)
        assert source.space == Space.unscaled("zyx")
        assert source.slab == (1, 20, 30)
        assert source.dtype == stack.dtype
        np.testing.assert_array_equal(source.read(Box((0, 0, 0), (12, 20, 30))), expected)
        np.testing.assert_array_equal(source.read(Box((3, 4, 5), (11, 9, 7))), expected[:, 3:11, 4:9, 5:7])
        assert source.where((2, 3, 4)) == f"{folder / ('slice2' + ending)} (slice 2), voxel 3,4"


def test_a_pattern_takes_what_it_matches(tmp_path):
    folder = write(tmp_path / "a", STACK, ".png")
    write(folder, STACK[:3], ".png", name="mask{}")
    with open_source(f"{folder}/slice*.png") as source:
        assert source.shape == (12, 20, 30)
    with open_source(folder / "**" / "mask[01].png", Reading(voxel_size=(50, 4, 4), unit="nm")) as source:
        assert source.shape == (2, 20, 30)
        assert source.space == Space("zyx", (50, 4, 4), (0, 0, 0), "nanometer")


def test_one_slice_is_a_stack_of_one(tmp_path):
    with open_source(write(tmp_path / "a", STACK[:1], ".png")) as source:
        assert source.shape == (1, 20, 30)


def test_hidden_and_other_files_are_left_out(tmp_path):
    folder = write(tmp_path / "a", STACK, ".png")
    (folder / "notes.txt").write_text("membranes")
    (folder / "._slice0.png").write_bytes(b"another system's")
    (folder / "more.png").mkdir()
    with open_source(folder) as source:
        assert source.shape == (12, 20, 30)


@pytest.mark.parametrize(
    ("other", "ending", "message"),
    [
        (STACK[:1, :-1], ".png", "PNG 19 x 30 grey uint8, but slice0.png is PNG 20 x 30 grey uint8"),
        (STACK[:1].astype("u2"), ".png", "PNG 20 x 30 grey uint16, but slice0.png"),
        (COLOUR[:1], ".png", "PNG 20 x 30 of 3 channels uint8, but slice0.png"),
        (STACK[:1], ".tif", "TIFF 20 x 30 grey uint8, but slice0.png"),
    ],
)
def test_the_first_slice_that_differs_is_named(tmp_path, other, ending, message):
    folder = write(tmp_path / "a", STACK, ".png")
    write(folder, other, ending, name="slice5b")
    write(folder, other, ending, name="slice9b")
    with pytest.raises(VolumeError, match=rf"slice5b{ending}: {message}.*all slices must be alike.*by a pattern"):
        open_source(folder)


def test_stacks_in_slices_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    tifffile.imwrite(tmp_path / "a" / "0.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(VolumeError, match="this file is a stack of its own; ingest it alone"):
        open_source(tmp_path / "a")


def test_a_slice_that_changes_while_it_is_read_is_an_error(tmp_path):
    folder = write(tmp_path / "a", STACK, ".png")
    with open_source(folder) as source:
        Image.fromarray(STACK[0, :9]).save(folder / "slice7.png")
        assert source.read(Box((0, 0, 0), (7, 1, 1))).shape == (1, 7, 1, 1)
        with pytest.raises(VolumeError, match=r"slice7\.png: it was changed"):
            source.read(Box((6, 0, 0), (9, 1, 1)))


def test_a_damaged_slice_is_named(tmp_path):
    folder = write(tmp_path / "a", STACK, ".png")
    content = (folder / "slice7.png").read_bytes()
    (folder / "slice7.png").write_bytes(content[:-100])
    with open_source(folder) as source, pytest.raises(VolumeError, match=r"slice7\.png: .* cannot be read"):
        source.read(Box((0, 0, 0), (12, 1, 1)))


def test_slices_have_their_own_axes_and_one_level(tmp_path):
    folder = write(tmp_path / "a", STACK[:2], ".png")
    with open_source(folder, Reading(axes="zyx")) as source:
        assert source.shape == (2, 20, 30)
    with pytest.raises(VolumeError, match="its axes are zyx, not 'cyx'"):
        open_source(folder, Reading(axes="cyx"))
    with pytest.raises(VolumeError, match="level 0 only"):
        open_source(folder, Reading(level=1))


def test_places_without_slices_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("")
    for place in (tmp_path, f"{tmp_path}/*.png"):
        with pytest.raises(VolumeError, match=r"no slices there; they end in \.png, \.jpg"):
            open_source(place)


def test_each_file_is_opened_once_a_slab(tmp_path, monkeypatch):
    folder = write(tmp_path / "a", STACK, ".png")
    with open_source(folder) as source:
        opened = []
        original = slices._open
        monkeypatch.setattr(slices, "_open", lambda path: opened.append(path) or original(path))
        source.read(Box((2, 0, 0), (6, 20, 30)))
    assert opened == [str(folder / f"slice{z}.png") for z in range(2, 6)]


@given(st.lists(st.integers(0, 10**6), unique=True))
def test_natural_order_counts(numbers):
    names = [f"s{n}_c{n % 3}.tif" for n in numbers]
    assert sorted(names, key=natural_key) == [f"s{n}_c{n % 3}.tif" for n in sorted(numbers)]


@given(st.lists(st.text(alphabet="a1.0b_", max_size=6)))
def test_any_names_can_be_sorted(names):
    assert sorted(sorted(names, key=natural_key)) == sorted(names)
