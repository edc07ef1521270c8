"""An archive: what is done, what is left alone, and what becomes of the others when one volume fails."""

import json
import os
import threading

import pytest

from pipeline.config import CollectionJob
from pipeline.errors import EnvironmentFaultError, FailedChunksError, FailedVolumesError, InputError, RunBusyError
from pipeline.jobs.collection import Collection
from pipeline.jobs.roster import NAME, check_summary, summary
from pipeline.run.folder import RunFolder

HOUR = 3600


class Worker:
    """Stands for the segmentation: seals at once, or fails as it is told to."""

    def __init__(self):
        self.tasks = []
        self.faults = {}
        self.lock = threading.Lock()

    def __call__(self, task):
        with self.lock:
            self.tasks.append(task)
        for name, fault in self.faults.items():
            if name in task.job.input:
                raise fault
        RunFolder(task.job.output).seal({"root": "abcd", "state": "sealed"})
        return {"state": "sealed", "total": 4, "skipped": 1, "failed": 0}

    @property
    def names(self):
        return [task.job.input.rpartition("/")[2] for task in self.tasks]


@pytest.fixture
def worker():
    return Worker()


@pytest.fixture
def archive(tmp_path):
    """Three images and a model, all an hour old."""
    (tmp_path / "scans").mkdir()
    for name in ("a.tif", "b.tif", "c.svs"):
        put(tmp_path / "scans" / name, b"voxels of " + name.encode())
    put(tmp_path / "model.safetensors", b"weights")
    return tmp_path


def put(path, content, age=HOUR):
    path.write_bytes(content)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))


def job(archive, **settings):
    given = {
        "input": str(archive / "scans"),
        "output": str(archive / "out"),
        "model": str(archive / "model.safetensors"),
    }
    return CollectionJob.model_validate(given | settings)


def gone_through(collection):
    return summary(collection.job.output, collection.rows())


def states(found):
    return {row["volume"].rpartition("/")[2]: row["state"] for row in found["volumes"]}


def test_every_volume_is_a_run_of_its_own_and_is_done_once(archive, worker):
    found = gone_through(Collection(job(archive, chunk="64,64"), worker))
    assert found["counts"] == {"sealed": 3}
    assert [task.job.output for task in worker.tasks] == [str(archive / "out" / f"{n}.zarr") for n in "abc"]
    assert {task.job.chunk for task in worker.tasks} == {(64, 64)}
    assert not any(task.stale for task in worker.tasks)
    assert found["volumes"][0] | {"seconds": 0} == {
        "volume": str(archive / "scans" / "a.tif"),
        "state": "sealed",
        "chunks": 4,
        "skipped": 1,
        "failed": 0,
        "seconds": 0,
        "result": str(archive / "out" / "a.zarr"),
        "error": "",
    }
    check_summary(found)

    again = gone_through(Collection(job(archive, chunk="64,64", workers=1), worker))
    assert again["counts"] == {"unchanged": 3}
    assert again["volumes"][0]["chunks"] == 4
    assert len(worker.tasks) == 3, "how many workers there are changes nothing about the results"


def test_what_is_new_or_has_changed_is_done_at_the_next_time(archive, worker):
    gone_through(Collection(job(archive), worker))
    worker.tasks.clear()
    put(archive / "scans" / "d.tif", b"new", age=2 * HOUR)
    put(archive / "scans" / "b.tif", b"other voxels")
    found = gone_through(Collection(job(archive), worker))
    assert states(found) == {"a.tif": "unchanged", "b.tif": "sealed", "c.svs": "unchanged", "d.tif": "sealed"}
    assert [(task.job.input[-5:], task.stale) for task in worker.tasks] == [("b.tif", True), ("d.tif", False)]


def test_a_result_that_is_gone_is_made_again(archive, worker):
    gone_through(Collection(job(archive), worker))
    RunFolder(archive / "out" / "a.zarr").unseal()
    worker.tasks.clear()
    assert gone_through(Collection(job(archive), worker))["counts"] == {"sealed": 1, "unchanged": 2}
    assert worker.names == ["a.tif"]


