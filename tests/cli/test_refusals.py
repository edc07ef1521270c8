"""Bad input gets one clear sentence before any work: exit code 2, and nothing is written."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import zarr
from networks import make_checkpoint, make_image

from pipeline.cli.main import run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("refusals")
    make_image(root / "rgb.zarr", (300, 260), channels=3, shard=(128, 128))
    make_image(root / "grey.zarr", (300, 260))
    make_checkpoint(root / "rgb.safetensors", in_channels=3, depth=3, width=4, padding="same")
    make_checkpoint(root / "solid.safetensors", dims=3, depth=2, width=4)
    (root / "broken.safetensors").write_bytes(b"not a checkpoint")
    objects = root / "objects.zarr"
    zarr.create_array(str(objects), shape=(10, 10), chunks=(5, 5), dtype="u1", zarr_format=2)
    document = json.loads((objects / ".zarray").read_text())
    (objects / ".zarray").write_text(json.dumps(document | {"dtype": "|O", "filters": [{"id": "pickle"}]}))
    zarr.create_array(str(root / "unnamed.zarr"), shape=(3, 40, 40), chunks=(3, 40, 40), dtype="u1")[...] = 1
    (root / "job.yaml").write_text("model: rgb.safetensors\nchnk: 64,64\n")
    (root / "foreign.zarr").mkdir()
    (root / "foreign.zarr" / "mine").write_text("keep")
    return root


def tree(root):
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else None
        for p in sorted(root.rglob("*"))
    }


CASES = [
    ("rgb.zarr out.zarr --model rgb.safetensors --tiles 64,64", "No such option '--tiles'"),
    ("missing.zarr out.zarr --model rgb.safetensors", "missing.zarr: there is no such file or folder"),
    ("grey.zarr out.zarr --model rgb.safetensors", "1 channel(s)"),
    ("objects.zarr out.zarr --model rgb.safetensors", "data type '|O' is not numeric"),
    ("unnamed.zarr out.zarr --model rgb.safetensors", "does not name its axes"),
    ("grey.zarr out.zarr --model solid.safetensors", "3-D network"),
    ("rgb.zarr out.zarr --model missing.safetensors", "no checkpoint file"),
    ("rgb.zarr out.zarr --model broken.safetensors", "not a safetensors file"),
    ("rgb.zarr out.zarr", "--model: is needed"),
    (
        "rgb.zarr out.zarr --model rgb.safetensors --chunk 100,100 --shard 30,30",
        "not a whole multiple of the shard",
    ),
    ("rgb.zarr out.zarr --model rgb.safetensors --chunk 64", "--chunk 64 has 1 axes"),
    ("rgb.zarr out.zarr --model rgb.safetensors --tile 30,32", "no multiple of the network's stride 4"),
    ("rgb.zarr out.zarr --model rgb.safetensors --memory-limit 100MiB", "no tile fits"),
    ("rgb.zarr out.zarr --model rgb.safetensors --region 0:10", "--region has 1 ranges"),
    ("rgb.zarr out.zarr --model rgb.safetensors --region 0:10,0:261", "not inside the volume's 0:260"),
    ("rgb.zarr out.zarr --model rgb.safetensors --level 3", "there is no level 3"),
    ("rgb.zarr out.zarr --model rgb.safetensors --dtype float32", "for --kind probabilities"),
    ("rgb.zarr out.zarr --model rgb.safetensors --kind masks", "labels"),
    ("rgb.zarr out.zarr --model rgb.safetensors --workers 2 --scheduler tcp://127.0.0.1:1", "--workers is for"),
    ("rgb.zarr out.zarr --model rgb.safetensors --scheduler tcp://10.0.0.1:1", "to another machine is refused"),
    ("rgb.zarr out.zarr --model rgb.safetensors --scheduler tls://10.0.0.1:1", "TLS needs --tls-ca"),
    ("rgb.zarr out.zarr --model rgb.safetensors --tls-ca ca.pem", "are given together or not at all"),
    ("rgb.zarr out.zarr --model rgb.safetensors --cluster no.yaml", "there is no such cluster file"),
    (
        "rgb.zarr out.zarr --model rgb.safetensors --cluster slurm --workers 2",
        "--workers does not go with --cluster",
    ),
    ("rgb.zarr out --model rgb.safetensors", "ends in .zarr"),
    ("rgb.zarr rgb.zarr --model rgb.safetensors", "is the input"),
    ("rgb.zarr rgb.zarr/out.zarr --model rgb.safetensors", "lies in it"),
    ("rgb.zarr nowhere/out.zarr --model rgb.safetensors", "there is no folder"),
    ("rgb.zarr foreign.zarr --model rgb.safetensors", "no run of Overtile made it"),
    ("rgb.zarr out.zarr --config job.yaml", "unknown key 'chnk'; did you mean 'chunk'?"),
    ("rgb.zarr out.zarr --config missing.yaml", "cannot be read"),
]


@pytest.mark.parametrize("command", ["segment", "plan"])
@pytest.mark.parametrize(("arguments", "said"), CASES)
def test_refused_with_exit_2_one_sentence_and_nothing_written(
    place, monkeypatch, capsys, command, arguments, said
):
    monkeypatch.chdir(place)
    before = tree(place)
    assert run([command, *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert said in " ".join(err.split())
    assert out == ""
    assert tree(place) == before


@pytest.mark.parametrize("command", ["status", "rerun", "verify", "report"])
def test_there_must_be_a_run(place, monkeypatch, capsys, command):
    monkeypatch.chdir(place)
    assert run([command, "out.zarr"]) == 2
    assert "there is no run" in capsys.readouterr().err


@pytest.mark.slow
def test_one_run_from_plan_to_damage_and_back(place, tmp_path, monkeypatch, capsys):
    """plan, segment, another fingerprint, status, rerun, verify, damage, and segment again."""
    monkeypatch.chdir(tmp_path)
    for name in ("rgb.zarr", "rgb.safetensors"):
        (tmp_path / name).symlink_to(place / name)
    job = ["rgb.zarr", "out.zarr", "--model", "rgb.safetensors", "--chunk", "64,64", "--workers", "1", "--json"]
    assert run(["plan", *job]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["chunks"] == 25
    assert run(["segment", *job]) == 0
    first = json.loads(capsys.readouterr().out)
    assert (first["state"], first["done"], first["fingerprint"]) == ("sealed", 25, planned["fingerprint"])
    assert first["peak_memory"] <= planned["memory"]["peak"]

    code = "import sys; from pipeline.cli.main import run; sys.exit(run(sys.argv[1:]) or 'torch' in sys.modules)"
    for command in (["plan", *job], ["status", "out.zarr"], ["verify", "out.zarr"]):
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, check=False)
        assert done.returncode == 0, f"{command} imports torch, or fails: {done.stderr}"

    before = tree(tmp_path)
    assert run(["segment", *job, "--kind", "probabilities"]) == 2
    assert 'output.kind: the run has "labels", you ask for "probabilities"' in " ".join(
        capsys.readouterr().err.split()
    )
    assert tree(tmp_path) == before

    assert run(["segment", *job[:4]]) == 0, "what is left open is taken from the run that is there"
    assert "nothing to do" in capsys.readouterr().err
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r+")
    ome = group.attrs.asdict().pop("ome")
    del group.attrs["ome"]
    assert run(["segment", *job[:4], "--json"]) == 0, "killed between seal and publish: published now"
    assert json.loads(capsys.readouterr().out)["seal"]["root"] == first["seal"]["root"]
    assert zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs["ome"] == ome
    assert run(["rerun", "out.zarr", "--chunks", "9/9"]) == 2
    assert "positions go from 0/0 to 4/4" in " ".join(capsys.readouterr().err.split())
    assert run(["rerun", "out.zarr", "--chunks", "1/2,3/3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seal"]["root"] == first["seal"]["root"]

    shard = tmp_path / "out.zarr/0/c/2/2"
    shard.write_bytes(shard.read_bytes()[:-3])
    assert run(["verify", "out.zarr", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["damaged"] == ["c/2/2"]
    assert run(["segment", *job]) == 0, "a shard of another size is seen on resume, and computed again"
    assert json.loads(capsys.readouterr().out)["seal"]["root"] == first["seal"]["root"]
    assert run(["verify", "out.zarr"]) == 0
    group = zarr.open_group(str(tmp_path / "out.zarr"), mode="r")
    assert group.attrs["ome"]["image-label"]["properties"][1]["class"] == "class1"


@pytest.mark.slow
def test_a_failed_chunk_is_exit_3_and_rerun_repairs_it(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "rgb.zarr", tmp_path / "in.zarr")
    hole = tmp_path / "in.zarr/0/c/0/0/2"
    kept = hole.read_bytes()
    hole.unlink()
    job = [
        "in.zarr",
        "out.zarr",
        "--model",
        str(place / "rgb.safetensors"),
        "--chunk",
        "128,128",
        "--workers",
        "1",
    ]
    assert run(["segment", *job]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "chunks failed" in said
    assert "c/0/0/2" in said
    assert run(["status", "out.zarr", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["state"] == "incomplete"
    assert found["failed"] + found["done"] == found["total"] == 9
    assert 0 < found["failed"] < 9
    assert {f["kind"] for f in found["failures"]} == {"MissingChunkError"}
    assert {f["attempts"] for f in found["failures"]} == {2}, "an input error is tried once more"
    assert "ome" not in zarr.open_group(str(tmp_path / "out.zarr"), mode="r").attrs
    hole.write_bytes(kept)
    assert run(["rerun", "out.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "sealed"


@pytest.mark.slow
def test_holes_can_be_background(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(place / "rgb.zarr", tmp_path / "in.zarr")
    (tmp_path / "in.zarr/0/c/0/0/2").unlink()
    job = [
        "in.zarr",
        "out.zarr",
        "--model",
        str(place / "rgb.safetensors"),
        "--workers",
        "1",
        "--holes",
        "background",
    ]
    assert run(["segment", *job]) == 0
    assert np.asarray(zarr.open_array("out.zarr/0", mode="r")[...]).shape == (300, 260)
