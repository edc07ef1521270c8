import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import save

from pipeline.config.training import Pair, Split
from pipeline.errors import InputError
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.model.unet import UNet
from pipeline.training.census import take_census
from pipeline.training.normalisation import measure_normalisation
from pipeline.training.pairs import open_pairs
from pipeline.training.patches import PatchLayout, PatchStream
from pipeline.training.splits import seen_by, split_pairs
from pipeline.training.targets import IGNORE, ClassIds, TargetRule

SAME = UNetArchitecture(classes=2, depth=2, width=4, padding="same")
RULE = TargetRule(ClassIds(3))


def noted(text):
    raise AssertionError(f"nothing should be noted, but: {text}")


def ignored(text):
    return None


@pytest.fixture
def count(tmp_path):
    """Write pairs of targets, which are their own images, and take their census."""

    def take(*targets, patch=(8, 8), rule=RULE, **options):
        pairs = []
        for i, target in enumerate(targets):
            place = str(tmp_path / f"{i}.zarr")
            save(Path(place), target, "zyx"[-target.ndim :], chunks=32)
            pairs.append(Pair(image=place, target=place, **options))
        return take_census(open_pairs(pairs), rule, patch)

    return take


def classes_of(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 3, shape).astype("u1")


def bits(side, number, shape):
    """What a side uses of a pair."""
    for each in side:
        if each.pair.number == number:
            return each.pair.known.bits(Box.of_shape(shape))
    return np.zeros(shape, bool)


def folds_of(counted, patch=(8, 8), network=SAME, seed=0, note=ignored, **split):
    return split_pairs(counted, Split(**split), network, patch, RULE, seed=seed, note=note)


def grown(mask, by):
    """Voxels within a number of voxels of a mask along every axis that is grown."""
    found = np.zeros(np.add(mask.shape, 2 * np.array(by)), bool)
    for offset in np.ndindex(*(2 * b + 1 for b in by)):
        found[tuple(slice(o, o + n) for o, n in zip(offset, mask.shape, strict=True))] |= mask
    return found[tuple(slice(b, b + n) for b, n in zip(by, mask.shape, strict=True))]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 3),
    st.sampled_from([0, 2, 3]),
    st.sampled_from([None, 0, 5]),
    st.sampled_from([None, (8, 16), (13, 9)]),
    st.booleans(),
)
def test_blocks_are_apart_by_the_guard_and_each_is_measured_once(
    tmp_path_factory, seed, folds, guard, block, boxes
):
    target, folder = classes_of(60, 90, seed=seed), tmp_path_factory.mktemp("blocks")
    np.save(folder / "t.npy", target)
    options = {"boxes": ("4:33,7:60", "30:60,50:90")} if boxes else {}
    pair = Pair(image=str(folder / "t.npy"), target=str(folder / "t.npy"), **options)
    counted = take_census(open_pairs([pair]), RULE, (8, 8))
    found = folds_of(counted, by="block", folds=folds, guard=guard, block=block, seed=seed)
    assert len(found) == max(1, folds)
    labelled = counted[0].pair.known.bits(Box.of_shape(target.shape))
    measured = np.zeros(target.shape, int)
    width = seen_by(SAME) if guard is None else guard
    for fold in found:
        held, learnt = (bits(side, 0, target.shape) for side in (fold.measured, fold.learnt))
        measured += held
        assert held.any()
        assert learnt.any()
        assert not (held & ~labelled).any()
        assert not (learnt & ~labelled).any()
        assert not (grown(held, (width, width)) & learnt).any()
        # Of all that is labelled, only the guard around the held-out blocks is lost.
        near = np.zeros(target.shape, bool)
        for text in fold.record["measured"][0]["boxes"]:
            sides = [tuple(map(int, side.split(":"))) for side in text.split(",")]
            near[tuple(slice(max(0, a - width - 16), b + width + 16) for a, b in sides)] = True
        assert not (labelled & ~held & ~learnt & ~near).any()
        for side, used in (("learnt", learnt), ("measured", held)):
            assert fold.record["voxels"][side] == used.sum()
            assert fold.record["classes"][side] == np.bincount(target[used], minlength=3).tolist()
        assert sum(fold.record["voxels"].values()) == labelled.sum()
        assert json.loads(json.dumps(fold.record)) == fold.record
    if folds:
        np.testing.assert_array_equal(measured, labelled)


