import json

import numpy as np
import pytest
import zarr
from scipy.ndimage import gaussian_filter

from pipeline.cli.main import run
from pipeline.cli.segment import _seams


@pytest.fixture(params=[0.0, 1.0], ids=["smooth", "stepped"])
def found(request, tmp_path, monkeypatch, capsys):
    """What the command says of a volume, with a step at the borders of chunks or not: text and JSON."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    values = gaussian_filter(random.standard_normal((512, 512)), 3)
    steps = np.kron(random.standard_normal((4, 4)), np.ones((128, 128)))
    zarr.save_array("p.zarr", (values / values.std() + request.param * steps).astype("f4"))
    command = ["seams", "p.zarr", "--axes", "yx", "--chunk", "128,128", "--kind", "logits"]
    assert run(command) == 0
    text = capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    return request.param, text, json.loads(capsys.readouterr().out)


def test_seams_says_what_was_found(found):
    stepped, text, said = found
    lines = text.splitlines()
    assert lines[0].split() == ["borders", "gap", "places", "cells", "share", "ratio", "p"]
    assert {tuple(line.split()[:3]) for line in lines[1:5]} == {
        ("chunk", axis, scale) for axis in "yx" for scale in ("fine", "broad")
    }
    assert said["flagged"] is bool(stepped)
    if stepped:
        assert lines[-1].startswith("SEAMS along ")
        assert "(50% without a seam)" in lines[-1]
    else:
        assert lines[-1].startswith("no seam: no border")


def test_the_last_block_of_a_run_speaks_of_seams_only_where_there_are_some(found):
    stepped, _, said = found
    assert len(_seams(said)) == bool(stepped)
    assert _seams({}) == []


def test_seams_refuses_with_exit_code_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    zarr.save_array("p.zarr", np.zeros((64, 64), "f4"))
    assert run(["seams", "p.zarr", "--axes", "yx"]) == 2
    assert "give --chunk" in capsys.readouterr().err


def test_nothing_to_compare_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    zarr.save_array("p.zarr", np.ones((64, 64), "f4"))
    assert run(["seams", "p.zarr", "--axes", "yx", "--chunk", "8,64"]) == 0
    text = capsys.readouterr().out
    assert "chunk borders along y: no room beside these borders" in text
    assert "no seam can be told" in text
