import threading

import numpy as np
import pytest
import torch

from pipeline.errors import InputError
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.model.unet import UNet
from pipeline.training.batches import AHEAD, Batches, loader, predictions
from pipeline.training.pairs import open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.targets import ClassIds

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
    return CountedStream(opened, PatchLayout.plain(NETWORK, (8, 8)), ClassIds(2), seed=(0,), augment=True)


def test_batches_are_the_stream_in_order_normalised(stream):
    batches = list(Batches(stream, SCALE, count=10, size=4))
    assert [len(images) for images, _ in batches] == [4, 4, 2]
    images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert (images.dtype, targets.dtype) == (torch.float32, torch.int64)
    for index in range(10):
        image, target = stream[index]
        expected = (image.astype("f4") - np.array([10, 20], "f4")[:, None, None]) / np.array([2, 4])[:, None, None]
        np.testing.assert_allclose(images[index], expected, rtol=1e-6)
        np.testing.assert_array_equal(targets[index], target)


def test_flat_images_are_channels_last(stream):
    images, _ = next(iter(Batches(stream, SCALE, count=4, size=4)))
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_the_loader_hands_on_the_same_batches_every_time(stream):
    batches = Batches(stream, SCALE, count=8, size=4)
    for (images, targets), (again, too) in zip(loader(batches), batches, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(targets, too)


def test_only_some_batches_are_made_ahead_and_the_thread_ends_with_the_iterator(stream):
    iterator = iter(Batches(stream, SCALE, count=4 * 100, size=4))
    next(iterator)
    assert working() == 1
    iterator.close()
    assert working() == 0
    assert 4 <= stream.made <= 4 * (AHEAD + 1)


def working() -> int:
    return sum(thread.name.startswith("patches") for thread in threading.enumerate())


def test_an_error_in_the_thread_is_raised_where_batches_are_used(make_pair):
    image = np.full((2, 8, 8), 3, "u1")
    opened = open_pairs([make_pair(image)], NETWORK)
    stream = PatchStream(opened, PatchLayout.plain(NETWORK, (8, 8)), ClassIds(1), seed=(0,), augment=True)
    with pytest.raises(InputError, match="holds the value 1"):
        next(iter(Batches(stream, SCALE, count=4, size=4)))


@pytest.mark.parametrize("outputs", [1, 2])
def test_predictions_are_the_classes_that_the_network_finds(stream, outputs):
    network = NETWORK.model_copy(update={"classes": outputs})
    model = UNet(network).eval()
    batches = Batches(stream, SCALE, count=3, size=2)
    found = list(predictions(model, batches))
    for (classes, target), (images, targets) in zip(found, batches, strict=True):
        logits = model(images).detach().numpy()
        expected = logits[:, 0] >= 0 if outputs == 1 else logits[:, 1] > logits[:, 0]
        np.testing.assert_array_equal(classes, expected)
        np.testing.assert_array_equal(target, targets)
