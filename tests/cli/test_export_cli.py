import json
import subprocess
import sys

import numpy as np
import pytest
from volumes import save

from pipeline.cli.main import run


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ids = np.zeros((40, 40), "u1")
    ids[5:10, 5:15] = 1
    ids[30, 30] = 2
    save(tmp_path / "a.zarr", ids, "yx", chunks=16)
    save(tmp_path / "rgb.zarr", np.zeros((3, 8, 8), "u1"), "cyx")
    return tmp_path


def test_export_says_what_it_wrote(here, capsys):
    assert run(["export", "a.zarr", "a.geojson"]) == 0
    assert capsys.readouterr().out.startswith("a.geojson: ")
    assert run(["export", "a.zarr", "a.png"]) == 0
    assert "polygons" not in capsys.readouterr().out


def test_export_prints_one_document(here, capsys):
    options = ["--min-size", "2", "--classes", "glass, cell", "--object-type", "detection", "--threads", "1"]
    assert run(["export", "a.zarr", "a.geojson", "--json", "--simplify", "0.5", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["polygons"], found["classes"]) == (1, ["glass", "cell"])
    feature = json.loads((here / "a.geojson").read_text())["features"][0]
    assert feature["properties"] == {
        "objectType": "detection",
        "classification": {"name": "cell", "color": [230, 159, 0]},
    }


def test_a_copy_for_tools_without_zarr_v3(here, capsys):
    assert run(["export", "a.zarr", "b.zarr", "--ngff", "0.4", "--classes", "glass,cell,fold"]) == 0
    assert capsys.readouterr().out.startswith("b.zarr: ")
    assert json.loads((here / "b.zarr" / ".zattrs").read_text())["image-label"]["version"] == "0.4"
    assert run(["export", "a.zarr", "b.zarr"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_missing_chunks_are_background_where_that_is_said(here, capsys):
    (here / "a.zarr" / "c" / "0" / "0").unlink()
    assert run(["export", "a.zarr", "a.geojson", "--json"]) != 0
    assert "--holes background" in capsys.readouterr().err
    assert run(["export", "a.zarr", "a.geojson", "--json", "--holes", "background"]) == 0
    assert json.loads(capsys.readouterr().out)["polygons"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("a.zarr", "--target: is needed"),
        ("a.zarr a.shp", "its ending names the format, one of .geojson, .gpkg"),
        ("none.zarr a.geojson", "none.zarr: there is no such file"),
        ("rgb.zarr a.geojson", "polygons are made of class ids"),
        ("a.zarr none/a.geojson", "there is no folder"),
        ("a.zarr a.zarr/a.geojson", "lies in the result"),
        ("a.zarr a.png --min-size 3", "is for polygons"),
        ("a.zarr a.geojson --simplify -1", "--simplify: Input should be greater than 0"),
        ("a.zarr a.geojson --simplify much", "--simplify: Input should be a valid number"),
        ("a.zarr a.geojson --object-type cell", "--object-type: Input should be 'annotation' or 'detection'"),
        ("a.zarr a.geojson --threads 0", "--threads: Input should be greater"),
        ("a.zarr a.tif", "nothing says where on Earth"),
        ("a.zarr a.png --ngff 0.4", "--ngff: is for .zarr"),
        ("a.zarr b.zarr --ngff 0.3", "--ngff: Input should be '0.4' or '0.5'"),
        ("a.zarr a.png --holes maybe", "--holes: Input should be 'error' or 'background'"),
    ],
)
def test_refusals_exit_with_2_and_write_nothing(here, capsys, arguments, message):
    before = sorted(here.rglob("*"))
    assert run(["export", *arguments.split()]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert sorted(here.rglob("*")) == before


def test_help_lists_the_formats_and_needs_no_torch(here):
    code = (
        "import sys; from pipeline.cli.main import run; run(sys.argv[1:]);"
        " sys.exit(bool({'torch', 'lightning', 'prefect'} & set(sys.modules)))"
    )
    for arguments in (["export", "--help"], ["export", "a.zarr", "a.geojson"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=here
        )
        assert done.returncode == 0, done.stderr
    assert (here / "a.geojson").exists()
