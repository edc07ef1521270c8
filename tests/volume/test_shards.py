import threading

import numpy as np
import pytest
from volumes import small_spec

from pipeline.geometry import Grid
from pipeline.volume import Tally, create_level, write_shards


class Counter:
    """Makes pieces and counts how many of them exist at once."""

    def __init__(self, spec, data, fail_at=None):
        self.spec, self.data, self.fail_at = spec, data, fail_at
        self.asked, self.finished, self.most = 0, 0, 0
        self.lock = threading.Lock()

    def pieces(self):
        for number, core in enumerate(Grid(self.spec.shape, self.spec.shard).cores()):
            with self.lock:
                self.asked += 1
                self.most = max(self.most, self.asked - self.finished)
            yield core, lambda number=number, core=core: self.make(number, core)

    def make(self, number, core):
        if number == self.fail_at:
            raise ValueError(f"piece {number}")
        return self.data[core.slices]

    def wrote(self, count):
        with self.lock:
            self.finished += 1


@pytest.fixture
def counter(tmp_path):
    spec = small_spec((30, 50), shard=(4, 4))
    return Counter(spec, np.arange(1500, dtype="u1").reshape(30, 50))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_all_is_written_with_a_bounded_number_in_flight(tmp_path, counter, threads):
    array = create_level(tmp_path / "a", "0", counter.spec)
    write_shards(array, counter.pieces(), threads=threads, wrote=counter.wrote)
    np.testing.assert_array_equal(array[...], counter.data)
    assert counter.finished == counter.asked == 8 * 13
    assert counter.most <= threads + 3


def test_the_first_error_ends_it(tmp_path, counter):
    array = create_level(tmp_path / "a", "0", counter.spec)
    counter.fail_at = 10
    with pytest.raises(ValueError, match="piece 10"):
        write_shards(array, counter.pieces(), threads=2, wrote=counter.wrote)
    assert counter.finished == 10
    assert counter.asked <= 10 + 5


def test_at_least_one_thread(tmp_path, counter):
    with pytest.raises(AssertionError):
        write_shards(create_level(tmp_path / "a", "0", counter.spec), [], threads=0, wrote=counter.wrote)


def test_a_tally_tells_how_far_it_is():
    told = []
    tally = Tally(10, lambda *now: told.append(now))
    tally.add(3)
    tally.add(7)
    assert told == [(3, 10), (10, 10)]
    silent = Tally(10, None)
    silent.add(4)
    assert silent.done == 4
