"""Chunks computed again equal what is stored, unless somebody changed it; and a model tried on one's own image."""

import json

import numpy as np
import pytest
import zarr
from networks import make_checkpoint, make_image, run_inline

import pipeline
from pipeline.cli.main import run
from pipeline.config import CheckJob, SegmentJob
from pipeline.errors import InputError, RunMismatchError
from pipeline.jobs.check import _row
from pipeline.predict.plan import Plan


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("replay")
    make_image(root / "image.zarr", (90, 120), channels=3)
    make_image(root / "stack.zarr", (4, 40, 60), channels=3)
    make_checkpoint(root / "model.safetensors", in_channels=3, depth=3, width=4, padding="same", classes=3)
    return root


@pytest.fixture
def sealed(place, tmp_path):
    """A finished run of six chunks."""
    job = SegmentJob(
        input=str(place / "image.zarr"), output=str(tmp_path / "out.zarr"), model=str(place / "model.safetensors"),
        chunk=(50, 40), workers=1, pyramid=False, kind="probabilities",
    )  # fmt: skip
    assert pipeline.segment(job)["state"] == "sealed"
    return tmp_path / "out.zarr"


def spoil(output, amount=9):
    array = zarr.open_array(str(output / "0"), mode="r+")
    voxels = np.asarray(array[...])
    voxels[1, 60:63, 50:52] += np.uint8(amount)
    array[...] = voxels


@pytest.mark.slow
def test_recomputed_chunks_equal_the_stored_ones_until_somebody_changes_them(sealed, capsys):
    found = pipeline.replay(sealed, 99)
    assert (found["replayed"], found["differ"]) == (6, 0)
    assert found["positions"] == ["0/0", "0/1", "0/2", "1/0", "1/1", "1/2"]
    assert pipeline.replay(sealed, 2, seed=3) == pipeline.replay(sealed, 2, seed=3)
    assert run(["verify", str(sealed), "--replay", "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"]
    assert document["replay"]["replayed"] == 2
    spoil(sealed)
    found = pipeline.replay(sealed, 6)
    assert found["differ"] == 1
    assert found["differing"] == [{"position": "1/1", "core": "50:90,40:80", "voxels": 6, "largest": 9.0}]
    assert run(["verify", str(sealed), "--replay", "6"]) == 4
    said = capsys.readouterr()
    assert "differs 1/1" in said.out
    assert "1 of 6 recomputed chunks differ" in said.err


@pytest.mark.slow
def test_replay_refuses_another_input(place, sealed):
    with pytest.raises(InputError, match="--replay 0"):
        pipeline.replay(sealed, 0)
    other = make_image(sealed.parent / "other.zarr", (90, 130), channels=3)
    text = (sealed.with_name("out.zarr.run") / "run.json").read_text()
    changed = text.replace(str(place / "image.zarr"), str(other))
    (sealed.with_name("out.zarr.run") / "run.json").write_text(changed)
    with pytest.raises(RunMismatchError, match=r"What differs: input\.array"):
        pipeline.replay(sealed, 1)


def test_replay_needs_a_chunk_that_is_done(place, tmp_path):
    job = SegmentJob(
        input=str(place / "image.zarr"), output=str(tmp_path / "o.zarr"), model=str(place / "model.safetensors")
    )
    run_inline(job)  # stores every chunk, but records none
    with pytest.raises(InputError, match="no chunk is done yet"):
        pipeline.replay(tmp_path / "o.zarr", 1)


@pytest.mark.parametrize(
    ("image", "region", "named"),
    [
        ("image.zarr", None, "0:90,0:120"),
        ("image.zarr", ((7, 60), (31, 95)), "7:60,31:95"),
        ("stack.zarr", None, "0:1,"),
    ],
)
def test_a_model_that_says_exact_is(place, image, region, named):
    job = CheckJob(model=str(place / "model.safetensors"), input=str(place / image), region=region)
    found = pipeline.check_model(job)
    assert found["region"].startswith(named)
    assert (found["exact"], found["holds"]) == (True, True)
    assert len({(*cut["chunk"], *cut["tile"]) for cut in found["cuts"]}) == 3
    assert all(
        cut["differing"] == cut["largest"] == cut["classes"] == cut["from_first"] == 0 for cut in found["cuts"]
    )


def test_the_command_prints_the_verdict_and_leaves_with_4_where_it_does_not_hold(place, capsys, monkeypatch):
    arguments = ["model", "check", str(place / "model.safetensors"), str(place / "image.zarr")]
    assert run(arguments) == 0
    assert "exact: every cut gives the whole's bits" in capsys.readouterr().out

    def one_voxel_off(plan: Plan, found, whole, first):
        found = found.copy()
        found[0, 3, 4] += 0.5
        return _row(plan, found, whole, first)

    monkeypatch.setattr("pipeline.jobs.check._row", one_voxel_off)
    assert run(arguments) == 4
    said = capsys.readouterr()
    assert "largest difference from the whole 0.5, in 1 values" in said.out
    assert "NOT EXACT" in said.out
    assert "the results differ" in said.err
    assert run([*arguments, "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["holds"] is False
