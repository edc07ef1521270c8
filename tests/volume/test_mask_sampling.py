"""Which voxel of a mask a voxel of an image lies in: one rule, in whole numbers, whatever the boxes."""

import itertools
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.geometry import Box, Grid
from pipeline.volume.mask.sampling import Sampling, lies_in


@st.composite
def cases(draw):
    image = tuple(draw(st.lists(st.integers(1, 13), min_size=2, max_size=3)))
    axes = draw(st.integers(2, len(image)))
    mask = tuple(draw(st.integers(1, n)) for n in image[-axes:])
    start = tuple(draw(st.integers(0, n - 1)) for n in image)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, image, strict=True))
    bits = np.array(draw(st.lists(st.booleans(), min_size=math.prod(mask), max_size=math.prod(mask))))
    return Sampling(image, mask), Box(start, stop), bits.reshape(mask)


def test_the_picture_of_the_docstring():
    assert lies_in(np.arange(7), 7, 3).tolist() == [0, 0, 1, 1, 1, 2, 2]


def whole(sampling, bits):
    places = [[math.floor((i + 0.5) * m / n) for i in range(n)] for n, m in sampling.axes]
    return bits[np.ix_(*places)]


@given(cases())
def test_a_box_is_the_part_of_the_whole(case):
    sampling, box, bits = case
    below = sampling.below(box)
    expected = whole(sampling, bits)[box.slices[-bits.ndim :]]
    assert np.array_equal(sampling.spread(bits[below.slices], box), expected)


@given(cases())
def test_above_is_all_that_lies_in_a_box(case):
    sampling, box, _ = case
    below = sampling.below(box)
    above = sampling.above(below)
    for (n, m), (a, b), (first, stop) in zip(sampling.axes, below, above, strict=True):
        assert [i for i in range(n) if a <= lies_in(i, n, m) < b] == list(range(first, stop))


@given(cases(), st.integers(0, 9))
def test_gathered_is_any_of_what_lies_in_a_voxel(case, seed):
    sampling, box, bits = case
    plane = tuple(n for n, _ in sampling.axes)
    voxels = np.random.default_rng(seed).random(plane) < 0.1
    part = Box(box.start[-bits.ndim :], box.stop[-bits.ndim :])
    expected = np.zeros_like(bits)
    for voxel in itertools.product(*(range(a, b) for a, b in part)):
        place = tuple(lies_in(i, n, m) for i, (n, m) in zip(voxel, sampling.axes, strict=True))
        expected[place] |= voxels[voxel]
    assert np.array_equal(sampling.gather(voxels[part.slices], part), expected[sampling.below(box).slices])


@settings(max_examples=150)
@given(cases(), st.lists(st.integers(1, 5), min_size=6, max_size=6))
def test_a_chunk_has_foreground_if_one_voxel_of_its_core_has(case, lengths):
    sampling, region, bits = case
    grid = Grid(region.shape, tuple(lengths[: region.ndim]))
    flags = np.zeros(grid.counts[-bits.ndim :], bool)
    for part in Grid(bits.shape, tuple(lengths[3 : 3 + bits.ndim])).cores():
        chunks, found = sampling.any_of(bits[part.slices], part, grid=grid, origin=region.start)
        flags[chunks.slices] |= found
    full = whole(sampling, bits)
    for chunk in range(len(grid)):
        core = grid.core(chunk).shift(region.start)
        assert flags[grid.position(chunk)[-bits.ndim :]] == full[core.slices[-bits.ndim :]].any()
