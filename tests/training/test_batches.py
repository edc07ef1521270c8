import itertools
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pipeline.config.training import Augmentation
from pipeline.errors import InputError
from pipeline.geometry import Box, Turn
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.training import batches as training_batches
from pipeline.training.augment import Augment
from pipeline.training.batches import AHEAD, Batches, loader
from pipeline.training.pairs import open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.targets import ClassIds, TargetRule, Weighing


class Brighter:
    """A change that needs nothing around the patch."""

    def __init__(self, shape, amount):
        self.seen, self._amount = Box.of_shape(shape), amount

    def __call__(self, patch):
        return replace(patch, image=patch.image + self._amount)


NETWORK = UNetArchitecture(in_channels=2, classes=2, depth=2, width=4, padding="same")
SCALE = Normalisation(mean=(10, 20), std=(2, 4))


class CountedStream(PatchStream):
    """Counts the patches that are made."""

    made = 0

    def __getitem__(self, index):
        self.made += 1
        return super().__getitem__(index)


@pytest.fixture
def stream(make_pair):
    image = np.random.default_rng(0).integers(0, 255, (2, 40, 40)).astype("u1")
    opened = open_pairs([make_pair(image)], NETWORK)
    return CountedStream(opened, PatchLayout.plain(NETWORK, (8, 8)), ClassIds(2), seed=(0,))


def test_batches_are_the_stream_in_order_normalised(stream):
    batches = list(Batches(stream, SCALE, count=10, size=4))
    assert [len(images) for images, _, _ in batches] == [4, 4, 2]
    images, targets = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)
    for index in range(10):
        patch = stream[index]
        expected = (patch.image.astype("f4") - np.array([10, 20], "f4")[:, None, None]) / np.array([2, 4])[
            :, None, None
        ]
        np.testing.assert_allclose(images[index], expected, rtol=1e-6)
        np.testing.assert_array_equal(targets[index], patch.target)


def test_flat_images_are_channels_last(stream):
    images, _, weights = next(iter(Batches(stream, SCALE, count=4, size=4)))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert weights is None


def test_the_loader_hands_on_the_same_batches_every_time(stream):
    batches = Batches(stream, SCALE, count=8, size=4)
    for batch, again in zip(loader(batches), batches, strict=True):
        assert torch.equal(batch.images, again.images)
        assert torch.equal(batch.targets, again.targets)


def test_only_some_batches_are_made_ahead_and_the_thread_ends_with_the_iterator(stream):
    iterator = iter(Batches(stream, SCALE, count=4 * 100, size=4))
    next(iterator)
    assert working() == 1
    iterator.close()
    assert working() == 0
    assert 4 <= stream.made <= 4 * (AHEAD + 1)


def working() -> int:
    return sum(thread.name.startswith("patches") for thread in threading.enumerate())


def test_an_error_in_a_thread_is_raised_where_batches_are_used(stream):
    def fail(shape, random):
        raise InputError("cannot be changed")

    with pytest.raises(InputError, match="cannot be changed"):
        next(iter(Batches(stream, SCALE, count=4, size=4, change=fail, loaders=2)))
    assert working() == 0


def test_any_number_of_threads_gives_the_same_batches_in_order(stream):
    def change(shape, random):
        return Brighter(shape, random.random())

    plain, changed = (Batches(stream, SCALE, count=24, size=3, change=each, loaders=1) for each in (None, change))
    for loaders in (2, 5):
        again = Batches(stream, SCALE, count=24, size=3, change=change, loaders=loaders)
        for one, other in zip(changed, again, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.targets, other.targets)
    assert not torch.equal(next(iter(plain)).images, next(iter(changed)).images)


def test_a_training_that_goes_on_sees_the_patches_that_are_left(stream):
    whole = list(Batches(stream, SCALE, count=12, size=4))
    rest = list(Batches(stream, SCALE, count=12, size=4, first=8))
    assert len(rest) == 1
    assert torch.equal(rest[0].images, whole[2].images)


def test_the_time_that_is_waited_is_counted_from_the_second_batch_on(stream, monkeypatch):
    clock = SimpleNamespace(monotonic=itertools.count().__next__)  # a second passes whenever anybody looks
    monkeypatch.setattr(training_batches, "time", clock)
    batches = Batches(stream, SCALE, count=10, size=2)
    assert [batches.waited for _ in batches] == [0, 1, 2, 3, 4]
    assert [batches.waited for _ in batches] == [4, 5, 6, 7, 8]


def test_targets_are_cut_to_the_patch_and_weights_travel_along(make_pair):
    image = np.random.default_rng(0).integers(0, 255, (2, 40, 40)).astype("u1")
    network = NETWORK.model_copy(update={"padding": "valid"})
    layout = PatchLayout.plain(network, (8, 8))
    rule = TargetRule(ClassIds(2), "foreground", weighing=Weighing(lambda ids: ids.astype("f4") * 2, 0))
    stream = PatchStream(open_pairs([make_pair(image)], network), layout, rule, seed=(0,))
    images, targets, weights = next(iter(Batches(stream, SCALE, count=3, size=3)))
    assert images.shape == (3, 2, *layout.input)
    assert targets.shape == weights.shape == (3, 8, 8)
    assert torch.equal(weights, targets * 2.0)
    assert weights.dtype == torch.float32


def test_flips_and_turns_reach_the_network_on_image_and_target_alike(stream):
    plain = Batches(stream, SCALE, count=40, size=4)
    turned = Batches(stream, SCALE, count=40, size=4, change=Augment(Augmentation(), SCALE))
    every, met = list(Turn.every(2, exchange=True)), set()
    for one, other in zip(plain, turned, strict=True):
        for image, target, image_turned, target_turned in zip(*one[:2], *other[:2], strict=True):
            fits = [t for t in every if np.array_equal(t.apply(image.numpy()), image_turned)]
            assert len(fits) == 1
            assert np.array_equal(fits[0].apply(target.numpy()), target_turned)
            met.add(fits[0])
    assert len(met) >= 6
