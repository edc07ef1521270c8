"""Each part is killed in the middle of a run: it goes on, or is retried, and ends with the same bytes.

Runs are cancelled here too, since they need the same parts.
"""

import pytest
from networks import make_checkpoint, make_image
from prefect.states import Cancelling
from servers import kill
from stage import ROOT, whole_stage
from waiting import wait_until

import pipeline
from pipeline.config import SegmentJob
from pipeline.run.folder import RunFolder
from pipeline.run.status import status
from pipeline.run.verify import verify

pytestmark = pytest.mark.slow

CHUNKS = 1024
SILENCE = 60
"""Seconds without a sign of life until a run is crashed: two signs, where the automation as shipped waits for three."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    shipped = (ROOT / "deployments" / "automations" / "crashed.yaml").read_text()
    assert "within: 90\n" in shipped
    (folder / "crashed.yaml").write_text(shipped.replace("within: 90\n", f"within: {SILENCE}\n"))
    with whole_stage(folder) as stage:
        stage.server.prefect("automation", "create", "--from-file", str(folder / "crashed.yaml"))
        yield stage


@pytest.fixture(scope="module")
def job(stage, tmp_path_factory):
    """Settings of a run of many chunks, on the scheduler's workers."""
    folder = tmp_path_factory.mktemp("volume")
    make_image(folder / "image.zarr", (2048, 2048), channels=1, shard=(64, 64))
    model = folder / "model.safetensors"
    make_checkpoint(model, depth=2, width=4, padding="same", norm="batch")
    paths = {"input": str(folder / "image.zarr"), "model": str(model), "output": str(folder / "whole.zarr")}
    return paths | {"chunk": [64, 64], "tile": [64, 64]} | stage.cluster


@pytest.fixture(scope="module")
def undisturbed(job):
    """The digest of the whole result when nothing happens."""
    return pipeline.segment(SegmentJob(**job))["seal"]["root"]


def begin(stage, job, output):
    """Have a run that is in its middle when this returns."""
    stage.up()
    run = stage.begin(job | {"output": str(output)}, regions=2)
    wait_until(lambda: RunFolder(output).exists and status(output)["done"] > 20, seconds=300)
    return run


@pytest.fixture
def begun(stage, job, undisturbed, tmp_path):
    """A run in its middle, on the scheduler's workers, and its output."""
    output = tmp_path / "out.zarr"
    return begin(stage, job, output), output


def check(stage, output, undisturbed):
    """The volume is sealed with the right bytes, and the server knows of no run that is not there."""
    found = status(output)
    assert (found["state"], found["done"], found["failed"]) == ("sealed", CHUNKS, 0)
    assert found["seal"]["root"] == undisturbed
    assert verify(output).ok
    assert stage.running() == []


def test_the_flow_process(stage, begun, undisturbed):
    run, output = begun
    (flow,) = stage.flow_processes()
    kill([flow])
    stage.wait_for(run, "Crashed")
    stage.wait_for_report(run)
    assert status(output)["done"] < CHUNKS
    stage.retry(run)
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)


def test_the_prefect_server(stage, begun, undisturbed):
    run, output = begun
    stage.parts["server"].kill()
    assert status(output)["done"] < CHUNKS
    stage.up()
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)


def test_the_worker_process(stage, begun, undisturbed):
    run, output = begun
    stage.parts["worker"].kill(alone=True)
    assert status(output)["done"] < CHUNKS
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)


def test_the_dask_scheduler(stage, begun, undisturbed):
    run, output = begun
    stage.parts["scheduler"].kill()
    assert "the Dask scheduler ended" in stage.wait_for(run, "Failed").message
    assert status(output)["done"] < CHUNKS
    wait_until(lambda: not stage.parts["dask worker"].alive and not stage.parts["other dask worker"].alive, 120)
    stage.up()
    stage.retry(run)
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)


def test_a_dask_worker(stage, begun, undisturbed):
    run, output = begun
    stage.parts["dask worker"].kill()
    assert status(output)["done"] < CHUNKS
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)
    told = wait_until(lambda: [line for line in stage.messages(run, "overtile") if "died" in line], 60)
    assert "(attempt 1)" in told[0]


def test_the_whole_machine(stage, begun, undisturbed):
    run, output = begun
    kill(stage.parts["worker"].family())
    assert status(output)["done"] < CHUNKS
    assert len(stage.running()) == 1, "nobody is left who could tell"
    state = stage.wait_for(run, "Crashed", seconds=SILENCE + 120)
    assert "No sign of life" in state.message
    stage.up()
    stage.retry(run)
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)


@pytest.mark.parametrize("place", ["on the scheduler", "on this machine"])
def test_a_cancelled_run_stops_leaves_nothing_behind_and_is_gone_on_with(stage, job, undisturbed, tmp_path, place):
    if place == "on this machine":
        own = {name: value for name, value in job.items() if name not in stage.cluster}
        job = own | {"workers": 1, "threads": 1}
    stage.up()
    before, output = stage.works(), tmp_path / "out.zarr"
    run = begin(stage, job, output)
    ours = stage.parts["worker"].family()[1:]
    assert ours, "the flow run and its own workers are processes below Prefect's worker"
    stage.client.set_flow_run_state(run, Cancelling())
    # Prefect gives a flow run 30 s to end, once its worker hears of it, and kills it then: this one ends by itself.
    wait_until(lambda: not any(process.is_running() for process in ours), 30)
    stage.wait_for(run, "Cancelled")
    found = status(output)
    assert (found["state"], found["failed"]) == ("incomplete", 0), "nobody is to blame"
    assert 20 < found["done"] < CHUNKS
    assert stage.works() == before, "the workers of others live on, and work on nothing of ours"
    stage.wait_for_report(run)
    stage.retry(run)
    stage.wait_for(run, "Completed")
    check(stage, output, undisturbed)
