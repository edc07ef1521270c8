import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluation.seam_gaps import STRIP, face_view, gaps, strips_of


def window(values, lines=STRIP):
    """The four voxels around a plane, the same on each line: ``(1, 4, 1, 1, lines)``."""
    return np.tile(np.asarray(values, np.float32)[None, :, None, None, None], (1, 1, 1, 1, lines))


@pytest.mark.parametrize(
    ("values", "gap"),
    [
        ([0, 0, 0, 0], 0),
        ([1, 3, 5, 7], 0),  # a slope
        ([0, 1, 4, 9], 0),  # a parabola
        ([0, 0, 1, 1], 1),  # a step at the plane
        ([0, 1, 1, 1], 0.5),  # one beside it
        ([2, 2, 2.5, 2.5], 0.5),
    ],
)
def test_a_gap_is_what_two_straight_lines_leave(values, gap):
    assert gaps(window(values), "logits") == pytest.approx(np.full((2, 1, 1), gap))


def test_what_neighbours_do_not_share_is_in_the_fine_gap_alone():
    voxels = window([0, 0, 0, 0])
    voxels[0, 2:, 0, 0, ::2], voxels[0, 2:, 0, 0, 1::2] = 1, -1
    fine, broad = gaps(voxels, "logits")[:, 0, 0]
    assert (fine, broad) == (1, 0)


def test_probabilities_in_bytes_are_shares():
    voxels = window([0, 0, 51, 51]).astype(np.uint8)
    assert gaps(voxels, "probabilities") == pytest.approx(gaps(window([0, 0, 0.2, 0.2]), "probabilities"))


def test_channels_are_summed():
    voxels = np.concatenate([window([0, 0, 1, 1]), window([1, 1, 0, 0])])
    assert gaps(voxels, "probabilities")[:, 0, 0].tolist() == [2, 2]


def test_each_class_is_a_channel_and_its_number_means_nothing():
    ids = np.random.default_rng(0).choice([0, 3, 200], (1, 4, 2, 3, STRIP)).astype(np.uint8)
    channels = np.concatenate([ids == label for label in (0, 3, 200)]).astype(np.float32)
    assert np.array_equal(gaps(ids, "labels"), gaps(channels, "logits"))
    assert not gaps(np.broadcast_to(ids[:, :1], ids.shape), "labels").any()


def test_equal_values_have_no_gap_by_rounding():
    values = np.random.default_rng(0).random((1, 1, 5, 7, STRIP)).astype(np.float32)
    assert not gaps(np.broadcast_to(values, (1, 4, 5, 7, STRIP)), "probabilities").any()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_strips_lie_in_the_face_and_do_not_overlap(height, width, most):
    strips = strips_of((height, width), most)
    assert len(strips.rows) >= 1 and len(strips.lines) >= 1  # noqa: PT018
    assert strips.rows.min() >= 0 and strips.rows.max() < height  # noqa: PT018
    assert strips.lines.min() >= 0 and strips.lines.max() < width  # noqa: PT018
    assert len(np.unique(strips.rows)) == len(strips.rows)
    assert np.unique(strips.lines).size == strips.lines.size
    assert len(strips.rows) * len(strips.lines) <= 2 * most + 2


@pytest.mark.parametrize(
    ("shape", "most", "rows", "strips"),
    [
        ((1, 2048), 256, 1, 128),
        ((1, 20), 256, 1, 1),
        ((1, 5), 256, 1, 1),
        ((512, 512), 256, 32, 8),
        ((4, 64), 256, 4, 4),
    ],
)
def test_as_many_strips_as_are_wanted(shape, most, rows, strips):
    found = strips_of(shape, most)
    assert (len(found.rows), len(found.lines)) == (rows, strips)


def test_a_face_is_cut_out_of_the_voxels_that_it_names():
    voxels = np.arange(2 * 5 * 40 * 50).reshape(2, 5, 40, 50)
    strips = strips_of((5, 50), 1000)
    found = strips.of(face_view(voxels, 1)[:, 7:11])
    assert found.shape == (2, 4, 5, 3, STRIP)
    assert found[1, 2, 3, 1, 4] == voxels[1, 3, 9, 20]
    flat = np.arange(3 * 40 * 50).reshape(3, 40, 50)
    assert strips_of((1, 40), 9).of(face_view(flat, 1)[:, 7:11])[2, 1, 0, 1, 5] == flat[2, 21, 8]
