import numpy as np
import pytest
from PIL import Image
from volumes import create_filled, save, save_ome, small_spec

from pipeline.config.training import Pair
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.training.pairs import open_pairs
from pipeline.volume import Space, publish
from pipeline.volume.geo import Georeference, georeference_attributes

UTM = (2.0, 0.0, 500_000.0, 0.0, -2.0, 4_000_000.0)
SHAPE = (16, 24)


@pytest.fixture
def place(tmp_path):
    """Write a volume that lies somewhere, and return its path."""
    numbers = iter(range(100))

    def make(shape=SHAPE, *, space=None, crs=None, transform=UTM):
        path = tmp_path / f"placed{next(numbers)}.zarr"
        space = space or Space.unscaled("yx")
        create_filled(path, small_spec(shape, space=space, shard=shape), np.zeros(shape, "u1"))
        more = None if crs is None else georeference_attributes(Georeference(crs, transform, None), shape=shape)
        publish(path, name="placed", axes="yx", levels=[("0", space)], classes=None, more=more)
        return str(path)

    return make


def pair_of(image, target):
    return Pair(image=str(image), target=str(target))


@pytest.mark.parametrize(
    ("crs", "moved", "message"),
    [
        ("EPSG:32618", 0.0, None),
        ("EPSG:32618", 0.9, None),  # less than half a voxel of two metres
        ("EPSG:32618", 3.0, r"pairs\.0.*transform is .*their corners lie 1\.5 voxels apart"),
        ("EPSG:32617", 0.0, r"pairs\.0.*image is in EPSG:32618, the target in EPSG:32617"),
        (None, 0.0, None),
    ],
)
def test_places_on_earth_must_agree_where_both_are_known(place, crs, moved, message):
    image = place(crs="EPSG:32618")
    target = place(crs=crs, transform=(*UTM[:2], UTM[2] + moved, *UTM[3:]))
    if message is None:
        assert len(open_pairs([pair_of(image, target)])) == 1
    else:
        with pytest.raises(InputError, match=message):
            open_pairs([pair_of(image, target)])


def test_another_size_of_pixels_on_earth_is_found_at_the_far_corner(place):
    image = place(crs="EPSG:32618")
    target = place(crs="EPSG:32618", transform=(2.2, 0.0, UTM[2], 0.0, -2.0, UTM[5]))
    with pytest.raises(InputError, match=r"their corners lie 2\.4 voxels apart"):
        open_pairs([pair_of(image, target)])


@pytest.mark.parametrize(("moved", "fits"), [(0.2, True), (0.3, False)])
def test_origins_must_agree_where_both_have_a_unit(place, moved, fits):
    spaces = [Space("yx", (0.5, 0.5), (0.0, x), "micrometer") for x in (1.0, 1.0 + moved)]
    pair = pair_of(*(place(space=space) for space in spaces))
    if fits:
        assert len(open_pairs([pair])) == 1
    else:
        with pytest.raises(InputError, match=r"image begins at \(0\.0, 1\.0\) micrometer, the target at"):
            open_pairs([pair])


def test_targets_that_were_exchanged_are_told(place):
    shapes = [(16, 24), (8, 8), (16, 32)]
    images, targets = ([place(shape) for shape in shapes] for _ in range(2))
    pairs = [pair_of(images[0], targets[2]), pair_of(images[1], targets[1]), pair_of(images[2], targets[0])]
    with pytest.raises(InputError, match=r"^pairs\.0.*The targets of this pair and of pairs\.2 .*exchanged\?"):
        open_pairs(pairs)


def test_a_target_that_fits_nowhere_is_not_called_exchanged(place):
    pairs = [pair_of(place((16, 24)), place((9, 9))), pair_of(place((8, 8)), place((8, 8)))]
    with pytest.raises(InputError) as caught:
        open_pairs(pairs)
    assert "exchanged" not in str(caught.value)


def test_places_tell_exchanged_targets_of_one_shape(place):
    transforms = [UTM, (*UTM[:2], UTM[2] + 1000, *UTM[3:])]
    images, targets = ([place(crs="EPSG:32618", transform=t) for t in transforms] for _ in range(2))
    with pytest.raises(InputError, match="exchanged"):
        open_pairs([pair_of(images[0], targets[1]), pair_of(images[1], targets[0])])


def test_images_of_two_kinds_are_refused(make_pair):
    grey, colour = np.zeros((1, 8, 8), "u1"), np.zeros((3, 8, 8), "u1")
    with pytest.raises(InputError, match=r"pairs\.1.*has 3 channel\(s\), that of pairs\.0.*has 1"):
        open_pairs([make_pair(grey), make_pair(colour)])


