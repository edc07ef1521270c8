import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.geometry import Box, Grid

axes = st.tuples(st.integers(1, 23), st.integers(1, 9))
grids = st.lists(axes, min_size=1, max_size=4).map(
    lambda pairs: Grid(tuple(n for n, _ in pairs), tuple(c for _, c in pairs))
)


@given(grids)
def test_cores_tile_the_box_exactly(grid):
    seen = np.zeros(grid.shape, dtype=np.uint8)
    for core in grid.cores():
        seen[core.slices] += 1
    assert (seen == 1).all()
    assert len(list(grid.cores())) == len(grid)


@given(grids)
def test_number_and_position_are_inverse(grid):
    for chunk in range(len(grid)):
        assert grid.number(grid.position(chunk)) == chunk


@given(grids, st.data())
def test_overlapping_finds_exactly_the_chunks_that_share_a_voxel(grid, data):
    start = tuple(data.draw(st.integers(-5, n + 5)) for n in grid.shape)
    stop = tuple(a + data.draw(st.integers(0, 12)) for a in start)
    box = Box(start, stop)
    expected = [grid.position(i) for i in range(len(grid)) if not grid.core(i).intersect(box).is_empty]
    assert list(grid.overlapping(box)) == expected


@given(grids, st.integers(1, 40))
def test_regions_partition_the_chunks_evenly(grid, count):
    regions = grid.regions(count)
    assert list(itertools.chain(*regions)) == list(range(len(grid)))
    assert len(regions) == min(count, len(grid))
    assert max(map(len, regions)) - min(map(len, regions)) <= 1


def test_the_picture_in_the_docstring():
    grid = Grid((10, 7), (4, 4))
    assert grid.counts == (3, 2)
    assert [str(core) for core in grid.cores()] == [
        "0:4,0:4",
        "0:4,4:7",
        "4:8,0:4",
        "4:8,4:7",
        "8:10,0:4",
        "8:10,4:7",
    ]


def test_a_million_chunks_need_no_list():
    grid = Grid((1_000_000 * 64, 64), (64, 64))
    assert len(grid) == 1_000_000
    assert grid.core(999_999).start == (999_999 * 64, 0)
