"""How large units are, and how many are in flight."""

import pytest

from pipeline.run import pace as module
from pipeline.run.pace import UNIT_SECONDS, Pace
from pipeline.run.records import DONE, Done, Record


class FakeClient:
    def __init__(self, *threads):
        self.threads = threads

    def nthreads(self):
        return dict(enumerate(self.threads))


def record(seconds):
    return Record(0, DONE, 1, Done(seconds=(0.0, 0.0, seconds, 0.0)))


@pytest.mark.parametrize(
    ("threads", "callers", "expected"), [((3, 3), 1, 12), ((3, 3), 4, 3), ((3,), 4, 2), ((), 1, 2)]
)
def test_twice_what_the_workers_have_in_hand_is_in_flight(threads, callers, expected):
    assert Pace(FakeClient(*threads), most=256).window(callers) == expected


@pytest.mark.parametrize(
    ("seconds", "left", "expected"),
    [(1.0, 10_000, int(UNIT_SECONDS)), (60.0, 10_000, 1), (0.0, 10_000, 256), (0.001, 24, 2), (0.001, 1, 1)],
)
def test_units_hold_some_seconds_of_work_and_leave_enough_for_all(seconds, left, expected):
    pace = Pace(FakeClient(3, 3), most=256)
    pace.note((record(seconds), record(seconds)))
    assert pace.unit(left) == expected


def test_before_anything_is_known_units_are_single_chunks():
    assert Pace(FakeClient(3), most=256).unit(10_000) == 1


def test_the_cluster_is_asked_again_once_in_a_while(monkeypatch):
    client, now = FakeClient(1), [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    pace = Pace(client, most=256)
    client.threads = (4, 4)
    assert pace.slots() == 1
    now[0] += 11
    assert pace.slots() == 8
