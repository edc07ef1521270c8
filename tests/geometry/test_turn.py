"""Turns: all eight of a square, all four flips of a plane, sixteen of a stack, each another one."""

import numpy as np
import pytest

from pipeline.geometry import Turn


@pytest.mark.parametrize(
    ("dims", "exchange", "count"), [(2, False, 4), (2, True, 8), (3, False, 8), (3, True, 16)]
)
def test_every_turn_is_another_one_and_the_first_is_plain(dims, exchange, count):
    turns = list(Turn.every(dims, exchange=exchange))
    voxels = np.arange(3**dims).reshape(1, *(3,) * dims)
    assert len({turn.apply(voxels).tobytes() for turn in turns}) == len(turns) == count
    assert [turn.is_plain for turn in turns] == [True] + [False] * (count - 1)
    assert np.array_equal(turns[0].apply(voxels), voxels)


def test_flipped_axes_count_from_the_last():
    assert Turn(False, (True, False, True)).flipped == (-3, -1)