@pytest.mark.parametrize("changed", [{"kind": "probabilities"}, {"model": "other.safetensors"}])
def test_other_settings_or_another_model_are_no_reason_to_skip_a_volume(archive, worker, changed):
    gone_through(Collection(job(archive), worker))
    put(archive / "other.safetensors", b"other weights")
    changed = {name: str(archive / value) if name == "model" else value for name, value in changed.items()}
    worker.tasks.clear()
    gone_through(Collection(job(archive, **changed), worker))
    assert worker.names == ["a.tif", "b.tif", "c.svs"]
    assert not any(task.stale for task in worker.tasks), "the fingerprint decides whether they fit the results"


def test_one_that_fails_never_stops_the_others_and_is_tried_again_when_that_may_help(archive, worker):
    worker.faults = {"a.tif": InputError("a.tif: damaged"), "b.tif": EnvironmentFaultError("no room")}
    found = gone_through(Collection(job(archive), worker))
    assert states(found) == {"a.tif": "failed", "b.tif": "failed", "c.svs": "sealed"}
    with pytest.raises(
        FailedVolumesError, match=r"2 of 3 volumes failed: .*a\.tif: damaged; .*no room\. Those"
    ) as error:
        check_summary(found)
    assert error.value.exit_code == 3

    worker.tasks.clear()
    worker.faults.pop("b.tif")
    found = gone_through(Collection(job(archive), worker))
    assert states(found) == {"a.tif": "failed", "b.tif": "sealed", "c.svs": "unchanged"}
    assert worker.names == ["b.tif"], "what was refused is refused again, until it changes"
    assert found["volumes"][0]["error"] == "a.tif: damaged"

    worker.tasks.clear()
    gone_through(Collection(job(archive, retry_failed=True), worker))
    assert worker.names == ["a.tif"]
    worker.tasks.clear()
    worker.faults.clear()
    put(archive / "scans" / "a.tif", b"mended")
    assert gone_through(Collection(job(archive), worker))["counts"] == {"sealed": 1, "unchanged": 2}
    assert worker.names == ["a.tif"]


def test_a_stale_result_stays_stale_until_it_has_been_computed_again(archive, worker):
    gone_through(Collection(job(archive), worker))
    put(archive / "scans" / "b.tif", b"other voxels")
    worker.faults = {"b.tif": EnvironmentFaultError("no room")}
    worker.tasks.clear()
    for _ in range(2):
        gone_through(Collection(job(archive), worker))
    worker.faults.clear()
    gone_through(Collection(job(archive), worker))
    gone_through(Collection(job(archive, retry_failed=True), worker))
    assert [task.stale for task in worker.tasks] == [True, True, True]


def test_one_that_another_run_is_at_is_busy_and_no_failure(archive, worker):
    worker.faults = {"b.tif": RunBusyError("another process is writing")}
    found = gone_through(Collection(job(archive), worker))
    assert states(found)["b.tif"] == "busy"
    check_summary(found)
    worker.faults.clear()
    assert states(gone_through(Collection(job(archive), worker)))["b.tif"] == "sealed"


def test_what_another_run_has_done_meanwhile_is_not_done_twice(archive, worker):
    late = Collection(job(archive), worker)
    gone_through(Collection(job(archive), worker))
    assert gone_through(late)["counts"] == {"unchanged": 3}
    assert len(worker.tasks) == 3


def test_one_that_is_still_being_written_waits(archive, worker):
    put(archive / "scans" / "a.tif", b"half", age=0)
    found = gone_through(Collection(job(archive, settle=600), worker))
    assert states(found) == {"a.tif": "waiting", "b.tif": "sealed", "c.svs": "sealed"}
    check_summary(found)
    assert states(gone_through(Collection(job(archive, settle=0), worker)))["a.tif"] == "sealed"


