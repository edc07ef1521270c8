"""Seams of whole runs: planted on the product's own path and found; exact runs are silent; the seal and the map."""

import json

import numpy as np
import pytest
import torch
import zarr
from networks import MEAN, STD, make_checkpoint
from scipy.ndimage import gaussian_filter

import pipeline
from benchmarks.seam_plants import EXACT, Plant, carry_out, mirrored_beyond
from pipeline.config import SeamsJob, SegmentJob
from pipeline.errors import InputError
from pipeline.jobs.seams import recorded_subject
from pipeline.model.checkpoint import read_header
from pipeline.model.weights import load_model, save_checkpoint
from pipeline.run.folder import RunFolder
from pipeline.volume import ArraySpec, Space, create_level, publish

SIDE = 512

NETWORK = {"in_channels": 1, "classes": 1, "depth": 3, "width": 4, "padding": "same"}


def texture(wide, seed):
    found = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), wide, mode="wrap")
    return found / found.std()


def smooth_checkpoint(root, voxels, name="model", **settings):
    """A network that averages, so that its output is as smooth as that of a trained one: all weights are positive."""
    random = make_checkpoint(root / "random.safetensors", **NETWORK, **settings)
    model = load_model(random)
    with torch.no_grad():
        for key, weight in model.named_parameters():
            if weight.ndim == 1:
                weight.zero_()
            else:
                terms = weight.shape[0] if "up" in key else weight[0].numel()
                weight.copy_(weight.abs() / weight.abs().mean() / terms)
        shown = torch.from_numpy((voxels.astype(np.float32) - MEAN) / STD)[None, None]
        list(model.parameters())[-1].sub_(model(shown).median())  # so that there are both classes
    save_checkpoint(root / f"{name}.safetensors", model, read_header(random))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A texture over slowly changing light, and a network."""
    root = tmp_path_factory.mktemp("seams")
    space = Space.unscaled("yx")
    spec = ArraySpec((SIDE, SIDE), None, np.dtype("u1"), (SIDE, SIDE), (SIDE, SIDE), space)
    voxels = np.clip(120 + 35 * texture(2.5, 0) + 35 * texture(40, 1), 0, 255).astype(np.uint8)
    create_level(root / "image.zarr", "0", spec)[...] = voxels
    publish(root / "image.zarr", name="image", axes="yx", levels=[("0", space)], classes=None)
    smooth_checkpoint(root, voxels)
    smooth_checkpoint(root, voxels, "blocks", skip="none", upsampling="bilinear")
    return root


@pytest.fixture
def job(place, tmp_path):
    def build(**settings):
        usual = {
            "chunk": (128, 128),
            "tile": (64, 64),
            "kind": "logits",
            "pyramid": False,
            "workers": 1,
            "threads": 1,
        }
        return SegmentJob.model_validate(
            {"input": str(place / "image.zarr"), "output": str(tmp_path / "out.zarr"),
             "model": str(place / "model.safetensors"), **usual, **settings}
        )  # fmt: skip

    return build


@pytest.mark.parametrize("kind", ["labels", "probabilities", "logits"])
def test_an_exact_run_is_silent(job, kind):
    found = carry_out(job(kind=kind))
    assert found["state"] == "sealed"
    assert found["seams"]["flagged"] is False
    assert found["seams"]["limit"] == 0.52
    assert {(each["borders"], each["axis"]) for each in found["seams"]["contrasts"]} == {
        (borders, axis) for borders in ("chunk", "tile") for axis in "yx"
    }


@pytest.mark.parametrize("plant", [Plant("no halo", short=99), Plant("by chunk", own=True)], ids=str)
def test_a_planted_seam_is_found(job, plant):
    found = carry_out(job(), plant)["seams"]
    assert found["flagged"] is True
    borders = {each["borders"] for each in found["flagged_by"]}
    assert borders == ({"chunk"} if plant.own else {"chunk", "tile"})


def test_tiles_off_the_stride_are_found_where_the_network_has_a_phase(job, place):
    """One without skips: all that it says is made of pooled voxels."""
    asked = job(model=str(place / "blocks.safetensors"))
    exact = carry_out(asked.model_copy(update={"output": asked.output.replace("out", "exact")}))
    found = carry_out(asked, Plant("off the stride", phase=2))
    assert (exact["seams"]["flagged"], found["seams"]["flagged"]) == (False, True)


def test_the_limit_is_the_users(job):
    found = carry_out(job(seam_limit=1), Plant("no halo", short=99))["seams"]
    assert (found["flagged"], found["limit"]) == (False, 1)
    assert found["contrasts"][0]["p"] < 1e-6


def test_the_seal_and_the_map_say_the_same_of_a_run_as_measuring_it_again(job):
    asked = job()
    found = carry_out(asked, Plant("no halo", short=99))
    again = pipeline.seams(SeamsJob(volume=asked.output))
    assert again == found["seams"] == found["seal"]["seams"]
    stored = np.load(f"{asked.output}.run/seams.npz", allow_pickle=False)
    assert stored["strips"].shape == stored["signs"].shape == (2, 4, 4)
    assert (stored["signs"] > 0).all()
    assert str(stored["root"]) == found["seal"]["root"]


def test_chunks_that_are_computed_again_are_measured_again(job):
    asked = job()
    assert carry_out(asked, Plant("by chunk", own=True))["seams"]["flagged"] is True
    mended = pipeline.rerun(asked.output, chunks=[f"{y}/{x}" for y in range(4) for x in range(4)])
    assert mended["seams"]["flagged"] is False


def test_the_edges_of_a_mask_are_no_seams(job, tmp_path):
    mask = np.arange(SIDE) % 128 >= 64
    np.save(tmp_path / "mask.npy", np.broadcast_to(mask[:, None], (SIDE, SIDE)).astype(np.uint8))
    asked = job(kind="probabilities", mask=str(tmp_path / "mask.npy"))
    found = carry_out(asked)["seams"]
    assert found["flagged"] is False
    assert {each["axis"] for each in found["contrasts"]} == {"x"}
    assert {each["axis"] for each in found["unmeasured"]} == {"y"}
    blind = SeamsJob(volume=asked.output, chunk=(128, 128), kind="probabilities", stride=(4, 4))
    assert pipeline.seams(blind)["flagged"] is True


def test_a_volume_of_other_software_is_measured_as_the_user_says(job, tmp_path):
    asked = job()
    carry_out(asked, Plant("by chunk", own=True))
    plain = tmp_path / "plain.zarr"
    zarr.save_array(plain, zarr.open_array(f"{asked.output}/0", mode="r")[...][0])
    found = pipeline.seams(SeamsJob(volume=str(plain), axes="yx", chunk=(128, 128), kind="logits", stride=(4, 4)))
    assert found["flagged"] is True
    off = pipeline.seams(SeamsJob(volume=str(plain), axes="yx", chunk=(96, 96), kind="logits", stride=(4, 4)))
    assert off["contrasts"][0]["share"] < found["contrasts"][0]["share"]
    assert json.dumps(found)


def test_what_is_recorded_says_where_tiles_meet(job):
    asked = job(region=((8, 500), (4, 512)), mode="blend", tile=(64, 64), overlap=(16, 16))
    carry_out(asked)
    layout, subject = pipeline.plan(asked).layout, recorded_subject(RunFolder(asked.output))
    assert subject.origin == (8, 4)
    for core in subject.grid.cores():
        moved = core.shift(subject.origin)
        assert subject.layout.borders(moved) == layout.borders(moved)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "there is no run beside it that says where chunks and tiles meet; give --chunk"),
        ({"tile": (8, 8)}, "--tile goes with --chunk"),
        ({"chunk": (8, 8, 8)}, "--chunk: 3 numbers for a volume with the axes y,x"),
        ({"chunk": (64, 64), "kind": "labels"}, "--kind labels: .* has 1 channel.* of float32"),
        ({"chunk": (64, 64)}, "chunk 0:64,0:64 has NaN or infinity"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, settings, message):
    voxels = np.zeros((128, 128), np.float32)
    voxels[3, 4] = np.nan
    zarr.save_array(tmp_path / "plain.zarr", voxels)
    with pytest.raises(InputError, match=message):
        pipeline.seams(SeamsJob(volume=str(tmp_path / "plain.zarr"), axes="yx", **settings))


def test_planted_halos_are_mirrored_ones():
    assert mirrored_beyond(10, 3, 7).tolist() == [6, 5, 4, 3, 4, 5, 6, 5, 4, 3]
    assert mirrored_beyond(4, 0, 4).tolist() == [0, 1, 2, 3]
    assert Plant("nothing") == EXACT
