from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.geometry import Turn
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.pairs import hold, open_pairs
from pipeline.training.patches import Patch, PatchLayout, PatchStream
from pipeline.training.targets import IGNORE, ClassIds

VALID = UNetArchitecture(classes=2, depth=3, width=4)
SAME = UNetArchitecture(classes=2, depth=3, width=4, padding="same")
ANY = ClassIds(2)


def numbered(*shape):
    return np.arange(np.prod(shape)).reshape(shape).astype("i4")


def stream_of(pairs, architecture, patch, *, layout=PatchLayout.plain, ids=ANY, seed=0, cache=2**20):
    opened = hold(open_pairs(pairs, architecture), cache)
    return PatchStream(opened, layout(architecture, patch), ids, seed=(seed, 0))


def pad_all(volume, width, mode):
    return np.pad(volume, width, mode=mode, **({"constant_values": -1} if mode == "constant" else {}))


@pytest.mark.parametrize("cache", [1, 2**20], ids=["read", "held"])
@pytest.mark.parametrize(
    ("architecture", "shape", "patch"),
    [
        (VALID, (50, 61), (20, 20)),
        (VALID, (50, 61), (13, 18)),
        (VALID, (21, 23), (21, 21)),
        (SAME, (50, 61), (16, 16)),
        (SAME, (50, 61), (8, 24)),
        (VALID.model_copy(update={"dims": 3, "depth": 2}), (9, 16, 17), (5, 6, 6)),
    ],
)
def test_a_patch_and_what_is_seen_around_it_are_slices_of_the_mirrored_volume(
    make_pair, architecture, shape, patch, cache
):
    volume = numbered(*shape)
    axes = "zyx"[-len(shape) :]
    patches = stream_of([make_pair(volume, volume % 2, axes, axes)], architecture, patch, cache=cache)
    layout, width = patches.layout, 70
    mirrored, known = (pad_all(volume, width, mode) for mode in ("reflect", "constant"))
    for index in range(12):
        found, draw = patches[index], patches.draw(index)
        sides = list(zip(draw.start, layout.before, patch, layout.after, strict=True))
        seen = tuple(slice(width + s - b, width + s + p + a) for s, b, p, a in sides)
        np.testing.assert_array_equal(found.image, mirrored[seen][np.newaxis])
        expected = np.where(known[seen] < 0, IGNORE, known[seen] % 2)
        np.testing.assert_array_equal(found.target, expected)
        core = tuple(slice(s, s + p) for s, _, p, _ in sides)
        np.testing.assert_array_equal(layout.cut(found).target, volume[core] % 2)


@pytest.mark.parametrize("architecture", [VALID, SAME])
def test_a_patch_is_cut_to_what_the_output_is_compared_with_and_only_once(architecture):
    layout = PatchLayout.plain(architecture, (16, 16))
    image = np.arange(np.prod(layout.input)).reshape(layout.input)
    whole = Patch(image[np.newaxis], image, image / 2)
    cut = layout.cut(whole)
    place = tuple(slice(b, b + 16) for b in layout.before)
    np.testing.assert_array_equal(cut.target, image[place])
    np.testing.assert_array_equal(cut.weights, image[place] / 2)
    np.testing.assert_array_equal(cut.image, image[np.newaxis])
    assert layout.cut(cut).target.shape == (16, 16)


@pytest.mark.parametrize("patch", [(20, 20), (1, 7), (64, 30)])
def test_the_output_of_an_unpadded_network_is_cropped_to_the_patch(patch):
    layout = PatchLayout.plain(VALID, patch)
    for length, before, after, kept in zip(patch, layout.before, layout.after, layout.kept, strict=True):
        output = np.arange(VALID.output_length(before + length + after))
        assert output[kept].size == length
        assert before - kept.start == VALID.reach().offset


def test_an_exact_layout_has_real_context_around_a_padded_network_too():
    assert PatchLayout.exact(SAME, (16, 16)).before == (SAME.reach().before,) * 2
    assert PatchLayout.plain(SAME, (16, 16)).before == (0, 0)
    assert PatchLayout.plain(VALID, (16, 16)) == PatchLayout.exact(VALID, (16, 16))


@pytest.mark.parametrize("patch", [(30, 32), (32, 2)])
def test_a_padded_network_refuses_illegal_patches_and_names_the_nearest(patch):
    with pytest.raises(InputError, match=rf"patch {patch[0]},{patch[1]}: .*legal are 4 \+ k \* 4, the nearest"):
        PatchLayout.plain(SAME, patch)


