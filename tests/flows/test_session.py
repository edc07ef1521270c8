"""How a run ends that does not end well: what stopped it is told, and what is not done stays pending."""

import threading
from types import SimpleNamespace

import pytest
from networks import make_image

from flows.session import Session
from pipeline.config import SegmentJob
from pipeline.errors import EnvironmentFaultError, FailedChunksError, OvertileError, RunBusyError
from pipeline.run.folder import RunFolder
from pipeline.run.status import status

pytestmark = pytest.mark.slow


@pytest.fixture
def session(tmp_path, model, server):
    """A run of four chunks in two regions, prepared."""
    make_image(tmp_path / "image.zarr", (128, 128), channels=1, shard=(64, 64))
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(model.read_bytes())
    names = {"input": "image.zarr", "output": "out.zarr", "model": copy.name}
    places = {name: str(tmp_path / place) for name, place in names.items()}
    job = SegmentJob(**places, chunk=(64, 64), tile=(64, 64), workers=1, threads=1)
    with Session(job, regions=2) as session:
        session.plan()
        assert session.prepare()
        assert session.lacking() == [1, 2]
        yield session


def test_a_fault_of_the_machine_stops_all_regions_and_is_what_the_run_ends_with(session, tmp_path):
    (tmp_path / "model.safetensors").unlink()
    with session.workers():
        with pytest.raises(EnvironmentFaultError, match="could not open the work"):
            session.predict(1)
        with pytest.raises(EnvironmentFaultError, match="could not open the work"):
            session.predict(2)
    with pytest.raises(EnvironmentFaultError, match="could not open the work"):
        session.check()
    assert status(tmp_path / "out.zarr")["pending"] == 4


def test_an_interrupted_run_ends_at_once_and_blames_no_chunk(session, tmp_path):
    said = []

    def work():
        try:
            session.predict(1)
        except OvertileError as error:
            said.append(str(error))

    thread = threading.Thread(target=work)

    def interrupted():
        with session.workers():
            thread.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    thread.join(30)
    assert said == ["region 1 of 2: stopped, 2 of 2 chunks are pending; run again to go on"]
    with pytest.raises(FailedChunksError, match="0 of 4 chunks failed, 4 are pending"):
        session.check()
    assert status(tmp_path / "out.zarr")["failed"] == 0


def test_a_run_that_another_process_is_at_is_refused_and_nobody_is_alarmed(session, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("flows.session.announce", lambda *event: said.append(event))
    job = SegmentJob.model_validate(RunFolder(tmp_path / "out.zarr").read()["settings"])

    def refused():
        with Session(job) as second:
            second.plan()
            second.prepare()

    with pytest.raises(RunBusyError, match="another process is writing"):
        refused()
    assert said == []


@pytest.mark.parametrize("flagged", [False, True])
def test_seams_are_shown_where_a_result_has_some(monkeypatch, flagged):
    contrast = {
        "borders": "tile",
        "axis": "y",
        "scale": "fine",
        "strips": 96,
        "share": 0.8,
        "ratio": 1.9,
        "p": 1e-9,
    }
    seams, shown = {"flagged": flagged, "flagged_by": [contrast] * flagged}, []
    monkeypatch.setattr("flows.session.status", lambda output: {"seams": seams})
    monkeypatch.setattr("flows.session.show_table", lambda key, rows, text: shown.append((key, rows)))
    session = Session(SegmentJob(input="in.zarr", output="out.zarr", model="model.safetensors"))
    session._run = SimpleNamespace(seal=lambda found: None)
    session._found = SimpleNamespace(root="abcd")
    assert session.seal() == "abcd"
    assert shown == ([("segment-seams", [contrast])] if flagged else [])
