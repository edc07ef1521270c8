import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import POINTWISE, Box, Reach, TileLayout

VALID5 = Reach(stride=16, halo=(92, 92), offset=92, shrink=184, minimum=188)
SAME5 = Reach(stride=16, halo=(94, 94), offset=0, shrink=0, minimum=16)
ONE_SIDED = Reach(stride=1, halo=(0, 6), offset=0, shrink=6, minimum=7)


@pytest.mark.parametrize(
    ("reach", "tile", "before", "length", "crop"),
    [
        (VALID5, 384, 92, 572, 0),  # the paper's own tile: 388 voxels come out, 384 are on the lattice
        (VALID5, 16, 92, 204, 0),
        (SAME5, 384, 96, 576, 96),
        (SAME5, 16, 96, 208, 96),
        (ONE_SIDED, 10, 0, 16, 0),
        (POINTWISE, 7, 0, 7, 0),
    ],
)
def test_tile_inputs(reach, tile, before, length, crop):
    assert reach.before == before
    assert reach.input_length(tile) == length
    assert reach.crop == crop
    assert reach.is_legal(length)
    assert length - reach.shrink >= reach.crop + tile
    assert reach.after(tile) >= reach.halo[1]


def test_illegal_lengths():
    assert not VALID5.is_legal(571)
    assert not VALID5.is_legal(172)
    assert VALID5.is_legal(188)


reaches = st.sampled_from([VALID5, SAME5, ONE_SIDED, POINTWISE, Reach(stride=2, halo=(3, 4), minimum=2)])


@given(
    st.lists(st.tuples(reaches, st.integers(1, 4), st.integers(0, 90), st.integers(1, 70)), min_size=1, max_size=2)
)
def test_tiles_cover_the_core_on_one_lattice_inside_the_read_box(axes):
    layout = TileLayout(tuple(r for r, *_ in axes), tuple(r.stride * k for r, k, *_ in axes))
    core = Box(tuple(a for *_, a, _ in axes), tuple(a + n for *_, a, n in axes))
    read_box = layout.read_box(core)
    seen = np.zeros(core.shape, dtype=bool)
    hull = None
    tiles = list(layout.tiles(core))
    assert len(tiles) == layout.count(core)
    for tile in tiles:
        assert tile.core.shape == layout.tile
        assert tile.input.shape == layout.input_shape
        assert all(a % s == 0 for a, s in zip(tile.core.start, layout.strides, strict=True))
        assert read_box.contains(tile.input)
        hull = (
            tile.input
            if hull is None
            else Box(tuple(map(min, hull.start, tile.input.start)), tuple(map(max, hull.stop, tile.input.stop)))
        )
        seen[tile.core.intersect(core).relative_to(core.start).slices] = True
    assert seen.all()
    assert hull == read_box


def test_last_tile_moves_back_where_there_is_room():
    layout = TileLayout((Reach(stride=4, minimum=4),), (8,))
    assert [t.core.start for t in layout.tiles(Box((0,), (20,)))] == [(0,), (8,), (12,)]
    assert [t.core.start for t in layout.tiles(Box((16,), (20,)))] == [(16,)]
    assert layout.read_box(Box((16,), (20,))) == Box((16,), (24,))


@given(
    st.lists(st.tuples(reaches, st.integers(1, 4), st.integers(0, 90), st.integers(1, 70)), min_size=1, max_size=2)
)
def test_borders_are_where_neighbours_are_of_different_tiles(axes):
    layout = TileLayout(tuple(r for r, *_ in axes), tuple(r.stride * k for r, k, *_ in axes))
    core = Box(tuple(a for *_, a, _ in axes), tuple(a + n for *_, a, n in axes))
    owner = np.full(core.shape, -1)
    for number, tile in enumerate(layout.tiles(core)):
        owner[tile.core.intersect(core).relative_to(core.start).slices] = number  # as tiles are pasted
    for axis, start in enumerate(core.start):
        others = tuple(other for other in range(core.ndim) if other != axis)
        changes = np.flatnonzero((np.diff(owner, axis=axis) != 0).any(axis=others))
        assert layout.borders(core)[axis] == tuple(start + 1 + int(k) for k in changes)