def test_a_share_is_held_out_and_the_seed_decides_which(count):
    counted = count(classes_of(128, 128))
    records = [folds_of(counted, by="block", seed=seed)[0].record for seed in (0, 0, 1, 2)]
    assert records[0] == records[1]
    assert len({json.dumps(record["measured"]) for record in records}) > 1
    for record in records:
        assert record["voxels"]["measured"] / 128**2 == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize("folds", [0, 3, 7])
def test_volumes_are_held_out_whole(count, folds):
    counted = count(*(classes_of(16 + i, 20, seed=i) for i in range(7)))
    found = folds_of(counted, by="volume", folds=folds, note=noted)
    seen = []
    for fold in found:
        held, learnt = ({each.pair.number for each in side} for side in (fold.measured, fold.learnt))
        assert held | learnt == set(range(7))
        assert not held & learnt
        seen += sorted(held)
        assert fold.record["by"] == "volume"
    assert folds == 0 or sorted(seen) == list(range(7))


def test_slices_are_held_out_as_a_run_with_a_guard_if_one_is_asked_for(count):
    stack = classes_of(20, 16, 16)
    counted = count(stack)
    for guard, lost in ((None, 0), (2, 2)):
        fold = folds_of(counted, by="slice", guard=guard, note=noted)[0]
        held, learnt = (bits(side, 0, stack.shape).any(axis=(1, 2)) for side in (fold.measured, fold.learnt))
        places = np.flatnonzero(held)
        assert len(places) == 4
        assert not (grown(held, (lost,)) & learnt).any()
        assert (held | learnt).sum() >= 20 - 4 * lost
    parts = folds_of(counted, by="slice", folds=4, note=noted)
    measured = sum(bits(fold.measured, 0, stack.shape).astype(int) for fold in parts)
    assert (measured == 1).all()


def test_a_solid_network_keeps_its_guard_between_slices(count):
    stack = classes_of(64, 8, 8)
    network = SAME.model_copy(update={"dims": 3})
    counted = count(stack, patch=(8, 8, 8))
    fold = folds_of(counted, patch=(8, 8, 8), network=network, by="slice")[0]
    held, learnt = (bits(side, 0, stack.shape).any(axis=(1, 2)) for side in (fold.measured, fold.learnt))
    assert not (grown(held, (seen_by(network),)) & learnt).any()
    assert fold.record["guard"] == [seen_by(network), 0, 0]


@pytest.mark.parametrize(
    ("shapes", "patch", "by", "block"),
    [
        ([(20, 20)] * 5, (8, 8), "volume", None),
        ([(20, 20)] * 4, (8, 8), "block", [16, 16]),
        ([(6, 20, 20)] * 2, (8, 8), "slice", None),
        ([(3, 64, 64)], (8, 8), "block", [16, 16]),
        ([(40, 40, 40)], (8, 8, 8), "block", [16, 16, 16]),
        ([(48, 48)], (16, 16), "block", [16, 16]),
        ([(48, 48)], (24, 24), "block", [12, 12]),
    ],
)
def test_auto_takes_what_there_are_five_of(count, shapes, patch, by, block):
    network = SAME.model_copy(update={"dims": len(patch)})
    counted = count(*(classes_of(*shape, seed=i) for i, shape in enumerate(shapes)), patch=patch)
    record = folds_of(counted, patch=patch, network=network, guard=1)[0].record
    assert (record["by"], record["block"]) == (by, block)


def test_blocks_of_a_stack_reach_through_all_slices_for_a_flat_network(count):
    stack = classes_of(3, 64, 64)
    fold = folds_of(count(stack), by="block")[0]
    for box in fold.measured[0].pair.known.kept.boxes:
        assert (box.start[0], box.stop[0]) == (0, 3)


def test_each_side_holds_every_class_where_that_is_possible(count):
    target = np.zeros((128, 128), "u1")
    target[5:12, 5:12] = target[70:77, 100:108] = 1
    target[100:104, 20:24] = target[9:12, 90:95] = 2
    counted = count(target)
    for seed in range(5):
        classes = folds_of(counted, by="block", block=(16, 16), guard=2, seed=seed, note=noted)[0].record[
            "classes"
        ]
        assert all(classes["learnt"])
        assert all(classes["measured"])


