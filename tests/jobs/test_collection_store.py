"""An archive in an object store: one listing finds all, and the list of what is done lies there too."""

import json

import pytest
from s3 import S3Server

from pipeline.config import CollectionJob
from pipeline.jobs.archive import find_members, is_settled
from pipeline.jobs.collection import Collection
from pipeline.jobs.roster import NAME
from pipeline.run.folder import RunFolder
from pipeline.store import open_place

pytestmark = pytest.mark.slow

KEYS = ("a.tif", "deep/b.zarr/zarr.json", "deep/b.zarr/0/c/0", "deep/b.zarr.run/x.zarr/zarr.json", "notes.txt")


def found(url):
    return find_members(CollectionJob(input=url, output="/out", model="m"))


@pytest.fixture
def place():
    with S3Server() as server:
        yield open_place(server.url("scans"))


def test_volumes_of_a_bucket_are_found_listed_and_done_once(place, tmp_path):
    for key in KEYS:
        place.put(key, key.encode())
    base = place.url
    assert [member.path for member in found(base)] == ["a.tif", "deep/b.zarr"]
    assert [member.path for member in found(f"{base}/**/*.zarr")] == ["deep/b.zarr"]
    assert [member.path for member in found(f"{base}/*")] == ["a.tif"]
    assert all(is_settled(member, 3600) for member in found(base)), "objects appear whole"
    before = {member.path: member.identity for member in found(base)}
    place.put("deep/b.zarr/0/c/0", b"other voxels")
    assert {m.path for m in found(base) if m.identity != before[m.path]} == {"deep/b.zarr"}

    place.put("list.csv", f"path\na.tif\n{base}/deep/b.zarr\nnothing.zarr\n".encode())
    listed = found(f"{base}/list.csv")
    assert [member.identity for member in listed] == [*(m.identity for m in found(base)), None]

    (tmp_path / "model.safetensors").write_text("weights")
    out = f"{base}-out"
    job = CollectionJob(input=base, output=out, model=str(tmp_path / "model.safetensors"))
    done = []

    def work(task):
        done.append(task.job.output)
        RunFolder(task.job.output).seal({"root": "abcd", "state": "sealed"})
        return {"state": "sealed", "total": 1}

    assert [row.state for row in Collection(job, work).rows()] == ["sealed", "sealed"]
    assert [row.state for row in Collection(job, work).rows()] == ["unchanged", "unchanged"]
    assert done == [f"{out}/a.zarr", f"{out}/b.zarr"]
    assert json.loads(open_place(out).get(NAME))["volumes"].keys() == set(done)
