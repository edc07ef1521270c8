import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import save

from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.training import pairs as training_pairs
from pipeline.training.normalisation import measure_normalisation
from pipeline.training.pairs import OpenPair, Source, hold, open_pairs
from pipeline.volume import open_volume


def network(channels):
    return UNetArchitecture(in_channels=channels, depth=2, width=4)


def silent(text):
    raise AssertionError(f"nothing should be noted, but: {text}")


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("cache", [1, 2**20], ids=["read", "held"])
def test_it_is_that_of_all_voxels_together(make_pair, dtype, cache):
    random = np.random.default_rng(1)
    images = [random.integers(0, 99, (2, 37, n)).astype(dtype) for n in (41, 20)]
    opened = hold(open_pairs([make_pair(image) for image in images], network(2)), cache)
    found = measure_normalisation(opened, silent)
    voxels = np.concatenate([image.reshape(2, -1) for image in images], axis=1).astype(np.float64)
    np.testing.assert_allclose(found.mean, voxels.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.std, voxels.std(axis=1), rtol=1e-12)


def test_it_does_not_depend_on_what_is_held_nor_on_chance(make_pair):
    opened = open_pairs([make_pair(np.random.default_rng(2).random((1, 40, 50)))], network(1))
    assert measure_normalisation(opened, silent) == measure_normalisation(hold(opened, 2**20), silent)


def test_a_small_deviation_around_a_large_mean_is_kept(make_pair):
    image = 1e9 + np.random.default_rng(3).random((1, 40, 50))
    found = measure_normalisation(open_pairs([make_pair(image)], network(1)), silent)
    np.testing.assert_allclose(found.std, image.std(), rtol=1e-6)


@pytest.mark.parametrize("value", [0, 7, 0.1])
def test_a_constant_channel_is_not_scaled_and_told(make_pair, value):
    image = np.stack([np.random.default_rng(4).random((20, 20)), np.full((20, 20), value)])
    notes = []
    found = measure_normalisation(open_pairs([make_pair(image)], network(2)), notes.append)
    assert found.std[1] == 1
    assert found.mean[1] == pytest.approx(value)
    assert notes == [f"channel 1 is {value:g} everywhere: nothing can be learnt from it, it is not scaled"]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(make_pair, bad):
    image = np.zeros((1, 20, 20), "f4")
    image[0, 18, 3] = bad
    with pytest.raises(InputError, match=r"pairs\.0.*NaN or infinity in voxels 16:20,0:16"):
        measure_normalisation(open_pairs([make_pair(image, image[0] > 0)], network(1)), silent)


def test_a_large_volume_is_sampled_within_bounds(make_pair, monkeypatch):
    image = np.random.default_rng(5).random((1, 200, 200))
    opened = open_pairs([make_pair(image)], network(1))
    monkeypatch.setitem(training_pairs.CELL, 2, 8)
    assert len(list(opened[0].image.sampled_boxes())) == training_pairs.SAMPLED_BOXES
    found = measure_normalisation(opened, silent)
    assert found.mean[0] == pytest.approx(image.mean(), abs=0.02)
    assert found.mean[0] != pytest.approx(image.mean(), abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), seed=st.integers(0, 99))
def test_the_cut_into_boxes_does_not_matter(tmp_path_factory, height, width, seed):
    image = np.random.default_rng(seed).normal(5, 2, (1, height, width))
    folder = tmp_path_factory.mktemp("volume")
    save(folder / "v", image, "cyx", chunks=7)
    source = Source(open_volume(folder / "v"))
    found = measure_normalisation([OpenPair("one", source, source, 1)], lambda text: None)
    np.testing.assert_allclose(found.mean[0], image.mean(), rtol=1e-9)
    np.testing.assert_allclose(found.std[0], image.std() or 1, rtol=1e-9)
