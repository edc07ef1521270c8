"""Who a process is among those that train together, and what is refused before they begin."""

import pytest

from pipeline.errors import InputError
from pipeline.training.ranks import ALONE, Ranks, check_devices, found_ranks

NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@pytest.fixture
def said(monkeypatch):
    def say(*values):
        for name, value in zip(NAMES, values, strict=True):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    say(None, None, None, None)
    return say


def test_a_process_is_alone_where_nothing_is_said(said):
    assert found_ranks() == ALONE
    assert (ALONE.is_first, ALONE.machines) == (True, 1)
    assert ALONE.mean(3.0, 4.0) == (3.0, 4.0)
    assert ALONE.first(lambda: "found") == "found"


def test_what_torchrun_says(said):
    said("5", "8", "1", "4")
    ranks = found_ranks()
    assert ranks == Ranks(5, 8, 1, 4)
    assert (ranks.is_first, ranks.machines) == (False, 2)


def test_a_cluster_that_starts_one_process_a_machine_says_less(said):
    said("1", "3", None, None)
    assert found_ranks() == Ranks(1, 3)
    assert found_ranks().machines == 3


@pytest.mark.parametrize(
    "values", [("2", "2", "0", "1"), ("0", "3", "0", "2"), ("0", "2", "2", "2"), ("x", "2", "0", "2")]
)
def test_numbers_that_do_not_fit_together_are_refused(said, values):
    said(*values)
    with pytest.raises(InputError, match=f"RANK={values[0]}.*start them with torchrun"):
        found_ranks()


def test_devices_that_contradict_the_processes_are_refused():
    with pytest.raises(InputError, match="devices 3: this training was started as 2 processes"):
        check_devices("cpu", 3, Ranks(0, 4, 0, 2))
    check_devices("cpu", 2, Ranks(0, 4, 0, 2))
    check_devices("cpu", 3, ALONE)


def test_more_gpus_than_there_are_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_devices("cuda", 2, ALONE)
    with pytest.raises(InputError, match="devices 3: torch finds 2 GPUs"):
        check_devices("cuda", 3, ALONE)