def test_files_of_any_format_are_pairs(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, (20, 30)).astype("u1")
    Image.fromarray(image).save(tmp_path / "image.png")
    np.save(tmp_path / "target.npy", image % 2)
    pair = open_pairs([pair_of(tmp_path / "image.png", tmp_path / "target.npy")])[0]
    box = Box((-3, 2), (9, 33))
    mirrored = np.pad(image, 5, mode="reflect")[2:14, 7:38]
    np.testing.assert_array_equal(pair.image.shown(box)[0], mirrored)
    np.testing.assert_array_equal(pair.target.shown(box)[0], mirrored % 2)
    assert [str(each) for each in pair.image.sampled_boxes()] == ["0:20,0:30"]


def test_a_coarser_level_and_a_target_that_was_made_at_it(tmp_path):
    levels = [np.arange(24 * 32).reshape(24, 32).astype("u2"), np.arange(12 * 16).reshape(12, 16).astype("u2")]
    save_ome(tmp_path / "image.zarr", levels, "yx", version="0.5")
    save_ome(tmp_path / "both.zarr", [level % 2 for level in levels], "yx", version="0.5")
    save(tmp_path / "coarse.zarr", levels[1] % 2, "yx")
    for target in ("both.zarr", "coarse.zarr"):
        pair = open_pairs([Pair(image=str(tmp_path / "image.zarr"), target=str(tmp_path / target), level=1)])[0]
        assert pair.shape == (12, 16)
        np.testing.assert_array_equal(pair.target.shown(Box((0, 0), (12, 16)))[0], levels[1] % 2)
    with pytest.raises(VolumeError, match="there is no level 2"):
        open_pairs([Pair(image=str(tmp_path / "image.zarr"), target=str(tmp_path / "both.zarr"), level=2)])
    with pytest.raises(InputError, match=r"the image has \(24, 32\) voxels along yx, the target \(12, 16\)"):
        open_pairs([Pair(image=str(tmp_path / "image.zarr"), target=str(tmp_path / "coarse.zarr"))])


SQUARES = [[(2, 3), (10, 3), (10, 9), (2, 9)], [(10, 3), (20, 3), (20, 12), (10, 12)]]


@pytest.fixture
def flat(tmp_path):
    image = np.random.default_rng(0).integers(0, 99, SHAPE).astype("u1")
    save(tmp_path / "flat.zarr", image, "yx")
    return str(tmp_path / "flat.zarr")


def painted(*values):
    found = np.zeros(SHAPE, int)
    for ((left, top), _, (right, bottom), _), value in zip(SQUARES, values, strict=True):
        found[top:bottom, left:right] = value
    return found


def test_polygons_are_drawn_on_the_grid_of_the_image(flat, polygons):
    classes = ("background", "gland", "nucleus")
    target = polygons(SQUARES, ["nucleus", "gland"])
    pair = Pair(image=flat, target=str(target), attribute="kind")
    opened = open_pairs([pair], classes=classes)[0]
    np.testing.assert_array_equal(opened.target.shown(Box.of_shape(SHAPE))[0], painted(2, 1))
    plain = open_pairs([pair.model_copy(update={"attribute": None})], classes=classes)[0]
    np.testing.assert_array_equal(plain.target.shown(Box.of_shape(SHAPE))[0], painted(1, 1))


def test_each_polygon_is_an_instance_where_instances_are_wanted(flat, polygons):
    pair = Pair(image=flat, target=str(polygons(SQUARES)))
    opened = open_pairs([pair], classes=("background", "edge"), instances="boundary")[0]
    assert opened.target.volume.dtype == np.uint32
    np.testing.assert_array_equal(opened.target.shown(Box.of_shape(SHAPE))[0], painted(1, 2))


def test_a_class_of_polygons_that_is_not_named_is_refused(flat, polygons):
    pair = Pair(image=flat, target=str(polygons(SQUARES, ["nucleus", "gland"])), attribute="kind")
    with pytest.raises(InputError, match="no class id is given for gland"):
        open_pairs([pair], classes=("background", "nucleus"))


def test_polygons_on_a_stack_and_attributes_of_volumes_are_refused(make_pair, polygons):
    stack = make_pair(np.zeros((2, 8, 8), "u1"), axes="zyx", target_axes="zyx")
    with pytest.raises(InputError, match=r"pairs\.0.*polygons, which are drawn on two axes.*has 3"):
        open_pairs([stack.model_copy(update={"target": str(polygons(SQUARES))})])
    with pytest.raises(InputError, match=r"pairs\.0.*attribute 'kind' is for polygons"):
        open_pairs([stack.model_copy(update={"attribute": "kind"})])
