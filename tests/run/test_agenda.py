"""Which chunk is tried when, on a clock that the tests move."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.run.agenda import LONGEST_WAIT, SPREAD, Agenda
from pipeline.run.faults import Cause

KINDS = (Cause.STORE, Cause.MEMORY, Cause.INPUT, Cause.DEVICE, Cause.UNEXPECTED)


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def agenda(chunks, retries=2, chance=0.5):
    clock = Clock()
    return Agenda(np.arange(chunks), retries, clock=clock, chance=lambda: chance), clock


def test_chunks_come_in_order_and_each_once():
    found, _ = agenda(5)
    assert found.waiting() == 5
    assert [found.take(2), found.take(2), found.take(2), found.take(2)] == [[0, 1], [2, 3], [4], []]
    assert (found.waiting(), found.pause(), found.take_alone(), found.begin_last()) == (0, None, None, False)


def test_what_was_not_tried_comes_before_what_is_fresh():
    found, _ = agenda(6)
    found.put_back(found.take(3))
    assert found.waiting() == 6
    assert found.take(4) == [0, 1, 2, 3]


def test_a_store_is_given_time_twice_as_long_each_time():
    found, clock = agenda(1, retries=8)
    waits = []
    found.take(1)
    while (how := found.again(0, Cause.STORE)) is not None:
        waits.append(found.pause())
        assert how == f"trying again in {waits[-1]:.1f} s"
        assert found.waiting() == 0
        clock.now += waits[-1]
        assert found.take(found.waiting()) == [0]
    assert waits == [1, 2, 4, 8, 16, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
def test_waits_are_spread(chance):
    found, _ = agenda(1, chance=chance)
    found.again(0, Cause.STORE)
    assert found.pause() == pytest.approx(1 + SPREAD * (2 * chance - 1))


def test_who_waits_less_comes_first():
    found, clock = agenda(2, retries=3)
    found.take(2)
    found.again(0, Cause.STORE)
    clock.now += 1
    assert found.take(found.waiting()) == [0]
    found.again(0, Cause.STORE)
    found.again(1, Cause.STORE)
    clock.now += 1
    assert found.take(found.waiting()) == [1]
    assert found.pause() == pytest.approx(1)


@pytest.mark.parametrize("cause", [c for c in KINDS if c is not Cause.STORE])
def test_other_failures_get_one_more_try(cause):
    found, _ = agenda(1, retries=5)
    assert found.again(0, cause) is not None
    assert found.again(0, cause) is None


@pytest.mark.parametrize("cause", KINDS)
def test_without_retries_nothing_is_tried_again(cause):
    found, _ = agenda(1, retries=0)
    found.take(1)
    assert found.again(0, cause) is None
    assert (found.waiting(), found.pause(), found.take_alone(), found.begin_last()) == (0, None, None, False)


def test_what_failed_by_its_input_waits_until_the_last_are_begun():
    found, _ = agenda(3)
    found.take(1)
    assert found.again(0, Cause.INPUT) == "trying again after the others"
    assert found.take(9) == [1, 2]
    assert found.take(9) == []
    assert found.begin_last()
    assert found.take(9) == [0]
    assert not found.begin_last()


@pytest.mark.parametrize("cause", [Cause.MEMORY, Cause.DEVICE, Cause.UNEXPECTED])
def test_what_goes_alone_is_never_taken_with_others(cause):
    found, _ = agenda(2)
    found.take(1)
    assert found.again(0, cause) == "trying again alone"
    assert found.take(9) == [1]
    assert found.take_alone() == 0


def test_suspects_are_charged_with_nothing():
    found, _ = agenda(2, retries=1)
    found.suspect(found.take(2))
    assert [found.take_alone(), found.take_alone(), found.take_alone()] == [0, 1, None]
    assert found.again(0, Cause.MEMORY) is not None


def test_only_what_failed_and_would_be_tried_again_is_unfinished():
    found, _ = agenda(6)
    found.take(5)
    for chunk, cause in enumerate((Cause.STORE, Cause.INPUT, Cause.MEMORY)):
        found.again(chunk, cause)
    found.put_back([3])
    found.suspect([4])
    assert found.unfinished() == [0, 1, 2]


@given(st.integers(0, 3), st.lists(st.lists(st.sampled_from(KINDS), max_size=6), min_size=1, max_size=8))
def test_every_chunk_comes_to_an_end(retries, plans):
    """Law: whatever fails in whatever order, each chunk is done or failed after a bounded number of tries."""
    found, clock = agenda(len(plans), retries)
    left = [list(plan) for plan in plans]
    tries, ended = Counter(), Counter()
    for _ in range(1000):
        taken = found.take(2) if found.waiting() else []
        if not taken and (pause := found.pause()) is not None:
            clock.now += pause
            continue
        if not taken and not found.begin_last():
            alone = found.take_alone()
            if alone is None:
                break
            taken = [alone]
        for chunk in taken:
            tries[chunk] += 1
            if not left[chunk] or found.again(chunk, left[chunk].pop(0)) is None:
                ended[chunk] += 1
    assert ended == dict.fromkeys(range(len(plans)), 1)
    most = 1 + retries + (len(KINDS) - 1) * min(1, retries)
    assert max(tries.values()) <= most
