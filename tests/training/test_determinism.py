"""Deterministic mode, and that it is put back."""

from contextlib import suppress

import pytest
import torch

from pipeline.training.determinism import deterministic_algorithms


def modes() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
    )


def test_deterministic_mode_is_entered_and_left():
    before, environment = modes(), {}
    with suppress(ZeroDivisionError), deterministic_algorithms(environment=environment):
        assert modes() == (True, False, False)
        assert environment == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        raise ZeroDivisionError
    assert modes() == before
    assert environment == {}


def test_what_was_set_before_is_kept():
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    try:
        with deterministic_algorithms(environment=environment):
            assert modes() == (True, False, False)
        assert modes() == (True, True, True)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
    assert environment == {"CUBLAS_WORKSPACE_CONFIG": ":16:8"}


def test_nothing_is_changed_where_it_is_not_wanted():
    before, environment = modes(), {}
    with deterministic_algorithms(False, environment):
        assert modes() == before
        assert environment == {}


def test_an_operation_without_a_deterministic_algorithm_is_refused():
    with deterministic_algorithms(environment={}), pytest.raises(RuntimeError, match=r"put_.*deterministic"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)
