"""Blended tiles: they cover every voxel, and which ones do is a matter of the voxel's place alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import POINTWISE, BlendLayout, Box, Reach

SAME = Reach(stride=4, minimum=4)
VALID = Reach(stride=2, halo=(5, 5), offset=5, shrink=10, minimum=12)

axes = st.one_of(
    st.tuples(st.just(SAME), st.integers(2, 5).map(lambda k: 4 * k), st.integers(0, 3).map(lambda k: 4 * k)),
    st.tuples(st.just(VALID), st.integers(2, 9).map(lambda k: 2 * k), st.integers(0, 1).map(lambda k: 2 * k)),
    st.tuples(st.just(POINTWISE), st.just(1), st.just(0)),
).filter(lambda axis: axis[2] < axis[1])
places = st.tuples(st.integers(0, 50), st.integers(1, 40))


def build(found):
    return BlendLayout(tuple(r for r, *_ in found), tuple(t for _, t, _ in found), tuple(o for *_, o in found))


@given(st.lists(st.tuples(axes, places), min_size=1, max_size=2))
def test_tiles_cover_the_core_inside_the_read_box(drawn):
    layout = build([axis for axis, _ in drawn])
    core = Box(tuple(a for _, (a, _) in drawn), tuple(a + n for _, (a, n) in drawn))
    seen = np.zeros(core.shape, dtype=int)
    read_box, tiles = layout.read_box(core), list(layout.tiles(core))
    assert len(tiles) == layout.count(core)
    for tile in tiles:
        assert tile.core.shape == layout.tile
        assert tile.input.shape == layout.input_shape
        assert read_box.contains(tile.input)
        shared = tile.core.intersect(core)
        assert not shared.is_empty
        seen[shared.relative_to(core.start).slices] += 1
    assert seen.min() >= 1
    assert all(
        b - a <= layout.longest_read(axis, n)
        for axis, ((a, b), n) in enumerate(zip(read_box, core.shape, strict=True))
    )


@given(axes, places, st.integers(0, 60), st.integers(1, 60))
def test_the_tiles_over_a_voxel_do_not_depend_on_the_core(axis, place, start, length):
    layout = build([axis])
    voxel = place[0]
    alone = list(layout.tile_cores(Box((voxel,), (voxel + 1,))))
    core = Box((max(0, voxel - start),), (voxel + length,))
    among = [tile for tile in layout.tile_cores(core) if tile.start[0] <= voxel < tile.stop[0]]
    assert among == alone


def test_the_lattice_begins_an_overlap_before_voxel_0():
    layout = BlendLayout((SAME,), (16,), (8,))
    assert [t.start for t in layout.tile_cores(Box((0,), (20,)))] == [(-8,), (0,), (8,), (16,)]
    assert layout.read_box(Box((0,), (20,))) == Box((-8,), (32,))
    assert layout.along(0) == layout
    assert layout.usual_tiles(0, 17) == 4.0


@pytest.mark.parametrize("weighting", ["gaussian", "mean"])
def test_weights_are_symmetric_and_never_zero(weighting):
    weights = BlendLayout((SAME, VALID), (16, 12), (8, 4)).weights(weighting)
    assert weights.shape == (16, 12)
    assert weights.dtype == np.float32
    assert weights.min() > 0
    assert np.array_equal(weights, weights[::-1, ::-1])
    if weighting == "mean":
        assert (weights == 1).all()
    else:
        assert weights[8, 6] == weights.max() > 100 * weights.min()


@given(axes, places)
def test_borders_are_where_a_voxel_lies_under_other_tiles_than_its_neighbour(axis, place):
    layout = build([axis])
    start, length = place
    core = Box((start,), (start + length,))
    under = [
        frozenset(tile.start for tile in layout.tile_cores(Box((voxel,), (voxel + 1,))))
        for voxel in range(start, start + length)
    ]
    changes = [start + k for k in range(1, length) if under[k] != under[k - 1]]
    assert layout.borders(core) == (tuple(changes),)
