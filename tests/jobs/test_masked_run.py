"""Runs with a mask: skipping is masking, whatever the chunks; what is skipped is told, kept and never computed."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from faults import Crash, Faults, failing_places
from inline import drive, look, stored
from masks import disc, save_slide, slide
from runs import make_model
from s3 import S3Server

import pipeline
from pipeline.cli.segment import plan_command, status_command
from pipeline.config import SegmentJob
from pipeline.errors import InputError, PlanError, RunMismatchError, VolumeError
from pipeline.jobs import masking
from pipeline.jobs.planning import plan
from pipeline.run.status import status
from pipeline.run.verify import verify
from pipeline.volume import open_volume

SHAPE = (120, 160)
TISSUE = disc(SHAPE, (60, 40), 25)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("masked")
    save_slide(root / "in.zarr", slide(SHAPE, TISSUE))
    torch.manual_seed(8)  # gives both classes, inside and outside of the mask
    make_model(root / "model.safetensors", channels=3)
    np.save(root / "mask.npy", disc(SHAPE, (50, 60), 30))
    return root


def job(place, output, **settings):
    return SegmentJob.model_validate(
        {
            "input": str(place / "in.zarr"),
            "output": str(output),
            "model": str(place / "model.safetensors"),
            "chunk": (32, 32),
            "workers": 1,
            "pyramid": False,
            **settings,
        }
    )


def voxels(output):
    volume = open_volume(output)
    return volume.read(volume.box)


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_skipping_is_masking_whatever_the_chunks(place, tmp_path, kind):
    drive(job(place, tmp_path / "plain.zarr", kind=kind))
    plain = voxels(tmp_path / "plain.zarr")
    expected = np.where(np.load(place / "mask.npy"), plain, 0)
    assert (plain != expected).any()
    for number, chunk in enumerate([(32, 32), (64, 16), (120, 160)]):
        output = tmp_path / f"{number}.zarr"
        drive(job(place, output, kind=kind, chunk=chunk, mask=str(place / "mask.npy")))
        assert voxels(output).tobytes() == expected.tobytes()
        found = status(output)
        assert found["state"] == "sealed"
        assert found["done"] + found["skipped"] == found["total"]
        assert len(stored(output)) == found["done"]
        assert verify(output).ok
    assert found["skipped"] == 0


def test_a_region_is_the_part_of_the_whole(place, tmp_path):
    drive(job(place, tmp_path / "whole.zarr", mask="auto"))
    drive(job(place, tmp_path / "part.zarr", mask="auto", region="20:101,30:140", chunk=(16, 32)))
    whole = voxels(tmp_path / "whole.zarr")
    assert np.array_equal(voxels(tmp_path / "part.zarr"), whole[:, 20:101, 30:140])


def test_what_is_skipped_is_told(place, tmp_path):
    output = tmp_path / "out.zarr"
    asked = job(place, output, mask="auto")
    planned = plan(asked).describe()
    drive(asked)
    found = status(output)
    assert found["skipped_reasons"] == {"mask: no tissue": found["skipped"]}
    assert found["skipped_share"] == planned["mask"]["share"] == round(found["skipped"] / 20, 4) > 0.3
    assert planned["mask"]["skipped"] == found["mask"]["skipped"] == found["skipped"]
    assert found["mask"]["foreground"] == pytest.approx(TISSUE.mean(), rel=0.6)
    whole = plan(job(place, tmp_path / "other.zarr")).describe()
    left = 1 - planned["mask"]["skipped"] / 20
    assert planned["bytes_written"] == pytest.approx(left * whole["bytes_written"], rel=0.01)
    assert planned["operations"] == pytest.approx(left * whole["operations"], rel=0.01)
    assert (whole["mask"], "mask" in plan(job(place, tmp_path / "other.zarr")).identity) == (None, False)


def test_what_would_cost_much_is_known_later(place, tmp_path, monkeypatch):
    monkeypatch.setattr(masking, "CHEAP", 100)
    told = plan(job(place, tmp_path / "out.zarr", mask="auto")).describe()["mask"]
    assert (told["skipped"], told["share"], told["known"]) == (None, None, "known when the mask is made")
    drive(job(place, tmp_path / "out.zarr", mask="auto"))
    again = plan(job(place, tmp_path / "out.zarr", mask="auto")).describe()["mask"]
    assert again["skipped"] == status(tmp_path / "out.zarr")["skipped"]


def test_an_object_of_a_skipped_chunk_is_foreign(place, tmp_path):
    output = tmp_path / "out.zarr"
    drive(job(place, output, mask="auto"))
    assert not (output / "0/c/3/4").exists()
    (output / "0/c/3").mkdir(exist_ok=True)
    (output / "0/c/3/4").write_bytes(b"x")
    found = verify(output)
    assert not found.ok
    assert found.foreign == ("c/3/4",)


def test_skipped_chunks_are_not_computed_again(place, tmp_path):
    output = tmp_path / "out.zarr"
    drive(job(place, output, mask="auto"))
    with pytest.raises(InputError, match=r"--chunks 3/4: this chunk is skipped \(mask: no tissue\)"):
        pipeline.rerun(output, chunks=["3/4"])
    assert status(output)["state"] == "sealed"
    assert pipeline.rerun(output)["state"] == "sealed"


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"mask": "auto", "kind": "logits"}, PlanError, "--mask with --kind logits: no value"),
        ({"mask": "nowhere.npy"}, VolumeError, "there is no such file or folder"),
        ({"mask": "OUT"}, InputError, "is the mask, holds it or lies in it"),
    ],
)
def test_refusals(place, tmp_path, settings, error, message):
    mask = settings["mask"].replace("OUT", str(tmp_path / "out.zarr"))
    with pytest.raises(error, match=message):
        plan(job(place, tmp_path / "out.zarr", **settings | {"mask": mask}))
    assert list(tmp_path.iterdir()) == []


def test_another_mask_is_another_run(place, tmp_path):
    np.save(tmp_path / "mask.npy", np.load(place / "mask.npy"))
    asked = job(place, tmp_path / "out.zarr", mask=str(tmp_path / "mask.npy"))
    drive(asked)
    for other in ("auto", "none"):
        with pytest.raises(RunMismatchError, match=r"belongs to another run.*mask"):
            plan(asked.model_copy(update={"mask": other}))
    np.save(tmp_path / "mask.npy", np.ones(SHAPE, bool))
    with pytest.raises(RunMismatchError, match=r"mask\.stored"):
        plan(asked)


def unfinished(asked):
    """Begin a run that stops before its first chunk."""

    def stop(chunk):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        drive(asked, before=stop)


def test_a_damaged_mask_is_made_again_and_a_lost_one_too(place, tmp_path):
    asked = job(place, tmp_path / "out.zarr", mask="auto")
    unfinished(asked)
    mask = tmp_path / "out.zarr.run/mask.zarr"
    before = {p: p.read_bytes() for p in mask.rglob("*") if p.is_file()}
    (mask / "c/0/0").write_bytes(b"damaged")
    unfinished(asked)
    assert {p: p.read_bytes() for p in mask.rglob("*") if p.is_file()} == before
    for path in before:
        path.unlink()
    drive(asked)
    assert {p: p.read_bytes() for p in mask.rglob("*") if p.is_file()} == before


def test_an_image_that_has_changed_is_refused_where_its_mask_has(place, tmp_path):
    save_slide(tmp_path / "in.zarr", slide(SHAPE, TISSUE))
    make_model(tmp_path / "model.safetensors", channels=3)
    asked = job(tmp_path, tmp_path / "out.zarr", mask="auto")
    unfinished(asked)
    same = (tmp_path / "in.zarr/0/c/0/1/2").read_bytes()
    (tmp_path / "in.zarr/0/c/0/1/2").write_bytes(same)  # another time, the same bytes
    unfinished(asked)
    save_slide(tmp_path / "new.zarr", slide(SHAPE, disc(SHAPE, (60, 110), 25)))
    for path in (tmp_path / "new.zarr/0/c").rglob("*"):
        if path.is_file():
            (tmp_path / "in.zarr" / path.relative_to(tmp_path / "new.zarr")).write_bytes(path.read_bytes())
    with pytest.raises(RunMismatchError, match="the image has changed since the mask was made"):
        drive(asked)


def test_killed_anywhere_while_the_mask_is_stored(place, tmp_path, monkeypatch):
    store, faults = masking.store_mask, Faults()

    def failing(*args, **settings):
        with failing_places(faults):
            return store(*args, **settings)

    monkeypatch.setattr(masking, "store_mask", failing)
    drive(job(place, tmp_path / "undisturbed.zarr", mask="auto", chunk=(120, 80)))
    expected, count = look(tmp_path / "undisturbed.zarr"), len(faults.names)
    assert count >= 4
    for nth in range(1, count + 1):
        asked, faults = job(place, tmp_path / f"{nth}.zarr", mask="auto", chunk=(120, 80)), Faults(nth, "crash")
        with pytest.raises(Crash):
            drive(asked)
        assert status(asked.output)["skipped"] == 0, "nothing is skipped before the mask is whole"
        faults = Faults()
        drive(asked)
        assert look(asked.output) == expected


def test_masked_on_an_object_store(place, tmp_path):
    pytest.importorskip("moto")
    drive(job(place, tmp_path / "local.zarr", mask="auto", pyramid=True))
    with S3Server():
        url = "s3://overtile-test/results/out.zarr"
        drive(job(place, url, mask="auto", pyramid=True))
        assert look(url) == look(tmp_path / "local.zarr")
        assert np.array_equal(voxels(url), voxels(tmp_path / "local.zarr"))
        assert status(url)["mask"]["digest"] == status(tmp_path / "local.zarr")["mask"]["digest"]


def test_the_published_image_names_what_it_leaves_out(place, tmp_path):
    output = tmp_path / "out.zarr"
    drive(job(place, output, mask="auto", pyramid=True))
    mark = json.loads((output / "zarr.json").read_text())["attributes"]["overtile"]
    assert mark["absent"]["count"] == status(output)["skipped"]


def test_the_command_line_tells_what_a_mask_leaves_out(place, tmp_path):
    output = str(tmp_path / "out.zarr")
    command = [str(place / "in.zarr"), output, "--model", str(place / "model.safetensors"), "--chunk", "32,32"]
    told = CliRunner().invoke(plan_command, [*command, "--mask", "auto", "--workers", "1"], catch_exceptions=False)
    drive(job(place, output, mask="auto"))
    found = status(output)
    share = f"{found['skipped']} chunks ({found['skipped'] / 20:.1%}) (mask: no tissue)"
    assert f"auto, [120, 160]; skipped: {share}" in told.output
    shown = CliRunner().invoke(status_command, [output], catch_exceptions=False).output
    assert f"{found['skipped']} of 20 chunks ({found['skipped'] / 20:.1%}): mask: no tissue" in shown
