from pathlib import Path

import numpy as np
import pytest
from volumes import channels_first, create_filled, save, small_spec

from pipeline.config import Pair
from pipeline.errors import InputError, VolumeError
from pipeline.geometry import Box
from pipeline.model.architecture import UNetArchitecture
from pipeline.training.pairs import Source, hold, open_pairs
from pipeline.training.targets import ClassIds
from pipeline.volume import Space, open_volume, publish

FLAT = UNetArchitecture(in_channels=3, classes=2, depth=2, width=4, padding="same")
RGB = np.arange(3 * 20 * 24).reshape(3, 20, 24).astype("u2")


def test_a_pair_opens_and_its_name_says_which_it_is(make_pair):
    first, second = make_pair(RGB), make_pair(RGB, weight=3)
    opened = open_pairs([first, second], FLAT)
    assert [pair.weight for pair in opened] == [1, 3]
    assert opened[0].shape == (20, 24)
    assert opened[1].name == f"pairs.1 (image {second.image}, target {second.target})"
    assert opened[0].image.held is None


@pytest.mark.parametrize(
    ("image", "target", "axes", "target_axes", "network", "message"),
    [
        (RGB[:2], None, "cyx", None, {}, r"has 2 channel\(s\).*in_channels is 3; make it 2"),
        (RGB, None, "cyx", None, {"dims": 3}, r"spatial axes yx, but the network is 3-D.*dims to 2"),
        (RGB, RGB[0, 1:], "cyx", "yx", {}, r"has \(20, 24\) voxels along yx, the target \(19, 24\) along yx"),
        (RGB, RGB[:1], "cyx", "zyx", {}, r"voxels along yx, the target \(1, 20, 24\) along zyx"),
        (RGB, RGB[0].astype("f4"), "cyx", "yx", {}, r"target is of float32; class ids are whole numbers"),
        (RGB, RGB[:2], "cyx", "cyx", {}, r"target has 2 channels"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make_pair, image, target, axes, target_axes, network, message):
    pair = make_pair(image, target, axes, target_axes)
    with pytest.raises(InputError, match=message) as caught:
        open_pairs([pair], FLAT.model_copy(update=network), entry="validation")
    assert str(caught.value).startswith(f"validation.0 (image {pair.image}")


def test_a_volume_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(VolumeError, match="no such file"):
        open_pairs([Pair(image=str(tmp_path / "no.zarr"), target="no.zarr")], FLAT)


def test_a_missing_stored_chunk_is_refused_before_it_is_learnt_from(make_pair):
    pair = make_pair(RGB)
    (Path(pair.target) / "c" / "0" / "1").unlink()
    with pytest.raises(InputError, match=r"pairs\.0.*target0\.zarr lacks 1 stored chunk\(s\) \(c/0/1\)"):
        open_pairs([pair], FLAT)


@pytest.mark.parametrize(
    ("size", "unit", "fits"),
    [
        ((0.5, 0.5), "micrometer", True),
        ((500.0, 500.0), "nanometer", True),
        ((9.0, 9.0), None, True),
        ((1.0, 0.5), "micrometer", False),
        ((0.5, 0.5), "nanometer", False),
    ],
)
def test_voxel_sizes_must_agree_where_both_have_a_unit(tmp_path, size, unit, fits):
    places = [Space("yx", (0.5, 0.5), (0.0, 0.0), "micrometer"), Space("yx", size, (0.0, 0.0), unit)]
    for name, space in zip("it", places, strict=True):
        data = np.zeros((16, 16), "u1")
        create_filled(tmp_path / name, small_spec((16, 16), space=space, shard=(16, 16)), data)
        publish(tmp_path / name, name=name, axes="yx", levels=[("0", space)], classes=None)
    pair = Pair(image=str(tmp_path / "i"), target=str(tmp_path / "t"))
    network = FLAT.model_copy(update={"in_channels": 1})
    if fits:
        assert len(open_pairs([pair], network)) == 1
    else:
        with pytest.raises(
            InputError, match=r"a voxel of the image is \(0\.5, 0\.5\) micrometer, one of the target"
        ):
            open_pairs([pair], network)


def test_volumes_are_held_as_long_as_all_of_them_fit(make_pair):
    opened = open_pairs([make_pair(RGB), make_pair(RGB)], FLAT)
    image, target = opened[0].image.nbytes, opened[0].target.nbytes
    assert (image, target) == (3 * 20 * 24 * 2, 20 * 24)
    cases = [(1, "----"), (2 * target, "-t-t"), (image, "i---"), (image + 2 * target, "it-t"), (2**20, "itit")]
    for limit, expected in cases:
        held = hold(opened, limit)
        sources = [source for pair in held for source in (pair.image, pair.target)]
        assert "".join(n if s.held is not None else "-" for n, s in zip("itit", sources, strict=True)) == expected
        assert sum(s.held.nbytes for s in sources if s.held is not None) <= limit


@pytest.mark.parametrize("axes", ["cyx", "yxc", "zyx", "czyx"])
def test_what_is_held_shows_the_same_as_what_is_read(tmp_path, axes):
    data = np.random.default_rng(0).integers(0, 99, [{"c": 2, "z": 3, "y": 9, "x": 11}[a] for a in axes])
    save(tmp_path / "v", data, axes)
    lazy = Source(open_volume(tmp_path / "v"))
    held = Source(lazy.volume, lazy.volume.read(lazy.volume.box))
    np.testing.assert_array_equal(held.held, channels_first(data, axes))
    box = lazy.volume.box.grow([4] * len(lazy.volume.shape), [7] * len(lazy.volume.shape))
    for shown in (box, lazy.volume.box, Box((1,) * box.ndim, (3,) * box.ndim)):
        np.testing.assert_array_equal(held.shown(shown), lazy.shown(shown))


def test_samples_are_all_of_a_small_volume_and_evenly_spaced_in_a_large_one(make_pair):
    source = open_pairs([make_pair(RGB)], FLAT)[0].image
    seen = np.zeros(source.volume.shape, int)
    for box in source.sampled_boxes():
        seen[box.slices] += 1
    assert (seen == 1).all()
    assert [str(box) for box in source.sampled_boxes(2)] == ["0:16,16:24", "16:20,16:24"]
    assert [str(box) for box in source.sampled_boxes(1)] == ["16:20,0:16"]


@pytest.mark.parametrize(("value", "ignore"), [(2, None), (7, 255), (2, 3), (-1, None)])
def test_values_that_are_no_class_ids_are_refused(value, ignore):
    target = np.zeros((20, 24), "i2")
    target[19, 23] = value
    if ignore is not None:
        target[0, 0] = ignore
    with pytest.raises(InputError, match=rf"here: .*holds the value {value}, but there are 2 classes \(0 to 1\)"):
        ClassIds(2, ignore).check(target, "here")
    ClassIds(8 if value > 0 else 2, value if value < 0 else ignore).check(target, "here")


@pytest.mark.parametrize("dtype", ["?", "u1", "i8", "u8"])
def test_class_ids_of_any_whole_dtype_pass(dtype):
    ClassIds(2).check(np.array([0, 1]).astype(dtype), "here")
    ClassIds(2, ignore=1).check(np.ones(3, dtype), "here")
