"""Why a chunk failed, told by the error that came out of its work."""

import errno

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import (
    ENVIRONMENT,
    ChunkError,
    MissingChunkError,
    NonFiniteError,
    StoreError,
    VolumeError,
)
from pipeline.run.faults import Cause, chain, classify


def named(name, module, base=Exception):
    return type(name, (base,), {"__module__": module})


CASES = [
    (OSError(errno.ENOSPC, "No space left on device"), Cause.ENVIRONMENT),
    (PermissionError(errno.EACCES, "the store refuses"), Cause.ENVIRONMENT),
    (PermissionError("no number"), Cause.ENVIRONMENT),
    (named("UnauthenticatedError", "obstore.exceptions")("who?"), Cause.ENVIRONMENT),
    (StoreError("503"), Cause.STORE),
    (ConnectionResetError(errno.ECONNRESET, "reset"), Cause.STORE),
    (TimeoutError("60 s"), Cause.STORE),
    (named("GenericError", "obstore.exceptions")("503"), Cause.STORE),
    (MemoryError(), Cause.MEMORY),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), Cause.MEMORY),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), Cause.MEMORY),
    (
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory: you tried"),
        Cause.MEMORY,
    ),
    (RuntimeError("CUDA error: out of memory"), Cause.MEMORY),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), Cause.MEMORY),
    (NonFiniteError("NaN"), Cause.INPUT),
    (MissingChunkError("c/0/0"), Cause.INPUT),
    (ChunkError("do not decode"), Cause.INPUT),
    (RuntimeError("CUDA error: an illegal memory access was encountered"), Cause.DEVICE),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), Cause.DEVICE),
    (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), Cause.UNEXPECTED),
    (ValueError("CUDA error is only a word here"), Cause.UNEXPECTED),
    (FileNotFoundError(errno.ENOENT, "No such file"), Cause.UNEXPECTED),
    (named("NotFoundError", "obstore.exceptions")("no such key"), Cause.UNEXPECTED),
    (named("OutOfMemoryError", "elsewhere")("not torch's"), Cause.UNEXPECTED),
    (VolumeError("closed"), Cause.UNEXPECTED),
]


@pytest.mark.parametrize(("error", "cause"), CASES, ids=[f"{type(e).__name__}-{c}" for e, c in CASES])
def test_causes(error, cause):
    assert classify(error) is cause


@pytest.mark.parametrize("number", sorted(ENVIRONMENT))
def test_every_error_of_the_machine_is_one(number):
    assert classify(OSError(number, "told by the kernel")) is Cause.ENVIRONMENT


@pytest.mark.parametrize(
    "allocate", [lambda: torch.empty(1 << 55), lambda: np.empty(1 << 55)], ids=["torch", "numpy"]
)
def test_what_torch_and_numpy_really_raise_without_memory(allocate):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        allocate()
    assert classify(caught.value) is Cause.MEMORY


def of_a_codec():
    try:
        raise OSError(errno.EIO, "Input/output error")
    except OSError as error:
        raise ValueError("codec failed") from error


def while_handling():
    try:
        raise ConnectionError("reset")
    except ConnectionError:
        {}["missing"]


def hidden():
    try:
        raise MemoryError
    except MemoryError:
        raise ValueError("another matter") from None


@pytest.mark.parametrize(
    ("fail", "error", "cause"),
    [
        (of_a_codec, ValueError, Cause.ENVIRONMENT),
        (while_handling, KeyError, Cause.STORE),
        (hidden, ValueError, Cause.UNEXPECTED),
    ],
)
def test_an_error_that_says_nothing_is_judged_by_what_it_came_from(fail, error, cause):
    with pytest.raises(error) as caught:
        fail()
    assert classify(caught.value) is cause


def test_the_outermost_error_that_says_something_counts():
    inner, outer = MemoryError(), StoreError("503")
    middle = ValueError("says nothing")
    middle.__cause__, outer.__cause__ = inner, middle
    assert classify(outer) is Cause.STORE
    assert classify(middle) is Cause.MEMORY


@given(st.lists(st.integers(0, 4), min_size=5, max_size=5))
def test_a_circle_of_errors_has_an_end(causes):
    errors = [ValueError(str(i)) for i in range(5)]
    for error, cause in zip(errors, causes, strict=True):
        error.__cause__ = errors[cause]
    found = list(chain(errors[0]))
    assert len({id(e) for e in found}) == len(found) <= 5
    assert classify(errors[0]) is Cause.UNEXPECTED
