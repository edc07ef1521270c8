"""The services of deployments/compose.yaml, run as processes of this machine: from a bare start to a sealed result."""

import asyncio
import base64
import json
import shutil
import subprocess
import urllib.error
import urllib.request

import asyncpg
import numpy as np
import pytest
import yaml
from compose import read_compose
from networks import make_image, run_inline, stored
from postgres import postgres, programs
from s3 import S3Server, make_bucket
from topology import ROOT, Topology

from pipeline.config import SegmentJob
from pipeline.run.status import status
from pipeline.run.verify import verify
from pipeline.store import open_place

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),  # on a busy machine nine services take minutes to start
    pytest.mark.skipif(
        programs() is None, reason="PostgreSQL is not installed (Debian: apt-get install postgresql)"
    ),
]

DEPLOYMENTS = ROOT / "deployments"
BUCKET = "overtile"
WORKERS = 2
SCHEDULER = "tls://dask-scheduler:8786"


@pytest.fixture(scope="module")
def store():
    with S3Server(patience=30.0) as server:
        yield server


@pytest.fixture(scope="module")
def document(tmp_path_factory):
    """The file, with secrets made as the guide says and otherwise with what is set by default, but fewer threads."""
    folder = tmp_path_factory.mktemp("secrets")
    subprocess.run([DEPLOYMENTS / "secrets.sh", folder], check=True)
    given = {"OVERTILE_SECRETS": str(folder), "OVERTILE_THREADS": "1", "OVERTILE_WORKERS": str(WORKERS)}
    return read_compose(DEPLOYMENTS / "compose.yaml", given)


@pytest.fixture(scope="module")
def topology(document, store, tmp_path_factory):
    def begin_database(services):
        said = services.services["database"]["environment"]
        assert said["POSTGRES_PASSWORD_FILE"] == "/run/secrets/database_password"
        login = {"user": said["POSTGRES_USER"], "database": said["POSTGRES_DB"]}
        server = postgres(
            ["postgres"], services.port("5432"), password=services.secret("database_password"), **login
        )
        services.stack.enter_context(server)
        assert services.is_well("database")

    stand_ins = {
        "database": begin_database,
        "store": lambda services: None,
        "bucket": lambda services: make_bucket(f"{store.endpoint}/{BUCKET}"),
    }
    folder, ports = tmp_path_factory.mktemp("compose"), {"9000": int(store.endpoint.rpartition(":")[2])}
    with Topology(document, folder, stand_ins, ports) as services:
        services.up()
        yield services


def ask(services, path, body=None, *, secret=None, method=None):
    """The server's answer to a request, with its password if that is given."""
    address = f"http://127.0.0.1:{services.port('4200')}{path}"
    headers = {"Content-Type": "application/json"}
    if secret:
        headers["Authorization"] = f"Basic {base64.b64encode(secret.encode()).decode()}"
    content = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(
        urllib.request.Request(address, content, headers, method=method), timeout=60
    ) as answer:
        return answer.read().decode()


def registered(services):
    """Names of the work pools, deployments, automations and limits that the server has."""
    secret = services.secret("api_auth")
    kinds = ("work_pools", "deployments", "automations", "v2/concurrency_limits")
    found = {kind: json.loads(ask(services, f"/api/{kind}/filter", {}, secret=secret)) for kind in kinds}
    names = {kind: sorted(each["name"] for each in those) for kind, those in found.items()}
    # Deployments have a limit each, by their ids.
    names["v2/concurrency_limits"] = [n for n in names["v2/concurrency_limits"] if not n.startswith("deployment:")]
    return names


def test_everything_is_registered_once_however_often_the_server_starts(topology):
    first = registered(topology)
    described = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())["deployments"]
    assert first["work_pools"] == ["overtile"]
    assert first["deployments"] == sorted(each["name"] for each in described)
    assert len(first["automations"]) == 2
    assert first["v2/concurrency_limits"] == ["overtile-gpu"]
    pool, secret = "/api/work_pools/overtile", topology.secret("api_auth")
    ask(topology, pool, {"concurrency_limit": 5}, secret=secret, method="PATCH")
    topology.run("init", *topology.services["init"]["command"])
    assert registered(topology) == first
    assert json.loads(ask(topology, pool, secret=secret))["concurrency_limit"] == 5, "what an operator sets stays"


def test_the_server_shows_its_pages_and_answers_to_nobody_without_its_password(topology):
    assert "<html" in ask(topology, "/")
    for secret in (None, "overtile:another"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(topology, "/api/deployments/filter", {}, secret=secret)


def test_the_doctor_finds_server_store_and_cluster_well(topology):
    asked = (
        "--scheduler",
        topology.translate("prefect-worker", SCHEDULER),
        "--store",
        f"s3://{BUCKET}/results",
        "--json",
    )
    printed = topology.run("prefect-worker", "overtile", "doctor", *asked)
    document, _ = json.JSONDecoder().raw_decode(printed[printed.index("{") :])
    found = {each["name"]: each for each in document["checks"]}
    assert f"{WORKERS} worker(s)" in found["scheduler"]["found"]
    states = {name: found[name]["state"] for name in ("scheduler", "prefect", "store")}
    assert states == dict.fromkeys(states, "ok"), found


def test_a_deployment_segments_from_store_to_store_on_the_cluster(topology, model, tmp_path):
    shape = {"chunk": [64, 64], "tile": [64, 64], "threads": 1}
    make_image(tmp_path / "image.zarr", (384, 384), channels=1, shard=(64, 64))
    place = open_place(f"s3://{BUCKET}/image.zarr")
    for file in (path for path in (tmp_path / "image.zarr").rglob("*") if path.is_file()):
        place.put(str(file.relative_to(tmp_path / "image.zarr")), file.read_bytes())
    shutil.copy(model, topology.folder / "volume-data" / "model.safetensors")
    output = f"s3://{BUCKET}/out.zarr"
    paths = {"input": place.url, "output": output, "model": "/data/model.safetensors"}
    job = shape | paths | {"scheduler": SCHEDULER}
    parameters = topology.translate("prefect-worker", json.dumps({"job": job, "regions": 2}))

    watch = ("--watch", "--watch-timeout", "400")
    topology.run(
        "prefect-worker", "prefect", "deployment", "run", "segment/segment", "--params", parameters, *watch
    )
    assert (status(output)["state"], status(output)["done"]) == ("sealed", 36)
    assert verify(output).ok
    local = {"input": str(tmp_path / "image.zarr"), "output": str(tmp_path / "out.zarr"), "model": str(model)}
    assert np.array_equal(stored(output), run_inline(SegmentJob(**shape, **local)))


def test_prefects_tables_are_in_postgresql(topology):
    async def tables():
        login = {"user": "overtile", "database": "overtile", "password": topology.secret("database_password")}
        database = await asyncpg.connect(host="127.0.0.1", port=topology.port("5432"), **login)
        try:
            query = "SELECT (SELECT count(*) FROM deployment), (SELECT count(*) FROM work_pool), version()"
            return await database.fetchrow(query)
        finally:
            await database.close()

    deployments, pools, version = asyncio.run(tables())
    assert (deployments, pools) == (len(registered(topology)["deployments"]), 1)
    assert version.startswith("PostgreSQL")
    server = topology.folder / "home-prefect-server"
    assert not list(server.rglob("*.db")), "and in no SQLite beside it"