@pytest.mark.parametrize(
    ("architecture", "shape", "patch", "largest"),
    [
        (VALID, (40, 15), (16, 16), "the largest patch is 40,15"),
        (SAME, (30, 42), (32, 32), "the largest patch is 28,40"),
        (SAME, (3, 42), (32, 32), "needs at least 4 along each axis: make it less deep"),
    ],
)
def test_a_volume_smaller_than_the_patch_is_refused_by_name(make_pair, architecture, shape, patch, largest):
    volume = numbered(*shape)
    with pytest.raises(InputError, match=rf"pairs\.0 .*{largest}"):
        stream_of([make_pair(volume, volume % 2, "yx")], architecture, patch)


def test_a_class_id_out_of_range_is_refused_before_the_first_draw(make_pair):
    volume = numbered(16, 16)
    with pytest.raises(InputError, match=r"pairs\.0.*voxels 0:16,0:16: the target holds the value 255"):
        stream_of([make_pair(volume, volume, "yx")], SAME, (16, 16), ids=ClassIds(200))


def test_an_image_that_holds_nan_is_refused_where_it_is_drawn(make_pair):
    image = np.zeros((16, 16), "f4")
    image[3, 4] = np.nan
    pair = make_pair(image, np.arange(256).reshape(16, 16).astype("u1") % 2, "yx")
    with pytest.raises(InputError, match=r"pairs\.0.*NaN or infinity in voxels 0:16,0:16"):
        stream_of([pair], SAME, (16, 16), cache=1)[0]
    with pytest.raises(InputError, match=r"pairs\.0.*NaN or infinity"):
        stream_of([pair], SAME, (16, 16))


def test_without_a_known_voxel_there_is_nothing_to_draw(make_pair):
    volume = numbered(16, 16)
    with pytest.raises(InputError, match="no voxel of any target is known"):
        stream_of([make_pair(volume, volume * 0 + 9, "yx")], SAME, (16, 16), ids=ClassIds(2, ignore=9))


def test_the_stream_is_a_function_of_seed_and_index(make_pair):
    volume = numbered(50, 61)
    pair = make_pair(volume, volume % 2, "yx")
    forwards, backwards = (stream_of([pair], SAME, (16, 16), seed=3) for _ in range(2))
    drawn = [forwards.draw(i) for i in range(20)]
    assert drawn == [backwards.draw(i) for i in reversed(range(20))][::-1]
    assert len(set(drawn)) > 15
    assert drawn != [stream_of([pair], SAME, (16, 16), seed=4).draw(i) for i in range(20)]


def test_pairs_are_drawn_by_weight_and_known_voxels_alike(make_pair):
    volume = numbered(18, 40)
    pairs = [make_pair(volume, volume % 2, "yx"), make_pair(volume, volume % 2, "yx", weight=3)]
    patches = stream_of(pairs, SAME, (16, 16))
    drawn = [patches.draw(i) for i in range(2000)]
    assert Counter(draw.pair for draw in drawn)[1] == pytest.approx(1500, abs=60)
    rows = Counter(draw.start[0] for draw in drawn)
    assert sorted(rows) == [0, 1, 2]
    # Of 18 rows, the outermost two lie in one place of a patch alone, the next two in two, all others in all three.
    for row, count in zip((0, 1, 2), (37 / 6, 34 / 6, 37 / 6), strict=True):
        assert rows[row] == pytest.approx(2000 * count / 18, abs=70)
    assert {draw.start[1] for draw in drawn} == set(range(25))


def test_a_flat_network_sees_slices_of_a_stack(make_pair):
    stack = numbered(2, 5, 30, 31)
    patches = stream_of(
        [make_pair(stack, stack[0] % 2, "czyx")], SAME.model_copy(update={"in_channels": 2}), (16, 16)
    )
    slices = set()
    for index in range(30):
        image, target = patches[index].image, patches[index].target
        assert image.shape == (2, 16, 16)
        np.testing.assert_array_equal(image[0] % 2, target)
        np.testing.assert_array_equal(image[1], image[0] + stack[0].size)
        assert np.unique(image[0] // (30 * 31)).size == 1
        slices.add(patches.draw(index).start[0])
    assert slices == set(range(5))


@given(exchange=st.booleans(), flips=st.tuples(st.booleans(), st.booleans()), channels=st.integers(1, 3))
def test_turns_are_flips_and_right_angle_turns_and_keep_every_voxel(exchange, flips, channels):
    patch = np.arange(channels * 9).reshape(channels, 3, 3)
    turned = Turn(exchange, flips).apply(patch)
    known = [np.rot90(p, k, (1, 2)) for p in (patch, patch[:, ::-1]) for k in range(4)]
    assert sum(np.array_equal(turned, other) for other in known) == 1


def test_the_eight_turns_differ():
    patch = np.arange(4).reshape(1, 2, 2)
    turns = [Turn(e, (y, x)) for e in (False, True) for y in (False, True) for x in (False, True)]
    assert len({turn.apply(patch).tobytes() for turn in turns}) == 8
