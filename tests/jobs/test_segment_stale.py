"""Segmenting again over a changed input: in place where that is asked for, refused otherwise."""

import json
import os

import pytest
from inline import Inline, tiny_job
from networks import make_checkpoint, make_image

from pipeline.config import CollectionJob
from pipeline.errors import InputError, RunMismatchError
from pipeline.jobs.collection import collect
from pipeline.jobs.segment import recorded_job, segment
from pipeline.run.verify import verify


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    """Chunks are processed in this thread."""
    monkeypatch.setattr("pipeline.jobs.segment.Segmentation", Inline)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "scans").mkdir()
    make_image(tmp_path / "scans" / "image.zarr", (64, 64), shard=(32, 32))
    os.symlink(tmp_path / "scans" / "image.zarr", tmp_path / "image.zarr")
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=2, padding="same")
    return tmp_path


def touch(root):
    shard = next(path for path in (root / "scans" / "image.zarr" / "0" / "c").rglob("*") if path.is_file())
    os.utime(shard, ns=(1, 1))


def test_a_changed_input_is_refused_or_computed_again(root):
    job = tiny_job(root, root / "out.zarr")
    assert segment(job, stale=True)["state"] == "sealed", "there is nothing yet that could be stale"
    touch(root)
    with pytest.raises(RunMismatchError, match="input that has changed since"):
        segment(job)
    assert segment(job, stale=True)["state"] == "sealed"
    assert segment(job)["state"] == "sealed"
    assert verify(root / "out.zarr").ok


def test_a_job_is_what_its_run_recorded(root):
    job = tiny_job(root, root / "out.zarr", retries=0)
    segment(job)
    found = recorded_job(root / "out.zarr", accept_failures=3)
    assert found == job.model_copy(update={"accept_failures": 3, "input": found.input})
    assert recorded_job(root / "out.zarr").accept_failures == 0
    with pytest.raises(InputError, match="there is no run"):
        recorded_job(root / "nothing.zarr")


def test_a_collection_goes_on_from_real_runs(root):
    settings = tiny_job(root, root / "out").model_dump() | {"input": str(root / "scans"), "settle": 0}
    job = CollectionJob.model_validate(settings)
    assert collect(job)["counts"] == {"sealed": 1}
    assert collect(job)["counts"] == {"unchanged": 1}
    touch(root)
    found = collect(job)
    assert found["counts"] == {"sealed": 1}
    assert found["volumes"][0]["chunks"] == 4
    assert verify(root / "out" / "image.zarr").ok
    entry = json.loads((root / "out" / "collection.json").read_text())["volumes"][str(root / "out" / "image.zarr")]
    assert entry["stale"] is False
