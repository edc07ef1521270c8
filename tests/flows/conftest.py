from pathlib import Path

import pytest
from networks import make_checkpoint
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    temporary_settings,
)
from servers import prefect_server


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One Prefect server for all tests of flows; flows that are called in this process report to it."""
    home = tmp_path_factory.mktemp("prefect")
    with prefect_server(home) as started:
        settings = {
            PREFECT_HOME: home,
            PREFECT_API_URL: started.url,
            PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
        }
        with temporary_settings(settings):
            yield started
            # Else this process would try for a minute, at its end, to reach the server that is gone.
            EventsWorker.drain_all()
            APILogWorker.drain_all()


@pytest.fixture(scope="session")
def root():
    """The repository."""
    return Path(__file__).parents[2]


@pytest.fixture(scope="session")
def deployed(server, root):
    """The server with a work pool and all deployments, made as docs/operations.md says."""
    server.prefect(
        "work-pool",
        "create",
        "overtile",
        "--type",
        "process",
        "--base-job-template",
        "deployments/pools/process.json",
        cwd=root,
    )
    server.prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml", cwd=root)
    return server


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return make_checkpoint(
        tmp_path_factory.mktemp("model") / "model.safetensors", depth=2, width=4, padding="same", norm="batch"
    )
