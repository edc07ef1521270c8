"""Clusters whose workers another system starts: what to ask it for, from a file that is checked like a job."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from pipeline.config.load import explain, read_document
from pipeline.config.values import Bytes, Job, Positive
from pipeline.errors import InputError

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
"""A name as Kubernetes has them."""

Word = Annotated[str, Field(pattern=r"^[\w.:@/+=,%-]+$")]
"""What stands in a line of a job script: one word, nothing that a shell would act upon."""

Line = Annotated[str, Field(pattern=r"^[^\r\n]+$")]
Folder = Annotated[str, Field(pattern=r"^[/~$][\w./~${}+@-]*$")]
"""An absolute path on the cluster; ``~`` and variables may stand in it."""

Mount = Annotated[str, Field(pattern=r"^/[\w./+@-]+$")]

LEAST_WALLTIME = 600
"""Seconds that a worker's job must be given: it leaves of itself some minutes before the end."""


class WorkerRange(Job):
    """How many workers there are: as many as the work is worth, within these."""

    min: int = Field(0, ge=0, description="workers that are kept even while they have nothing to do")
    max: Positive = Field(4, description="workers at most")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


def _range(value: Any) -> Any:
    """Accept one number for a fixed number of workers."""
    return {"min": value, "max": value} if isinstance(value, int) and not isinstance(value, bool) else value


class Workers(Job):
    """What each worker of a cluster has, and how many there are."""

    workers: Annotated[WorkerRange, BeforeValidator(_range)] = Field(
        default_factory=WorkerRange, description="how many: {min: 0, max: 8}, or one number"
    )
    cores: Positive = Field(4, description="cores of a worker; its network gets as many threads")
    memory: Bytes = Field(16 << 30, description="memory of a worker: 16GiB")
    gpu: bool = Field(False, description="give each worker one GPU")


def seconds_of(walltime: str) -> int:
    """Return a time as SLURM writes it (``[days-]hours:minutes:seconds``) in seconds."""
    days, _, clock = walltime.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class SlurmCluster(Workers):
    """Workers as jobs of SLURM, each one worker; the scheduler is in the process that runs the job."""

    kind: Literal["slurm"] = "slurm"
    queue: Word | None = Field(None, description="partition")
    account: Word | None = Field(None, description="account that is charged")
    walltime: str = Field(
        "04:00:00",
        pattern=r"^(\d+-)?\d{1,3}:[0-5]\d:[0-5]\d$",
        description="time of a worker's job, [days-]hours:minutes:seconds; others follow it while there is work",
    )
    interface: Word | None = Field(None, description="network interface of the nodes: ib0")
    directives: tuple[Line, ...] = Field((), description="further #SBATCH options: --constraint=a100")
    prologue: tuple[Line, ...] = Field((), description="lines of shell before the worker: module load cuda")
    python: Folder | None = Field(None, description="Python of the workers; this one if left out")
    shared: Folder = Field(
        "~", description="folder that all nodes see; a run's own certificates are there while it lasts"
    )
    scratch: Folder | None = Field(None, description="folder of a node for the workers' own files")
    logs: Folder | None = Field(None, description="folder for what the jobs print")

    @model_validator(mode="after")
    def _lasts(self) -> Self:
        if seconds_of(self.walltime) < LEAST_WALLTIME:
            raise ValueError(f"walltime {self.walltime} is too short; give a worker 00:10:00 at least")
        return self


class KubernetesCluster(Workers):
    """Workers as pods, started by the Dask operator of a Kubernetes cluster."""

    kind: Literal["kubernetes"] = "kubernetes"
    image: Word = Field("overtile:cpu", description="container image of scheduler and workers")
    namespace: Name = Field("default", description="where the pods are")
    tls_secret: Name | None = Field(
        "overtile-tls", description="Secret with the files of `overtile certs`; null for a plain cluster"
    )
    credentials: tuple[Name, ...] = Field((), description="Secrets whose entries become environment variables")
    claims: dict[Name, Mount] = Field(
        default_factory=dict, description="PersistentVolumeClaims and where they are mounted"
    )
    nodes: dict[Word, str] = Field(default_factory=dict, description="labels of the nodes to run on")
    service_account: Name | None = Field(None, description="ServiceAccount of the pods")
    user: Positive | None = Field(None, description="number of the user that they run as; the image's if left out")


Site = SlurmCluster | KubernetesCluster

KINDS: dict[str, type[Site]] = {"slurm": SlurmCluster, "kubernetes": KubernetesCluster}

LOCAL = "local"


def _absolute(name: str) -> str:
    """Make a file's path mean the same wherever the job is run again."""
    return name if name == LOCAL or name in KINDS else str(Path(name).absolute())


def _absolute_file(path: str) -> str:
    return str(Path(path).expanduser().absolute())


ClusterName = Annotated[str, AfterValidator(_absolute)]
"""``local``, a kind of :data:`KINDS`, or a cluster file."""

FilePath = Annotated[str, AfterValidator(_absolute_file)]
"""A file of this machine; made absolute."""


class ClusterFields(Job):
    """Which cluster computes a job, where it is not this machine."""

    scheduler: str | None = Field(
        None, description="address of an existing Dask cluster: tls://host:8786, or tcp://127.0.0.1:8786"
    )
    cluster: ClusterName = Field(
        LOCAL, description="who starts the workers: local, slurm, kubernetes, or a cluster file (YAML)"
    )
    tls_ca: FilePath | None = Field(
        None, description="certificate of the authority that a cluster's were signed by"
    )
    tls_cert: FilePath | None = Field(
        None, description="our certificate for a cluster that is not on this machine"
    )
    tls_key: FilePath | None = Field(None, description="its private key")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = [name for name in ("tls_ca", "tls_cert", "tls_key") if getattr(self, name) is not None]
        if len(given) in (1, 2):
            raise ValueError("--tls-ca, --tls-cert and --tls-key are given together or not at all")
        return self


def load_cluster(name: str) -> Site | None:
    """Return what to ask for workers: None for this machine, the defaults of a kind, or what a file says.

    Raises:
        InputError: the file is not readable, is of no known kind, has an unknown key or a wrong value.
    """
    if name == LOCAL:
        return None
    if name in KINDS:
        return KINDS[name]()
    if not Path(name).is_file():
        known = ", ".join([LOCAL, *KINDS])
        raise InputError(f"--cluster {name}: there is no such cluster file; name one, or one of {known}")
    values = read_document(name)
    kind = values.get("kind")
    if kind not in KINDS:
        raise InputError(f"{name}: kind: {kind!r} is not a kind of cluster; known are {', '.join(KINDS)}")
    return _checked(name, KINDS[kind], values)


def _checked(name: str, model: type[Site], values: dict[str, Any]) -> Site:
    for key in values:
        if key not in model.model_fields:
            near = difflib.get_close_matches(key, model.model_fields, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(model.model_fields)}"
            raise InputError(f"{name}: unknown key {key!r}{hint}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{name}: {explain(error, option='{}')}") from error
