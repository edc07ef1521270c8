import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.evaluation.distances import DistanceHistogram

DISTANCES = st.lists(st.sampled_from([0.0, 1.0, 2.0**0.5, 2.0, 3.0, np.inf]), max_size=30)


def histogram(distances):
    return DistanceHistogram.of(np.array(distances), unit=1e-9, bound=2.0)


def test_by_hand():
    found = histogram([2.0, 0.0, 1.0, 1.0, 2.5, np.inf])
    assert found.steps.tolist() == [0, 1_000_000_000, 2_000_000_000]
    assert found.counts.tolist() == [1, 2, 1]
    assert (found.beyond, found.total) == (2, 6)
    assert [found.within(d) for d in (0, 0.5, 1, 1.9, 2)] == [1, 1, 3, 3, 4]
    assert [found.percentile(p) for p in (0, 20, 50, 60, 61, 100)] == [0, 1, 1.5, 2, None, None]


@given(DISTANCES, DISTANCES, st.floats(0, 100))
def test_sums_and_percentiles(one, other, percent):
    both = histogram(one) + histogram(other)
    assert both == histogram(one + other)
    assert hash(both) == hash(histogram(other + one))
    assert DistanceHistogram.from_dict(json.loads(json.dumps(both.to_dict()))) == both
    assert both + DistanceHistogram.zero(1e-9, 2.0) == both
    near = [d for d in one + other if d <= 2]
    if near:
        assert histogram(near).percentile(percent) == pytest.approx(np.percentile(near, percent), abs=1e-8)


def test_the_rounding_of_roots_does_not_tell_distances_apart():
    found = histogram([np.sqrt(2), np.nextafter(np.sqrt(2), 2), 2.0, np.nextafter(2.0, 3)])
    assert found.counts.tolist() == [2, 2]


def test_what_does_not_fit_is_refused():
    zero = DistanceHistogram.zero(1e-9, 2.0)
    with pytest.raises(InputError, match=r"up to 2\.0 and up to 3\.0"):
        _ = zero + DistanceHistogram.zero(1e-9, 3.0)
    for steps, counts, message in (
        ([1], [1, 2], "one whole count"),
        ([1.5], [1], "one whole count"),
        ([2, 1], [1, 1], "ascend"),
        ([1], [-1], "less than 0 times"),
    ):
        with pytest.raises(InputError, match=message):
            DistanceHistogram(1e-9, 2.0, np.array(steps), np.array(counts))
    with pytest.raises(InputError, match="needs 'unit'"):
        DistanceHistogram.from_dict({})
    assert zero != 3