def test_a_class_that_a_side_lacks_is_told(count):
    target, notes = np.zeros((64, 64), "u1"), []
    target[0, 0], target[32] = 1, 2
    folds_of(count(target), by="block", guard=0, note=notes.append)
    assert len(notes) == 1
    assert "holds no voxel of class 1" in notes[0]


def test_none_measures_nothing(count):
    counted = count(classes_of(20, 20))
    fold = folds_of(counted, by="none")[0]
    assert (fold.learnt, fold.measured) == (counted, [])
    assert fold.record["voxels"] == {"learnt": 400, "measured": 0, "unused": 0}


@pytest.mark.parametrize(
    ("shapes", "split", "message"),
    [
        ([(20, 20)], {"by": "volume"}, "only 1 volume with labels, so one side would be empty"),
        ([(1, 20, 20)], {"by": "slice"}, "only 1 slice with labels"),
        ([(20, 20)], {"by": "slice"}, "the images have no z axis"),
        ([(20, 20)], {"by": "block", "block": (32, 32)}, "only 1 block with labels"),
        ([(20, 20)], {"by": "block", "block": (32,)}, r"split.block \(32,\) has not the 2 axes"),
        (
            [(20, 20)],
            {"by": "block", "guard": 30},
            "split by block: no labelled voxel is left to learn from, with a guard of 30",
        ),
        ([(20, 20)] * 3, {"by": "volume", "folds": 4}, r"split\.folds 4: there are 3 units.*ask for 2 to 3"),
        ([(20, 20)] * 3, {"by": "volume", "folds": 1}, r"split\.folds 1: there are 3 units"),
    ],
)
def test_splits_with_an_empty_side_are_refused(count, shapes, split, message):
    counted = count(*(classes_of(*shape, seed=i) for i, shape in enumerate(shapes)))
    with pytest.raises(InputError, match=message):
        folds_of(counted, **split)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("depth", [2, 3])
def test_what_is_learnt_depends_on_no_voxel_that_is_measured(count, padding, depth):
    """The gradient of every counted output voxel, with respect to the image, is zero wherever it is measured."""
    network = UNetArchitecture(classes=3, depth=depth, width=4, padding=padding)
    target = classes_of(160, 160)
    fold = split_pairs(count(target), Split(by="block", block=(40, 40)), network, (32, 32), RULE, seed=1)[0]
    held = bits(fold.measured, 0, target.shape)
    layout = PatchLayout.plain(network, (32, 32) if padding == "valid" else (64, 64))
    stream = PatchStream(fold.learnt, layout, RULE, seed=(0,))
    torch.manual_seed(0)
    model, near = UNet(network).double(), 0
    for index in range(40):
        patch, draw = stream[index], stream.draw(index)
        start = [s - b for s, b in zip(draw.start, layout.before, strict=True)]
        seen = np.pad(held, 64, mode="reflect")[
            tuple(slice(a + 64, a + 64 + n) for a, n in zip(start, layout.input, strict=True))
        ]
        if not seen.any():
            continue
        near += 1
        image = torch.from_numpy(patch.image.astype("f8"))[None].requires_grad_()
        known = torch.from_numpy(layout.cut(patch).target != IGNORE)
        model(image)[0][:, *layout.kept][:, known].square().sum().backward()
        assert image.grad[0, 0][torch.from_numpy(seen)].abs().max() == 0
        assert image.grad.abs().max() > 0
    assert near > 0


def test_the_normalisation_knows_nothing_of_what_is_held_out(count):
    target = classes_of(64, 64)
    counted = count(target)
    fold = folds_of(counted, by="block", guard=3)[0]
    used = ~fold.learnt[0].pair.known.without.paint(Box.of_shape(target.shape))
    found = measure_normalisation([each.pair for each in fold.learnt], noted)
    np.testing.assert_allclose(found.mean, target[used].mean(), rtol=1e-12)
    np.testing.assert_allclose(found.std, target[used].std(), rtol=1e-12)
