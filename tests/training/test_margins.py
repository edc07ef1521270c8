"""What is read around a patch that is scaled, turned or deformed: real voxels, as far as there are any."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from labels import cells
from volumes import save

from pipeline.config.training import Augmentation, Elastic, Pair, Split
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.checkpoint import Normalisation
from pipeline.training.augment import Augment
from pipeline.training.augment.spatial import move_image, move_target, move_weights
from pipeline.training.batches import Batches
from pipeline.training.census import take_census
from pipeline.training.pairs import hold, open_pairs
from pipeline.training.patches import Draw, PatchLayout, PatchStream
from pipeline.training.splits import split_pairs
from pipeline.training.targets import IGNORE, ClassIds, TargetRule, Weighing
from pipeline.training.weights import border_context, border_weights

SAME = UNetArchitecture(classes=2, depth=2, width=4, padding="same")
VALID = UNetArchitecture(classes=2, depth=2, width=4)
PLAIN = Normalisation(mean=(0.0,), std=(1.0,))
USUAL = Augmentation(scale=0.3, rotation=180, elastic=Elastic(probability=1, sigma=10), flips=False, turns=False)
STRONGEST = Augmentation(scale=0.9, rotation=180, elastic=Elastic(probability=1, sigma=50, grid=2))
BORDERS = TargetRule(
    ClassIds(2), "foreground", weighing=Weighing(partial(border_weights, sigma=2.0), border_context(10, 2.0))
)


class Recorded(PatchStream):
    """Keeps what was read."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.parts = []

    def read(self, draw, part=None):
        self.parts.append(part)
        return super().read(draw, part)


def stream_of(pairs, network, patch, rule=TargetRule(ClassIds(2)), cache=2**22):  # noqa: B008
    return Recorded(hold(open_pairs(pairs, network), cache), PatchLayout.plain(network, patch), rule, seed=(3,))


def smooth(*shape):
    """A volume that is smooth in the plane, so that interpolation is no question."""
    places = np.indices(shape)
    return (np.sin(places[-2] / 9) + np.cos(places[-1] / 11) + places[0] / 50 + 3).astype("f4")


def drawn(augment, stream, index):
    return augment(stream.layout.input, np.random.default_rng((9, index)))


def made(augment, stream, index, start=None):
    draw = stream.draw(index) if start is None else Draw(0, start)
    change = drawn(augment, stream, index)
    return stream.layout.cut(change(stream.read(draw, change.seen)))


@pytest.mark.parametrize("network", [SAME, VALID], ids=["same", "valid"])
def test_in_the_middle_of_a_volume_every_voxel_is_known(make_pair, network):
    volume = smooth(500, 520)
    stream = stream_of([make_pair(volume, (volume > 3).astype("u1"), "yx")], network, (128, 128))
    augment = Augment(USUAL, PLAIN)
    for index in range(40):
        patch = made(augment, stream, index, start=(180, 200))
        assert (patch.target != IGNORE).all()
        assert patch.target.shape == (128, 128)
        assert patch.image.shape == (1, *stream.layout.input)


@pytest.mark.parametrize(
    ("network", "shape", "patch"),
    [
        (SAME, (90, 100), (32, 48)),
        (VALID, (90, 100), (20, 28)),
        (SAME, (5, 70, 80), (32, 32)),
        (SAME.model_copy(update={"dims": 3}), (10, 44, 48), (6, 16, 16)),
        (VALID.model_copy(update={"dims": 3}), (10, 44, 48), (6, 16, 16)),
    ],
    ids=["same", "valid", "slices of a stack", "3-D", "3-D valid"],
)
def test_a_patch_is_what_its_map_shows_of_the_mirrored_volume(make_pair, network, shape, patch):
    numbers = range(int(np.prod(shape[:-2])))
    instances = np.stack([cells(shape[-2:], count=16, seed=i, thick=4) for i in numbers]).reshape(shape)
    axes, flat = "zyx"[-len(shape) :], network.dims == 2
    pair = make_pair(smooth(*shape), instances.astype("u2"), axes, axes)
    stream, augment = stream_of([pair], network, patch, BORDERS), Augment(USUAL, PLAIN)
    volumes, near = {}, 0
    for index in range(12):
        draw, change = stream.draw(index), drawn(augment, stream, index)
        if change.source is None:
            continue
        found = change(stream.read(draw, change.seen))
        lead = draw.start[: len(shape) - network.dims]
        if lead not in volumes:
            volumes[lead] = around(smooth(*shape)[lead], instances[lead])
        volume, target, weights = volumes[lead]
        first = np.add(draw.start[len(lead) :], WIDTH[-network.dims :]) - stream.layout.before
        source = change.source + first[-2:].astype("f4")[:, None, None]
        slices = () if flat else (slice(first[0], first[0] + stream.layout.input[0]),)
        ids = move_target(target[slices], source)
        assert (found.target == ids).mean() > 0.999  # a place half-way between two voxels may round to either
        np.testing.assert_allclose(found.image, move_image(volume[slices][None], source), atol=5e-3)
        np.testing.assert_allclose(found.weights, move_weights(weights[slices], source), atol=5e-2)
        near += (ids == IGNORE).any()
    assert near > 0  # some of them reached the volume's border


WIDTH = (20, 80, 80)
"""Voxels of the mirror image that the test looks at around a volume."""


def around(volume, instances):
    """A volume and what is to be learnt of it, with its mirror image around it, of which nothing is known."""
    width = [(w, w) for w in WIDTH[-instances.ndim :]]
    mirrored = np.pad(instances, width, mode="reflect")
    known = np.pad(np.ones(instances.shape, bool), width)
    target = np.where(known, mirrored > 0, IGNORE)
    return np.pad(volume, width, mode="reflect"), target, BORDERS.weighing.weigh(mirrored)


