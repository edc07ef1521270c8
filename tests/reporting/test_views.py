import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import create_filled, save, save_ome, small_spec

from pipeline.errors import VolumeError
from pipeline.geometry import Box
from pipeline.reporting import views
from pipeline.reporting.views import common_levels, open_view
from pipeline.volume import Space, build_pyramid, publish
from pipeline.volume.sources.reading import Reading


def image(root, data, *, axes="yx", levels=True):
    """Store an image with our pyramid."""
    spatial = data.shape[-len(axes.replace("c", "")) :]
    channels = data.shape[0] if "c" in axes else None
    space = Space(axes.replace("c", ""), (1.0,) * len(spatial), (0.0,) * len(spatial), "nanometer")
    spec = small_spec(spatial, channels=channels, dtype=data.dtype.str, shard=(512,) * len(spatial), space=space)
    create_filled(root, spec, data)
    made = [("0", space)]
    if levels:
        made = build_pyramid(root, spec, method="mode", threads=1, progress=None)
    publish(root, name="a", axes=spec.axes, levels=made, classes=None)
    return open_view(root)


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_picture_of_all_pixels_is_the_plane(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    values = np.arange(np.prod(shape), dtype="u2").reshape(shape)
    root = tmp_path_factory.mktemp("view")
    save(root / "a", values)
    view = open_view(root / "a")
    pairs = [(a := data.draw(st.integers(0, n - 1)), data.draw(st.integers(a + 1, n))) for n in shape]
    box = Box(*map(tuple, zip(*pairs, strict=True)))
    for taken in (view.sampled(box, box.shape), view.averaged(box, box.shape), view.cut(box)):
        assert np.array_equal(taken[0], values[box.slices])


def test_averaged_joins_squares_and_sampled_takes_the_middle(tmp_path):
    values = np.arange(36, dtype="u1").reshape(6, 6)
    save(tmp_path / "a", values)
    view, box = open_view(tmp_path / "a"), Box((0, 0), (6, 6))
    assert np.array_equal(view.averaged(box, (2, 2))[0], values.reshape(2, 3, 2, 3).mean(axis=(1, 3)))
    assert view.sampled(box, (2, 2))[0].tolist() == [[7, 10], [25, 28]]


def test_ragged_edges_are_means_of_what_there_is(tmp_path):
    save(tmp_path / "a", np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], "u1"))
    view = open_view(tmp_path / "a")
    assert views._block_mean(view.cut(Box((0, 0), (3, 3))), 2)[0].tolist() == [[3, 4.5], [7.5, 9]]


def test_bands_do_not_change_a_picture(tmp_path, monkeypatch):
    values = np.random.default_rng(0).integers(0, 99, (50, 40), "u1")
    save(tmp_path / "a", values)
    view, box = open_view(tmp_path / "a"), Box((3, 5), (47, 40))
    before = view.averaged(box, (11, 9)), view.sampled(box, (11, 9))
    monkeypatch.setattr(views, "BAND", 100)
    after = view.averaged(box, (11, 9)), view.sampled(box, (11, 9))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_coarsest_level_that_is_fine_enough_is_read(tmp_path):
    view = image(tmp_path / "a", np.zeros((2100, 1100), "u1"))
    plane = Box((0, 0), (2100, 1100))
    assert len(view.levels) == 4
    assert [view.level_for(plane, s) for s in ((2100, 1100), (1051, 2), (1050, 550), (200, 100))] == [0, 0, 1, 3]
    assert view.factor(2) == (4.0, 4.0)


def test_a_result_over_a_region_looks_at_that_region(tmp_path):
    values = np.indices((1100, 1100))[0].astype("u2")
    image(tmp_path / "a", values)
    view = open_view(tmp_path / "a", origin=(300, 0))
    plane = Box((0, 0), (640, 640))
    assert view.cut(Box((0, 0), (2, 1))).tolist() == [[[300], [301]]]
    shown = view.sampled(plane, (320, 320))[0][:, 0].astype(int)
    assert view.level_for(plane, (320, 320)) == 1
    assert np.abs(shown - np.arange(300, 940, 2)).max() <= 2


def test_the_middle_plane_of_a_stack(tmp_path):
    values = np.arange(4 * 5 * 6, dtype="u1").reshape(4, 5, 6)
    save(tmp_path / "a", values, "zyx")
    view, plane = open_view(tmp_path / "a"), Box((2, 0, 0), (3, 5, 6))
    assert np.array_equal(view.sampled(plane, (5, 6))[0], values[2])
    assert np.array_equal(view.averaged(plane, (5, 6))[0], values[2])
    assert np.array_equal(view.cut(plane)[0], values[2])


def test_averaged_shows_three_channels_at_most(tmp_path):
    save(tmp_path / "a", np.zeros((5, 8, 8), "u1"), "cyx")
    view = open_view(tmp_path / "a")
    assert view.averaged(view.volume.box, (4, 4)).shape == (3, 4, 4)
    assert view.sampled(view.volume.box, (4, 4)).shape == (5, 4, 4)


def test_a_level_above_0_can_be_the_finest(tmp_path):
    save_ome(
        tmp_path / "a",
        [np.zeros((8, 8), "u1"), np.ones((4, 4), "u1"), np.full((2, 2), 2, "u1")],
        "yx",
        version="0.5",
    )
    view = open_view(tmp_path / "a", Reading(level=1))
    assert len(view.levels) == 2
    assert view.factor(1) == (2.0, 2.0)
    assert view.cut(Box((0, 0), (1, 1))).item() == 1


def test_common_levels_have_the_same_factors(tmp_path):
    plane = Box((0, 0), (2100, 1100))
    both = image(tmp_path / "a", np.zeros((2100, 1100), "u1"))
    alone = image(tmp_path / "b", np.zeros((2100, 1100), "u1"), levels=False)
    assert common_levels(both, both, plane=plane, shape=(500, 262)) == (2, 2)
    assert common_levels(both, alone, plane=plane, shape=(500, 262)) == (0, 0)


def test_a_picture_that_decodes_too_much_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "a", np.zeros((40, 40), "u1"))
    view = open_view(tmp_path / "a")
    monkeypatch.setattr(views, "MOST_DECODED", 1000)
    with pytest.raises(VolumeError, match="no resolution level that is small enough"):
        view.averaged(view.volume.box, (4, 4))
