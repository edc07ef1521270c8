"""Kill workers and drivers all the time: nothing is lost, nothing is done twice, and the bytes come out the same."""

from collections import Counter

import pytest
from chaos import IN_FLIGHT, WORKERS, Killer, Light, done_lines

from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

SHAPE, CHUNK = (24 * 16, 24 * 16), (16, 16)
CHUNKS = 24 * 24
WORKER_KILLS, DRIVER_KILLS = 25, 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("chaos")
    light(root, "undisturbed").make_input()
    return root


@pytest.fixture(scope="module")
def undisturbed(place):
    """Root digest of a run that nobody kills."""
    found = Killer(light(place, "undisturbed"), workers=0, drivers=0, seed=0).run(120)
    assert (found.workers, found.drivers, found.begun) == (0, 0, CHUNKS)
    return found.root


def light(root, name):
    return Light(str(root / "in.zarr"), str(root / f"{name}.zarr"), str(root / f"{name}.counted"), SHAPE, CHUNK)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_or_done_twice_under_sigkill(place, undisturbed, seed):
    run = light(place, f"killed{seed}")
    found = Killer(run, workers=WORKER_KILLS, drivers=DRIVER_KILLS, seed=seed).run(180)
    assert found.workers == WORKER_KILLS
    assert found.drivers == DRIVER_KILLS
    assert found.root == undisturbed
    assert verify(run.output).ok
    assert status(run.output)["state"] == "sealed"
    assert found.orphans == [], "processes outlived their driver"

    lines = Counter(done_lines(run.output))
    assert sorted(lines) == list(range(CHUNKS)), "every chunk is done"
    assert set(lines.values()) == {1}, "what was recorded as done has not been done again"
    in_flight = found.workers * IN_FLIGHT + found.drivers * WORKERS * IN_FLIGHT
    assert found.begun - CHUNKS <= in_flight, "only what was in flight has been computed again"
