"""From a run to damage and back by the command line alone, on a disk and on an object store."""

import json
import os

import pytest
from networks import make_checkpoint, make_image
from s3 import S3Server

from pipeline.cli.main import run
from pipeline.store import open_place
from pipeline.volume.state import KEY, read_attributes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server():
    with S3Server(patience=20) as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def root(request, tmp_path, monkeypatch):
    """Where input and output are; the checkpoint is a file in the working folder."""
    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path / "model.safetensors", depth=2, width=4, padding="same")
    make_image(tmp_path / "in.zarr", (200, 200), shard=(64, 64))
    if request.param == "disk":
        return str(tmp_path)
    url = request.getfixturevalue("server").url(tmp_path.name)
    source, target = open_place(tmp_path / "in.zarr"), open_place(f"{url}/in.zarr")
    for entry in source.entries():
        target.put(entry.key, source.get(entry.key))
    return url


@pytest.fixture
def call(capsys):
    def called(*words):
        code = run([*words, "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else " ".join(said.err.split())

    return called


def test_damage_is_found_taken_back_and_computed_again(root, call):
    image, output = f"{root}/in.zarr", f"{root}/out.zarr"
    job = [image, output, "--model", "model.safetensors", "--chunk", "64,64", "--workers", "1"]
    code, planned = call("plan", *job)
    assert (code, planned["chunks"]) == (0, 16)
    assert not list(open_place(output).entries()) + list(open_place(f"{output}.run").entries())
    code, made = call("segment", *job)
    assert (code, made["state"], made["done"]) == (0, "sealed", 16)
    assert call("verify", output, "--replay", "2")[0] == 0
    assert call("info", output)[1]["missing_chunks"]["count"] == 0

    place = open_place(output)
    data = bytearray(place.get("0/c/1/1"))
    data[len(data) // 2] ^= 1
    place.put("0/c/1/1", bytes(data))
    place.delete("0/c/2/2")
    code, found = call("verify", output)
    assert (code, found["damaged"], found["missing"]) == (4, ["c/1/1"], ["c/2/2"])
    assert read_attributes(place)[KEY]["state"] == "sealed", "looking changes nothing"
    assert call("verify", output, "--repair")[0] == 4
    code, found = call("status", output)
    assert (found["state"], found["pending"]) == ("incomplete", 2)
    code, again = call("rerun", output)
    assert (code, again["state"], again["seal"]["root"]) == (0, "sealed", made["seal"]["root"])

    source = open_place(f"{image}/0")
    key = "c/0/0/0" if source.stats(["c/0/0/0"])[0] else "c/0/0"
    if isinstance(root, str) and root.startswith("s3://"):
        source.put(key, source.get("c/0/0/1" if key == "c/0/0/0" else "c/0/1"))
    else:
        os.utime(f"{root}/in.zarr/0/{key}", ns=(1, 1))
    code, said = call("segment", *job)
    assert code == 2
    assert key in said
    assert "rerun" in said
    code, mended = call("rerun", output, "--stale")
    assert (code, mended["state"]) == (0, "sealed")
    assert call("verify", output)[0] == 0

    assert run(["report", output]) == 0
    assert b"<html" in open_place(f"{output}.run").get("report.html")


def test_a_result_with_accepted_holes_is_exit_3_and_partial(root, call):
    image, output = f"{root}/in.zarr", f"{root}/out.zarr"
    source = open_place(f"{image}/0")
    key = max((e.key for e in source.entries() if e.key.startswith("c/")), key=lambda k: k.split("/"))
    source.delete(key)
    job = [image, output, "--model", "model.safetensors", "--chunk", "64,64", "--workers", "1"]
    code, said = call("segment", *job)
    assert code == 3
    assert key in said
    assert read_attributes(open_place(output)).keys() == {KEY}
    code, said = call("segment", *job, "--accept-failures", "8")
    assert code == 3
    assert "partial" in said
    attributes = read_attributes(open_place(output))
    assert attributes[KEY]["state"] == "partial"
    assert "3/3" in attributes[KEY]["holes"]
    assert "ome" in attributes
    code, found = call("status", output)
    assert (code, found["state"]) == (0, "partial")
    assert call("rerun", output, "--accept-failures", "8")[0] == 3
    assert call("status", output)[1]["state"] == "partial"
    assert call("rerun", output)[0] == 3
    assert call("status", output)[1]["state"] == "incomplete", "the run itself accepts no failure"
