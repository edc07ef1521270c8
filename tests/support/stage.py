"""Everything that a run takes, as processes that can be killed one by one: a Prefect server and its worker, which
starts the flow runs, and a Dask scheduler and its workers, which speak TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from clusters import certificates, start_tls_scheduler, tls_worker, works_held
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateName,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings
from prefect.states import Scheduled
from servers import family_of, free_port, kill, new_server, words_of
from waiting import wait_until

from pipeline.run.cluster import connect
from pipeline.run.cluster_spec import ClusterSpec

ROOT = Path(__file__).parents[2]


class Part:
    """A process that is started when it is not there, be it for the first time or because it was killed."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def up(self) -> None:
        if not self.alive:
            self.process = self._start()

    def family(self) -> list[psutil.Process]:
        """Return the process and what it has started."""
        return [] if self.process is None else family_of(self.process.pid)

    def kill(self, *, alone: bool = False) -> None:
        """End it with SIGKILL, and what it has started too, unless ``alone``."""
        if self.process is not None:
            kill(self.family()[:1] if alone else self.family())
            self.process.wait()


class Stage:
    """The processes, all on loopback.

    Attributes:
        server: Prefect's, which looks for work every second.
        cluster: parameters of a job that computes on the Dask scheduler.
        parts: by name, in the order in which they are started.
        client: of the server.
    """

    def __init__(self, folder: Path) -> None:
        tls, port = folder / "tls", free_port()
        self._tls = shown = certificates(tls)
        (folder / "prefect").mkdir()
        server = new_server(folder / "prefect")
        self.server = replace(server, environment=server.environment | {"PREFECT_WORKER_QUERY_SECONDS": "1"})
        address = f"tls://127.0.0.1:{port}"
        self.cluster = {"scheduler": address, "tls_ca": shown.ca, "tls_cert": shown.cert, "tls_key": shown.key}
        self.parts = {
            "server": Part(self.server.start),
            "scheduler": Part(lambda: start_tls_scheduler(folder, tls, port)[0]),
            "dask worker": Part(lambda: tls_worker(address, folder, tls)),
            "other dask worker": Part(lambda: tls_worker(address, folder, tls)),
            "worker": Part(lambda: self.server.spawn("worker", "start", "--pool", "overtile")),
        }
        self.client: SyncPrefectClient

    def up(self) -> None:
        """Start whatever is not there."""
        for part in self.parts.values():
            part.up()

    def flow_processes(self) -> list[psutil.Process]:
        """Return the processes of flow runs that the worker has started."""
        return [each for each in self.parts["worker"].family() if "prefect.engine" in words_of(each)]

    def begin(self, job: dict[str, Any], **parameters: Any) -> UUID:
        """Have the deployment `segment` run."""
        deployment = self.client.read_deployment_by_name("segment/segment")
        return self.client.create_flow_run_from_deployment(deployment.id, parameters={"job": job, **parameters}).id

    def retry(self, run: UUID) -> None:
        """Do what the button Retry does."""
        self.client.set_flow_run_state(
            run, Scheduled(name="AwaitingRetry", message="Retry from the UI"), force=True
        )

    def wait_for(self, run: UUID, *states: str, seconds: float = 240) -> State[Any]:
        """Return the state of a flow run, once it has one of these names; any other final state is a failure."""

        def reached() -> State[Any] | None:
            state = self.client.read_flow_run(run).state
            assert state is not None
            assert state.name in states or not state.is_final(), state
            return state if state.name in states else None

        return wait_until(reached, seconds)

    def wait_for_report(self, run: UUID) -> None:
        """Wait until the worker has said all it has to say of a flow run that has ended: else it undoes a retry."""
        related = {"resources_in_roles": [[f"prefect.flow-run.{run}", "flow-run"]]}
        wanted = {"filter": {"event": {"name": ["prefect.worker.executed-flow-run"]}, "related": related}}
        wait_until(lambda: self.client._client.post("/events/filter", json=wanted).json()["events"], 120)

    def messages(self, run: UUID, logger: str) -> list[str]:
        """Return what the run's log says so far, by a logger."""
        ours = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run]))
        return [line.message for line in self.client.read_logs(log_filter=ours) if line.name == logger]

    def works(self) -> dict[str, list[str]]:
        """Return what each Dask worker holds of runs, and what it works on."""
        spec = ClusterSpec(1, None, 1 << 30, address=self.cluster["scheduler"], tls=self._tls)
        with connect(spec) as client:
            wait_until(lambda: len(client.nthreads()) == 2, 60)
            held, busy = client.run(works_held), client.processing()
        return {address: [*held[address], *map(str, busy[address])] for address in held}

    def running(self) -> list[str]:
        """Return the names of the flow runs that the server believes to be running."""
        names = FlowRunFilterStateName(any_=["Running", "Retrying"])
        found = self.client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(name=names)))
        return [each.name for each in found]

    def close(self) -> None:
        """End all there is."""
        for part in reversed(self.parts.values()):
            part.kill()


@contextmanager
def whole_stage(folder: Path) -> Iterator[Stage]:
    """Have all parts run, and the deployment `segment` registered as docs/operations.md says."""
    stage = Stage(folder)
    with ExitStack() as stack:
        stack.callback(stage.close)
        stage.parts["server"].up()
        stack.enter_context(
            temporary_settings({PREFECT_HOME: stage.server.home, PREFECT_API_URL: stage.server.url})
        )
        stage.client = stack.enter_context(get_client(sync_client=True))
        pool = ("--type", "process", "--base-job-template", "deployments/pools/process.json")
        stage.server.prefect("work-pool", "create", "overtile", *pool, cwd=ROOT)
        stage.server.prefect("deploy", "-n", "segment", "--prefect-file", "deployments/prefect.yaml", cwd=ROOT)
        stage.up()
        yield stage
