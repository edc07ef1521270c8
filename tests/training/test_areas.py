import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from volumes import save

from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.training.areas import Area, BoxSet, disjoint, merged, subtract
from pipeline.training.pairs import open_pairs

SHAPE = (12, 15)


@st.composite
def boxes(draw, shape=SHAPE):
    sides = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return Box(tuple(a for a, _ in sides), tuple(b for _, b in sides))


def painted(some, shape=SHAPE):
    found = np.zeros(shape, int)
    for box in some:
        found[box.slices] += 1
    return found


@given(boxes(), st.lists(boxes(), max_size=4))
def test_a_box_without_holes_is_disjoint_boxes_of_what_is_left(box, holes):
    left = painted(subtract(box, holes))
    np.testing.assert_array_equal(left, (painted([box]) > 0) & (painted(holes) == 0))


@given(st.lists(boxes(), max_size=5))
def test_overlapping_boxes_become_disjoint_ones(some):
    found = disjoint(some)
    np.testing.assert_array_equal(painted(found), painted(some) > 0)
    joined = merged(found)
    np.testing.assert_array_equal(painted(joined), painted(found))
    assert len(joined) <= len(found)


def test_a_row_of_blocks_becomes_one_box():
    blocks = [Box((y, x), (y + 4, x + 5)) for y in (0, 4) for x in (0, 5, 10)]
    assert merged(blocks) == [Box((0, 0), (8, 15))]
    assert merged(blocks[:4]) == [Box((0, 0), (4, 15)), Box((4, 0), (8, 5))]
    assert merged([]) == []


@given(
    st.lists(boxes(), min_size=1, max_size=3),
    st.none() | st.lists(boxes(), max_size=2),
    st.lists(boxes(), max_size=2),
    boxes((20, 25)),
)
def test_what_is_known_is_what_is_labelled_and_kept_without_what_is_taken_out(labelled, kept, without, asked):
    asked = asked.shift((-4, -4))
    area = Area(SHAPE, BoxSet(disjoint(labelled)))
    area = (area if kept is None else area.only(disjoint(kept))).less(without)
    whole = (painted(labelled) > 0) & (painted(without) == 0)
    if kept is not None:
        whole &= painted(kept) > 0
    np.testing.assert_array_equal(painted(area.regions()), whole)
    around = np.pad(whole, 8)
    np.testing.assert_array_equal(area.bits(asked), around[asked.shift((8, 8)).slices])
    mirrored = np.pad(painted(labelled) > 0, 8, mode="reflect")
    np.testing.assert_array_equal(area.labelled_bits(asked), mirrored[asked.shift((8, 8)).slices])


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 99, (24, 40)).astype("u1")


def test_boxes_say_what_is_labelled(make_pair, image):
    pair = open_pairs([make_pair(image, axes="yx", boxes=("0:10,5:20", "5:12,:8"))])[0]
    expected = painted([Box((0, 5), (10, 20)), Box((5, 0), (12, 8))], image.shape) > 0
    np.testing.assert_array_equal(pair.known.bits(pair.known.box), expected)
    assert sum(box.size for box in pair.known.labelled.boxes) == expected.sum()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (("0:10",), r"pairs\.0.*boxes\.0 has 1 ranges, but the image has the axes y,x"),
        (("0:10,5:20", "0:25,0:4"), r"boxes\.1: 0:25 along y is not inside the image's 0:24"),
        (("3:3,0:4",), r"boxes\.0: 3:3 along y"),
    ],
)
def test_boxes_that_are_not_inside_are_refused_by_name(make_pair, image, boxes, message):
    with pytest.raises(InputError, match=message):
        open_pairs([make_pair(image, axes="yx", boxes=boxes)])


@pytest.mark.parametrize("scale", [1, 2, 8])
def test_a_mask_of_any_resolution_says_what_is_labelled(make_pair, image, tmp_path, scale):
    mask = np.random.default_rng(1).integers(0, 2, (24 // scale, 40 // scale)).astype("u1")
    save(tmp_path / "mask.zarr", mask, "yx")
    pair = open_pairs([make_pair(image, axes="yx", within=str(tmp_path / "mask.zarr"), boxes=("0:20,:",))])[0]
    expected = np.kron(mask, np.ones((scale, scale), int)) > 0
    expected[20:] = False
    np.testing.assert_array_equal(pair.known.bits(pair.known.box), expected)
    np.testing.assert_array_equal(pair.known.bits(Box((3, 5), (9, 30))), expected[3:9, 5:30])


def test_a_mask_of_the_plane_holds_for_every_slice_of_a_stack(make_pair, tmp_path):
    mask = np.random.default_rng(1).integers(0, 2, (10, 12)).astype("u1")
    save(tmp_path / "mask.zarr", mask, "yx")
    stack = np.zeros((3, 10, 12), "u1")
    pair = open_pairs([make_pair(stack, axes="zyx", target_axes="zyx", within=str(tmp_path / "mask.zarr"))])[0]
    np.testing.assert_array_equal(pair.known.bits(pair.known.box), np.broadcast_to(mask > 0, (3, 10, 12)))


def test_polygons_say_what_is_labelled(make_pair, image, polygons):
    place = polygons([[(5, 2), (20, 2), (20, 10), (5, 10)]])
    pair = open_pairs([make_pair(image, axes="yx", within=str(place))])[0]
    np.testing.assert_array_equal(
        pair.known.bits(pair.known.box), painted([Box((2, 5), (10, 20))], image.shape) > 0
    )


def test_a_mask_that_does_not_lie_over_the_image_is_refused_by_name(make_pair, image, tmp_path):
    save(tmp_path / "mask.zarr", np.ones((24, 23), "u1"), "yx")
    with pytest.raises(InputError, match=r"pairs\.0.*within: .*mask\.zarr: its shape \(24, 23\) is not that of"):
        open_pairs([make_pair(image, axes="yx", within=str(tmp_path / "mask.zarr"))])
