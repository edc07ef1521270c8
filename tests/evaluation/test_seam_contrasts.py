import math

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation.seams import (
    CELLS_LEAST,
    CELLS_MOST,
    Cells,
    Contrast,
    Finding,
    compare,
    contrasts,
    student,
)

ALL = np.ones((1, 2), np.bool_)


def planes(*values):
    """Gaps of two strips, fine and broad alike, at some planes."""
    return [np.tile(np.asarray(each, float), (2, 1, 1)) for each in values]


def test_a_border_is_ranked_among_its_neighbours():
    border, *nearby = planes([[5, 2]], [[1, 1]], [[2, 2]], [[3, 3]], [[9, 2]])
    found = compare(border, nearby, ALL)
    assert found.sign[0].tolist() == [[0.5, 0]]  # larger than three, smaller than one; larger and smaller than one
    assert found.nearby[1].tolist() == [[3.75, 2]]
    assert found.totals.tolist() == [[2, 0.5], [2, 0.5]]


def test_strips_without_any_gap_and_those_that_are_masked_say_nothing():
    border, *nearby = planes([[0, 4]], [[0, 1]], [[0, 1]])
    assert compare(border, nearby, ALL).totals.tolist() == [[1, 1], [1, 1]]
    assert compare(border, nearby, np.array([[True, False]])).totals.tolist() == [[0, 0], [0, 0]]


def test_student_is_the_t_test():
    sums = np.random.default_rng(0).normal(0.3, 1, 40)
    z, p = student(sums)
    other = stats.ttest_1samp(sums, 0, alternative="greater")
    assert p == pytest.approx(other.pvalue, rel=1e-9)
    assert z == pytest.approx(sums.sum() / math.sqrt((sums**2).sum()))


@pytest.mark.parametrize(
    ("sums", "z", "p"),
    [
        ([], 0, 1),
        ([3.0], 0, 1),
        ([0.0] * 9, 0, 1),
        ([2.0] * 20, math.sqrt(20), 2**-20),
        ([-2.0] * 20, -math.sqrt(20), 1),
    ],
)
def test_student_of_few_or_equal_numbers(sums, z, p):
    assert student(np.array(sums)) == pytest.approx((z, p))


def test_cells_grow_with_the_volume():
    assert Cells((100, 100)).edge == 64
    assert Cells((100_000, 80_000)).edge > 64
    assert Cells((10**6, 10**6, 10**6)).sums.nbytes < 2 * 3 * 2 * 2 * 8 * CELLS_MOST + 1


def filled(signs, axis=0, kind=1):
    """Cells of which each has two strips with a sign."""
    cells = Cells((64, 64 * len(signs)))
    for number, sign in enumerate(signs):
        border, *nearby = planes([[1 + sign, 1 + sign]], [[1, 1]])
        places = [np.array([[10]]), 64 * number + np.array([[0, 16]])]
        cells.add(kind, axis, places, compare(border, nearby, ALL))
    return cells


def test_a_contrast_says_what_was_summed():
    found = contrasts(filled([0.5, 0.5, -0.5] * 8), "yx")
    assert {(each.borders, each.axis, each.scale) for each in found} == {
        ("tile", "y", "fine"),
        ("tile", "y", "broad"),
    }
    first = found[0]
    assert (first.strips, first.cells, first.ratio) == (48, 24, pytest.approx(1 + 1 / 6))
    assert first.share == pytest.approx(2 / 3)
    assert 0 < first.p < 0.1


def test_few_cells_are_no_contrast():
    assert contrasts(filled([0.5] * (CELLS_LEAST - 1)), "yx") == []
    assert len(contrasts(filled([0.5] * CELLS_LEAST), "yx")) == 2


def contrast(p, share):
    return Contrast("tile", "y", "fine", 100, 20, share, None, 3.0, p)


@pytest.mark.parametrize(
    ("p", "share", "flagged"),
    [(1e-6, 0.6, True), (1e-6, 0.515, False), (4e-4, 0.9, False), (2e-4, 0.9, True)],
)
def test_a_run_is_flagged_where_a_seam_is_clear_and_not_slight(p, share, flagged):
    found = Finding((contrast(0.5, 0.5), contrast(p, share), contrast(0.9, 0.4)), (), 0.52)
    said = found.to_json()
    assert said["flagged"] is flagged
    assert len(said["flagged_by"]) == flagged
    assert [each["p"] for each in said["contrasts"]] == [p, 0.5, 0.9]


def test_nothing_measured_is_not_flagged():
    said = Finding((), (("tile", "z", "no room"),), 0.5).to_json()
    assert said["flagged"] is False
    assert said["unmeasured"] == [{"borders": "tile", "axis": "z", "reason": "no room"}]
