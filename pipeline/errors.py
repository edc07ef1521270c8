"""The exceptions that Overtile raises on purpose, and the exit code that each one means.

::

    OvertileError                  1  something went wrong that the user can read about
    ├── InputError                 2  refused before any work: usage, bad input, unsafe, wrong run
    │   ├── VolumeError               a volume cannot be opened, read or created as asked
    │   ├── ModelError                a checkpoint or architecture that cannot be used
    │   ├── PlanError                 the job cannot be planned (chunk, tile, memory, channels ...)
    │   └── RunMismatchError          the output belongs to another run
    │       └── RunBusyError          another process is writing to it
    ├── ChunkError                    one chunk failed; the others go on
    │   ├── MissingChunkError         a stored input chunk is not there
    │   ├── InputDamageError          stored bytes of the input do not decode
    │   └── NonFiniteError            NaN or infinity: in the input, or from the network
    ├── FailedChunksError          3  the run finished, but some chunks failed
    ├── FailedVolumesError         3  the collection was gone through, but some volumes failed
    ├── MetricDroppedError         3  a metric is below its bound or has dropped
    ├── DamageError                4  verification found damage
    ├── StoreError                 1  an object store does not answer; trying again may help
    └── EnvironmentFaultError      1  disk full, no permission ...: stopped, resumable

Every message says what was wrong, the value, the limit, and what to change.
"""

from __future__ import annotations

import errno

ENVIRONMENT = frozenset(
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EPERM", "EMFILE", "ENFILE")
)
"""Errors of the machine rather than of a chunk or of ours: going on would only fail again."""


class OvertileError(Exception):
    """Base class of everything that Overtile raises on purpose."""

    exit_code = 1


class InputError(OvertileError):
    """The request was refused before any work; nothing was written."""

    exit_code = 2


class VolumeError(InputError):
    """A volume cannot be opened, read or created as asked."""


class ModelError(InputError):
    """A checkpoint or an architecture cannot be used."""


class PlanError(InputError):
    """The job cannot be planned as asked."""


class RunMismatchError(InputError):
    """The output belongs to a run with another fingerprint, or another process is writing to it."""


class RunBusyError(RunMismatchError):
    """Another process is writing to the run; it is not to be disturbed."""


class ChunkError(OvertileError):
    """One chunk failed; the others go on."""


class MissingChunkError(ChunkError):
    """A stored chunk of the input is not there."""


class InputDamageError(ChunkError):
    """Stored bytes of the input do not decode."""


class NonFiniteError(ChunkError):
    """The input holds NaN or infinity, or the network gave it."""


class FailedChunksError(OvertileError):
    """The run finished, but some chunks failed; they are listed and can be rerun."""

    exit_code = 3


class FailedVolumesError(OvertileError):
    """Every volume of a collection was looked at, but some failed; they are listed."""

    exit_code = 3


class MetricDroppedError(OvertileError):
    """All was measured and written, but a metric is below its bound, or has dropped; they are listed."""

    exit_code = 3


class DamageError(OvertileError):
    """Verification found stored bytes that are missing, damaged or foreign."""

    exit_code = 4


class StoreError(OvertileError):
    """An object store does not answer as it should, after all its retries."""


class EnvironmentFaultError(OvertileError):
    """The machine cannot go on (disk full, no permission, input/output error); the run can be resumed."""
