"""Training whose bits are the same from run to run, also on a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager

import torch

_VARIABLE, _WORKSPACE = "CUBLAS_WORKSPACE_CONFIG", ":4096:8"


@contextmanager
def deterministic_algorithms(
    wanted: bool = True, environment: MutableMapping[str, str] = os.environ
) -> Iterator[None]:
    """Have torch use deterministic algorithms alone for a while, and refuse operations that have none.

    An operation without one raises a RuntimeError that names it. cuBLAS needs a workspace of fixed size, which it
    takes from the environment when a process first uses it: enter this before anything has run on the GPU. One that
    the environment names already is left as it is. Everything is put back at the end.

    Args:
        wanted: whether to change anything.
        environment: variables of the process.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    searched = torch.backends.cudnn.benchmark
    named = environment.get(_VARIABLE)
    environment.setdefault(_VARIABLE, _WORKSPACE)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warned)
        torch.backends.cudnn.benchmark = searched
        if named is None:
            del environment[_VARIABLE]
