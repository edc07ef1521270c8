"""What the guide of evaluation says is run: its job file, and its blocks of Python."""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from comparisons import class_maps, save_ids

import pipeline
from pipeline.cli.main import run
from pipeline.config import EvaluateJob

GUIDE = (Path(__file__).parents[1] / "docs" / "evaluation.md").read_text()
POLYGON = """{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {}, "geometry":
{"type": "Polygon", "coordinates": [[[2, 2], [30, 2], [30, 20], [2, 20], [2, 2]]]}}]}"""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prediction, target = class_maps((52, 70))
    save_ids(tmp_path / "nuclei.zarr", prediction, classes=("background", "cell", "wall"), spacing=(100.0, 100.0))
    save_ids(tmp_path / "truth.zarr", target)
    return tmp_path


def test_its_recipes_work(folder, monkeypatch):
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    pipeline.evaluate(EvaluateJob(prediction="nuclei.zarr", target="truth.zarr", out="evaluation"))
    names = {}
    for block in blocks("python"):
        exec(block, names)
    plt.close("all")
    assert names["coarse"].sum() == 52 * 70
    assert 0 < names["left"].sum() < 52 * 70
    assert names["worst"][0]["accuracy"] == min(row["accuracy"] for row in names["rows"])
    assert np.isfinite(names["maps"].iou.sel({"class": 1}).values).any()


def test_its_job_file_works(folder, capsys):
    (folder / "evaluation.yaml").write_text(blocks("yaml")[0])
    for name in ("tissue", "annotations"):
        (folder / f"{name}.geojson").write_text(POLYGON)
    assert run(["evaluate", "--config", "evaluation.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "inside" in shown
    assert "outline of cell" in shown
