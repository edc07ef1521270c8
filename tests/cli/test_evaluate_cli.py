import json

import numpy as np
import pytest
from runs import make_run
from volumes import create_filled, save, small_spec

from pipeline.cli.main import run
from pipeline.volume import publish


@pytest.fixture
def maps(tmp_path, monkeypatch):
    """A prediction p.zarr of which the first chunk is wrong in 3 voxels, and its target t.zarr."""
    monkeypatch.chdir(tmp_path)
    target = (np.indices((16, 16)).sum(axis=0) % 3 == 0).astype("u1")
    prediction = target.copy()
    prediction[0, :3] ^= 1
    spec = small_spec((16, 16))
    create_filled(tmp_path / "p.zarr", spec, prediction)
    names = ["background", "cell", "wall"]
    publish(tmp_path / "p.zarr", name="p", axes="yx", levels=[("0", spec.space)], classes=names)
    save(tmp_path / "t.zarr", target)
    return tmp_path


def test_evaluate_prints_a_table(maps, capsys):
    assert run(["evaluate", "p.zarr", "t.zarr", "--out", "m"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0].split() == [
        "class",
        "IoU",
        "Dice",
        "precision",
        "recall",
        "target",
        "voxels",
        "prediction",
        "voxels",
    ]
    assert [line.split()[0] for line in lines[1:5]] == ["background", "cell", "wall", "mean"]
    assert lines[3].split() == ["wall", "-", "-", "-", "-", "0", "0"]
    assert "absent    wall" in shown.out
    assert "256 compared in 4 chunk(s), 0 ignored" in shown.out
    assert "worst     chunk 0/0 (0:8,0:8): 3 voxels wrong" in shown.out
    assert (maps / "m" / "metrics.json").exists()


def test_evaluate_prints_one_document(maps, capsys):
    assert run(["evaluate", "p.zarr", "t.zarr", "--json", "--region", "0:8,0:8", "--ignore", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["chunks"], found["region"], found["ignore"]) == (1, "0:8,0:8", 1)
    assert found["accuracy"] == 1 - 2 / found["voxels"]


def test_evaluate_refuses_with_exit_code_2(maps, capsys):
    assert run(["evaluate", "p.zarr", "none.zarr"]) == 2
    assert "none.zarr" in capsys.readouterr().err
    (maps / "t.zarr" / "c" / "0" / "0").unlink()
    assert run(["evaluate", "p.zarr", "t.zarr"]) == 2
    assert "are missing" in capsys.readouterr().err


def test_info_tells_of_a_volume(maps, capsys):
    assert run(["info", "p.zarr"]) == 0
    shown = capsys.readouterr().out
    assert "OME-Zarr 0.5, Zarr v3" in shown
    assert "16 x 16 (yx) uint8" in shown
    assert "4 of 4 chunks, none missing" in shown
    assert "0 background, 1 cell, 2 wall" in shown
    (maps / "p.zarr" / "0" / "c" / "1" / "0").unlink()
    assert run(["info", "p.zarr"]) == 0
    assert "3 of 4 chunks, 1 MISSING: c/1/0" in capsys.readouterr().out


def test_info_prints_one_document(maps, capsys):
    assert run(["info", "t.zarr", "--axes", "yx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [16, 16]
    assert run(["info", "t.zarr", "--level", "1"]) == 2
    assert "there is no level 1" in capsys.readouterr().err


def test_source_makes_a_volume(maps, capsys):
    np.save("a.npy", np.zeros((20, 30), "u2"))
    assert run(["ingest", "a.npy", "a.zarr", "--voxel-size", "2,2", "--unit", "nm"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "a.zarr: made of a.npy" in shown.err
    assert "2 x 2 nanometer (yx)" in shown.err
    assert run(["ingest", "a.npy", "b.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [20, 30]
    assert run(["ingest", "a.npy", "b.zarr"]) == 0
    assert "there already, nothing to do" in capsys.readouterr().err
    assert run(["ingest", "a.npy", "b.zarr", "--voxel-size", "2,2", "--unit", "nm"]) == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_a_class_map_with_listed_values_needs_a_job_file(maps, capsys):
    np.save("a.npy", np.array([[0, 9]], "u1"))
    (maps / "job.yaml").write_text("values: {0: 0, 9: 1}\nclasses: [background, cell]\n")
    assert run(["ingest", "a.npy", "a.zarr", "--config", "job.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"] == ["background", "cell"]


def test_report_prints_where_the_page_is(tmp_path, capsys):
    output = make_run(tmp_path, np.zeros((70, 100), "u1"))
    assert run(["report", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out.zarr.run" / "report.html")
    assert run(["report", str(output), "--out", str(tmp_path / "page.txt")]) == 2
    assert "ends in .html" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "info", "ingest", "report"])
def test_help_has_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"overtile {command} " in capsys.readouterr().out.split("Example:")[1]