def test_several_at_a_time(archive, worker):
    both = threading.Barrier(2)
    seen = []

    def work(task):
        if not task.job.input.endswith("c.svs"):
            both.wait(30)
        seen.append(threading.current_thread().name)
        return worker(task)

    found = gone_through(Collection(job(archive, concurrency=2), work))
    assert found["counts"] == {"sealed": 3}
    assert len(set(seen)) == 2
    assert len(json.loads((archive / "out" / NAME).read_text())["volumes"]) == 3


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interruption_stops_all(archive, worker, concurrency):
    worker.faults = {"a.tif": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        gone_through(Collection(job(archive, concurrency=concurrency), worker))


def test_chunks_that_failed_are_counted_and_a_partial_result_is_a_failure(archive, worker, monkeypatch):
    worker.faults = {"a.tif": FailedChunksError("2 of 4 chunks failed")}
    counts = {"state": "partial", "total": 4, "skipped": 0, "failed": 2}
    monkeypatch.setattr("pipeline.jobs.collection.status", lambda output: counts)
    found = gone_through(Collection(job(archive), worker))
    assert found["volumes"][0]["state"] == "partial"
    assert found["volumes"][0]["failed"] == 2
    with pytest.raises(FailedVolumesError, match="2 of 4 chunks failed"):
        check_summary(found)


def test_volumes_are_brought_in_first_where_that_is_asked_for(archive, worker):
    asked = job(archive, ingest=True, axes="yx", settle=0)
    gone_through(Collection(asked, worker))
    first = worker.tasks[0]
    volume = archive / "out" / "volumes" / "a.zarr"
    assert (first.ingest.source, first.ingest.output) == (str(archive / "scans" / "a.tif"), str(volume))
    assert first.ingest.axes == "yx"
    assert (first.job.input, first.job.axes) == (str(volume), None)

    volume.mkdir()
    (volume / "old").write_text("voxels")
    put(archive / "scans" / "a.tif", b"other voxels")
    worker.tasks.clear()
    gone_through(Collection(asked, worker))
    assert [(task.ingest.output, task.stale) for task in worker.tasks] == [(str(volume), True)]
    assert not volume.exists(), "what was made of the old one makes room for the new one"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"input": "nowhere"}, "there is no such folder"),
        ({"input": "scans/x.zarr"}, "is one volume|there is no such folder"),
        ({"output": "scans/out"}, "results there would be taken for volumes"),
        ({"input": "**/*.zarr"}, "results there would be taken for volumes"),
        ({"naming": "x{folder}"}, "needs {name} or {path}"),
        ({"naming": "{name.__class__}"}, "needs {name} or {path}"),
        ({"naming": "{name"}, "expected '}'"),
        ({"volumes": "elsewhere"}, "give both"),
        ({"model": "nothing.safetensors"}, "there is no such file"),
    ],
)
def test_what_cannot_end_well_is_refused_before_any_work(archive, worker, settings, message):
    paths = {"input", "output", "model"}
    given = {name: str(archive / value) if name in paths else value for name, value in settings.items()}
    with pytest.raises((InputError, ValueError), match=message):
        Collection(job(archive, **given), worker)
    assert worker.tasks == []


def test_two_volumes_never_share_a_result(archive, worker):
    (archive / "scans" / "deep").mkdir()
    put(archive / "scans" / "deep" / "a.tif", b"another")
    with pytest.raises(InputError, match="both have the result"):
        Collection(job(archive), worker)
    gone_through(Collection(job(archive, naming="{path}"), worker))
    assert (archive / "out" / "deep-a.zarr.run").is_dir()


def test_a_list_that_is_none_is_refused(archive, worker):
    (archive / "out").mkdir()
    for content, message in (("{", "not readable"), ('{"format": "x"}', "not a list of volumes")):
        (archive / "out" / NAME).write_text(content)
        with pytest.raises(InputError, match=message):
            Collection(job(archive), worker)
