import pytest

from flows.rates import pace, short, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.2512, "0.251"),
        (12.34, "12.3"),
        (999.4, "999"),
        (1234, "1.23 k"),
        (45.6e6, "45.6 M"),
        (2e9, "2 G"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (41.6, "42 s"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (86400 * 3 + 4 * 3600, "3 d 4 h")],
)
def test_times_have_two_units(seconds, text):
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("worked", "left", "seconds", "voxels", "parts"),
    [
        (0, 100, 60, 0, []),
        (50, 50, 1, 0, []),
        (50, 100, 10, 0, ["5 chunks/s", "20 s left"]),
        (50, 0, 10, 2**20, ["5 chunks/s, 5.24 M voxel/s"]),
    ],
)
def test_a_pace_is_told_when_it_is_known(worked, left, seconds, voxels, parts):
    assert pace(worked, left, seconds, unit="chunks", voxels=voxels) == parts