def test_near_the_border_only_what_lies_outside_of_the_volume_is_ignored(make_pair):
    volume = np.pad(np.zeros((46, 46), "u1"), 1, constant_values=1)
    stream = stream_of([make_pair(volume + 2.0, volume, "yx")], SAME, (48, 48))
    augment, ignored = Augment(Augmentation(scale=0.5, flips=False, turns=False), PLAIN), []
    for index in range(30):
        change = drawn(augment, stream, index)
        patch = change(stream.read(stream.draw(index), change.seen))
        expected = 0 if change.source is None else 1 - min(1, change.amounts.scale) ** 2
        ignored.append((patch.target == IGNORE).mean())
        assert ignored[-1] == pytest.approx(expected, abs=0.06)
    assert max(ignored) > 0.3


@pytest.mark.parametrize("network", [SAME, VALID], ids=["same", "valid"])
def test_no_target_ever_comes_from_what_is_measured_or_its_guard(tmp_path, network):
    random, marked = np.random.default_rng(0), 2
    place, rule = str(tmp_path / "0.zarr"), TargetRule(ClassIds(3))
    target = random.integers(0, 2, (160, 160)).astype("u1")
    save(Path(place), target, "yx", chunks=32)
    counted = take_census(open_pairs([Pair(image=place, target=place)], network), rule, (32, 32))
    split = Split(by="block", block=(40, 40))
    fold = split_pairs(counted, split, network, (32, 32), rule, seed=1)[0]
    learnt = fold.learnt[0]
    forbidden = learnt.pair.known.without.paint(Box.of_shape(target.shape))
    measured = fold.measured[0].pair.known.bits(Box.of_shape(target.shape))
    assert forbidden.sum() > measured.sum() > 0
    assert (forbidden | ~measured).all()
    spoilt = np.where(forbidden, marked, target)[None]
    pair = replace(learnt.pair, target=replace(learnt.pair.target, held=spoilt))
    stream = PatchStream([replace(learnt, pair=pair)], PatchLayout.plain(network, (32, 32)), rule, seed=(1,))
    batches = Batches(stream, PLAIN, count=300, size=20, change=Augment(STRONGEST, PLAIN))
    targets = torch.cat([batch.targets for batch in batches])
    assert set(targets.unique().tolist()) == {IGNORE, 0, 1}


@pytest.mark.parametrize(
    ("network", "shape", "patch"),
    [(SAME, (40, 50), (32, 32)), (SAME.model_copy(update={"dims": 3}), (9, 40, 50), (4, 16, 32))],
    ids=["2-D", "3-D"],
)
def test_the_strongest_change_reads_at_most_the_patch_again_on_each_side_of_the_plane(
    make_pair, network, shape, patch
):
    volume = smooth(*shape)
    axes = "zyx"[-len(shape) :]
    stream = stream_of([make_pair(volume, (volume > 3).astype("u1"), axes, axes)], network, patch)
    augment = Augment(STRONGEST, PLAIN)
    batches = Batches(stream, PLAIN, count=40, size=8, change=augment)
    for images, targets, _ in batches:
        assert images.shape[2:] == targets.shape[1:] == stream.layout.input
        assert torch.isfinite(images).all()
    limit = Box.of_shape(patch).grow((0,) * (len(patch) - 2) + patch[-2:], (0,) * (len(patch) - 2) + patch[-2:])
    assert all(limit.contains(part) for part in stream.parts)
    assert any(part.shape[-2:] == limit.shape[-2:] for part in stream.parts)


def test_what_moves_nothing_reads_nothing_more_and_keeps_every_bit(make_pair):
    volume = smooth(80, 90)
    pair = make_pair(volume, (volume > 3).astype("u1"), "yx")
    for network in (SAME, VALID):
        stream = stream_of([pair], network, (24, 24))
        still = Augment(Augmentation(flips=False, turns=False), PLAIN)
        plain, same = (list(Batches(stream, PLAIN, count=12, size=4, change=change)) for change in (None, still))
        for one, other in zip(plain, same, strict=True):
            assert torch.equal(one.images, other.images)
            assert torch.equal(one.targets, other.targets)
        tones = Augment(Augmentation(brightness=1, contrast=0.3, noise=0.2, blur=1), PLAIN)
        list(Batches(stream, PLAIN, count=12, size=4, change=tones))
        assert set(stream.parts) <= {None, Box.of_shape(stream.layout.input)}


def test_changed_patches_are_a_function_of_seed_and_index(make_pair):
    volume = smooth(80, 90)
    pair = make_pair(volume, (volume > 3).astype("u1"), "yx")
    everything = STRONGEST.model_copy(update={"noise": 0.1, "brightness": 0.2, "gamma": 0.2})

    def batches(cache, **options):
        stream = stream_of([pair], VALID, (20, 20), cache=cache)
        return list(Batches(stream, PLAIN, count=16, size=4, change=Augment(everything, PLAIN), **options))

    first, again, rest = batches(1), batches(2**22, loaders=3), batches(9000, first=8)
    for one, other in zip([*first, *first[2:]], [*again, *rest], strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.targets, other.targets)


def test_a_smaller_image_of_the_target_stays_aligned_with_it(make_pair):
    volume = smooth(300, 300)
    target = (volume > 6).astype("u1")
    stream = stream_of([make_pair(volume, target, "yx")], SAME, (64, 64))
    patches = [made(Augment(USUAL, PLAIN), stream, index) for index in range(30)]
    for patch in patches:
        sure = (patch.target != IGNORE) & (np.abs(patch.image[0] - 6) > 0.3)
        assert ((patch.image[0] > 6) == patch.target)[sure].all()
    assert sum((patch.target == 1).any() for patch in patches) > 10
