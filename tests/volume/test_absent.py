"""What a published image leaves out on purpose reads as background; what is lost stays an error."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from volumes import create_filled, small_spec

from pipeline.errors import MissingChunkError, VolumeError
from pipeline.geometry import Box, Grid
from pipeline.volume import ShardWriter, Space, build_pyramid, create_level, open_volume, plan_pyramid, publish
from pipeline.volume.absent import Absent, absent_above, absent_shards, read_absent

axis = st.tuples(st.integers(1, 20), st.integers(1, 9))


@st.composite
def absents(draw):
    axes = draw(st.lists(axis, min_size=2, max_size=3))
    grid = Grid(tuple(n for n, _ in axes), tuple(c for _, c in axes))
    chance = np.random.default_rng(draw(st.integers(0, 99)))
    return Absent(chance.random(grid.counts) < draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])), (grid,))


@given(absents())
def test_the_attribute_says_the_same(absent):
    said = json.loads(json.dumps({"overtile": {"absent": absent.to_attribute()}}))
    found = read_absent(said)
    assert found.levels == absent.levels
    assert np.array_equal(found.bits, absent.bits)
    assert said["overtile"]["absent"]["count"] == absent.bits.sum()


@settings(max_examples=60)
@given(absents(), st.lists(st.tuples(st.integers(0, 4), st.integers(1, 7)), min_size=3, max_size=3))
def test_a_coarser_shard_is_absent_where_all_below_it_is(absent, halvings):
    finest = absent.levels[0]
    halvings = halvings[: len(finest.shape)]
    lengths = tuple(-(-n // 2**h) for n, (h, _) in zip(finest.shape, halvings, strict=True))
    coarse = Grid(lengths, tuple(c for _, c in halvings))
    found = absent_above(absent.bits, finest, coarse)
    voxels = np.zeros(finest.shape, bool)
    for number in np.flatnonzero(~absent.bits):
        voxels[finest.core(int(number)).slices] = True
    for number in range(len(coarse)):
        core = coarse.core(number)
        below = tuple(slice(a * 2**h, b * 2**h) for (a, b), (h, _) in zip(core, halvings, strict=True))
        assert found[coarse.position(number)] == (not voxels[below].any())


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"levels": [], "bits": ""},
        {"levels": [{"shape": [4, 4], "shard": [2]}], "bits": ""},
        {"levels": [{"shape": [4, 0], "shard": [2, 2]}], "bits": ""},
        {"levels": [{"shape": [4, 4], "shard": [2, 2]}], "bits": "eJ"},
        {"levels": [{"shape": [4, 4], "shard": [2, 2]}], "bits": "????"},
        {"levels": [{"shape": [400, 400], "shard": [2, 2]}], "bits": "eJwDAAAAAAE="},
        "no",
    ],
)
def test_a_damaged_attribute_is_refused(said):
    with pytest.raises(VolumeError, match=r"overtile\.absent, which says what a mask left out, is damaged"):
        read_absent({"overtile": {"absent": said}})


@pytest.mark.parametrize("attributes", [{}, {"overtile": 3}, {"overtile": {"state": "sealed"}}])
def test_most_images_leave_nothing_out(attributes):
    assert read_absent(attributes) is None


def masked(path, shape=(600, 1100), *, channels=2, chunk=(256, 128), shard=(128, 64)):
    """Store an image without the chunks of its left part; returns what it should read as, and the layout."""
    spec = small_spec(shape, channels=channels, shard=shard, space=Space.unscaled("yx"))
    grid = Grid(shape, chunk)
    dense = np.random.default_rng(1).integers(1, 200, spec.stored_shape).astype("u1")
    skipped = np.array([grid.core(n).stop[1] <= 512 and grid.position(n)[0] != 1 for n in range(len(grid))])
    writer = ShardWriter(create_level(path, "0", spec))
    for number in range(len(grid)):
        box = spec.stored_box(grid.core(number))
        if skipped[number]:
            dense[box.slices] = 0
        else:
            writer.write(box, dense[box.slices])
    absent = absent_shards(skipped, grid, [spec, *(level.spec for level in plan_pyramid(spec))])
    return dense, spec, absent


def published(path, spec, absent):
    levels = build_pyramid(path, spec, method="mean", threads=2, progress=None, absent=absent)
    publish(
        path,
        name="masked",
        axes=spec.axes,
        levels=levels,
        classes=None,
        more={"overtile": {"absent": absent.to_attribute()}},
    )


def test_the_pyramid_of_a_masked_image_is_that_of_the_dense_one(tmp_path):
    dense, spec, absent = masked(tmp_path / "masked.zarr")
    published(tmp_path / "masked.zarr", spec, absent)
    create_filled(tmp_path / "dense.zarr", spec, dense)
    levels = build_pyramid(tmp_path / "dense.zarr", spec, method="mean", threads=2, progress=None)
    publish(tmp_path / "dense.zarr", name="dense", axes=spec.axes, levels=levels, classes=None)
    for level in range(len(levels)):
        found, expected = (open_volume(tmp_path / n, level=level) for n in ("masked.zarr", "dense.zarr"))
        assert np.array_equal(found.read(found.box), expected.read(expected.box))
        stored = {p.name for p in (tmp_path / "masked.zarr" / str(level) / "c" / "0").glob("*/*")}
        assert found.missing(found.box) == []
        assert stored
        assert absent.of_level(level).sum() == len(expected.stored_keys(expected.box)) - len(
            list((tmp_path / "masked.zarr" / str(level) / "c").glob("*/*/*"))
        )
    assert absent.of_level(1).any()


def test_all_of_the_coarser_levels_is_told_as_progress(tmp_path):
    _, spec, absent = masked(tmp_path / "a.zarr")
    told = []
    build_pyramid(
        tmp_path / "a.zarr", spec, method="mean", threads=1, progress=lambda *n: told.append(n), absent=absent
    )
    assert told[-1][0] == told[-1][1]


def test_what_is_lost_stays_an_error_and_what_is_absent_is_never_asked_for(tmp_path):
    path = tmp_path / "a.zarr"
    _, spec, absent = masked(path)
    published(path, spec, absent)
    volume = open_volume(path)
    assert not volume.read(Box((0, 0), (200, 300))).any()
    foreign = path / "0/c/0/0/0"
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_bytes(b"never read")
    assert not volume.read(Box((0, 0), (200, 300))).any()
    (path / "0/c/0/0/16").unlink()
    with pytest.raises(MissingChunkError, match=r"1 stored chunk\(s\) .* are missing \(c/0/0/16\)"):
        open_volume(path).read(Box((0, 0), (10, 1100)))
    assert open_volume(path).missing(volume.box) == ["c/0/0/16"]


def test_an_attribute_of_another_array_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    _, spec, absent = masked(path)
    other = Absent(absent.bits[:, :3], (Grid((600, 192), (128, 64)),))
    publish(path, name="a", axes=spec.axes, levels=[("0", spec.space)], classes=None,
            more={"overtile": {"absent": other.to_attribute()}})  # fmt: skip
    with pytest.raises(VolumeError, match="the image was changed after it was published"):
        open_volume(path)
